/** A real dockerd beside us, on its own socket, roots and network namespace, for comparison (bench/peer-dockerd). */
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

/** @param hostNetwork without a network namespace of its own: right beside us
 *  @param flags more of its command line
 *  @throws when it cannot be had or does not come up */
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
