/** Debian's docker-registry on loopback, for a test: its own directory, its own port. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from '../e2e/until.ts';

/** Installed, or unpacked by scripts/test. */
const PROGRAMS = [process.env.HOLDFAST_REGISTRY ?? '', '/usr/bin/docker-registry', `${process.env.HOLDFAST_CACHE ?? '/var/cache/holdfast'}/docker-registry/usr/bin/docker-registry`];

/** bcrypt of PASSWORD. */
export const USER = 'alice';
export const PASSWORD = 's3cret';
const HTPASSWD = `${USER}:$2b$04$.EOk8GzPO.5LP/G6MPOo4u5UXcGu/slOehOTqBy7UPwkhK4av2RVK\n`;

export interface TestRegistry extends AsyncDisposable {
  /** `127.0.0.1:PORT`. */
  host: string;
  /** Lines of its log: each request is one. */
  log(): string;
}

interface Options {
  auth?: 'htpasswd' | { realm: string; service: string; issuer: string; certificate: string };
  tls?: { certificate: string; key: string };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export async function startRegistry({ auth, tls }: Options = {}): Promise<TestRegistry> {
  const program = PROGRAMS.find((path) => path !== '' && existsSync(path));
  if (!program) throw new Error('there is no docker-registry here: scripts/test fetches it');
  const root = mkdtempSync(join(tmpdir(), 'holdfast-registry-'));
  const port = await freePort();
  writeFileSync(join(root, 'htpasswd'), HTPASSWD);
  const auths = auth === undefined ? {} : auth === 'htpasswd' ? { htpasswd: { realm: 'test', path: join(root, 'htpasswd') } } : { token: { realm: auth.realm, service: auth.service, issuer: auth.issuer, rootcertbundle: auth.certificate } };
  // JSON is YAML too.
  writeFileSync(join(root, 'config.yml'), JSON.stringify({
    version: 0.1, log: { level: 'info', accesslog: { disabled: false } }, storage: { filesystem: { rootdirectory: join(root, 'data') }, delete: { enabled: true } },
    http: { addr: `127.0.0.1:${port}`, ...(tls && { tls: { certificate: tls.certificate, key: tls.key } }) }, ...(auth !== undefined && { auth: auths }),
  }));
  let log = '';
  const child: ChildProcess = spawn(program, ['serve', join(root, 'config.yml')], { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: process.env.PATH, OTEL_TRACES_EXPORTER: 'none' } });
  for (const stream of [child.stdout!, child.stderr!]) stream.on('data', (bytes: Buffer) => (log += bytes.toString()));
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL');
    await until(() => child.exitCode !== null || child.signalCode !== null);
    rmSync(root, { recursive: true, force: true });
  };
  try {
    await until(() => {
      if (child.exitCode !== null) throw new Error(`docker-registry ended: ${log}`);
      return /listening on/.test(log) || readFileSync('/proc/net/tcp', 'utf8').includes(`0100007F:${port.toString(16).toUpperCase().padStart(4, '0')} 00000000:0000 0A`);
    });
  } catch (error) {
    await stop();
    throw error;
  }
  return { host: `127.0.0.1:${port}`, log: () => log, [Symbol.asyncDispose]: stop };
}
