/** A real dockerd beside us, on its own socket and roots, for comparison. Debian's docker.io; it touches no network of the host. */
import { spawn } from 'node:child_process';
import { mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { request } from './http.ts';
import { until } from './until.ts';

const START_DEADLINE_MS = 60_000;

export interface Dockerd extends AsyncDisposable {
  socket: string;
}

/** @throws when there is no dockerd on this machine, or it does not come up */
export async function startDockerd(): Promise<Dockerd> {
  const root = mkdtempSync(join(tmpdir(), 'hf-dockerd-'));
  const socket = join(root, 'd.sock');
  const log = openSync(join(root, 'log'), 'a');
  const child = spawn('dockerd', [
    '--host', `unix://${socket}`, '--data-root', join(root, 'data'), '--exec-root', join(root, 'run'), '--pidfile', join(root, 'pid'),
    '--bridge', 'none', '--iptables=false', '--ip-forward=false', '--storage-driver', 'overlay2',
  ], { stdio: ['ignore', log, log] });
  let failure: Error | undefined;
  child.on('error', (error) => (failure = error));
  await until(async () => {
    if (failure) throw failure;
    if (child.exitCode !== null) throw new Error('dockerd ended at its start');
    return (await request(socket, 'GET', '/_ping').catch(() => undefined))?.status === 200;
  }, START_DEADLINE_MS);
  return {
    socket,
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      await until(() => child.exitCode !== null || child.signalCode !== null, START_DEADLINE_MS);
      rmSync(root, { recursive: true, force: true });
    },
  };
}
