/** A real dockerd for comparison, on its own socket, roots and network namespace (bench/peer-dockerd). */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const script = fileURLToPath(new URL('../../bench/peer-dockerd', import.meta.url));

export interface Dockerd extends AsyncDisposable {
  socket: string;
}

/**
 * @param hostNetwork runs it in the host's network namespace instead of its own
 * @param flags further command-line flags
 * @throws when it cannot be installed or does not start
 */
export async function startDockerd({
  hostNetwork = false,
  flags = [],
}: { hostNetwork?: boolean; flags?: readonly string[] } = {}): Promise<Dockerd> {
  const directory = mkdtempSync(join(tmpdir(), 'hf-dockerd-'));
  const env = { ...process.env, PEER_DIR: directory, PEER_FLAGS: flags.join(' ') };
  const { stdout } = await run(script, ['start', ...(hostNetwork ? ['--host-network'] : [])], { env });
  return {
    socket: stdout.trim().split('\n').at(-1)!,
    async [Symbol.asyncDispose]() {
      await run(script, ['stop'], { env });
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
