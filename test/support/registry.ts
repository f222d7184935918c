/** Debian's docker-registry for one test, with its own directory and port. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './until.ts';
import { digestOf } from './tar.ts';

/** Where it may be: installed, or unpacked by scripts/test. */
const PROGRAMS = [
  process.env.HOLDFAST_REGISTRY ?? '',
  '/usr/bin/docker-registry',
  `${process.env.HOLDFAST_CACHE ?? '/var/cache/holdfast'}/docker-registry/usr/bin/docker-registry`,
];

/** bcrypt of PASSWORD. */
export const USER = 'alice';
export const PASSWORD = 's3cret';
const HTPASSWD = `${USER}:$2b$04$.EOk8GzPO.5LP/G6MPOo4u5UXcGu/slOehOTqBy7UPwkhK4av2RVK\n`;

export interface TestRegistry extends AsyncDisposable {
  /** `ADDRESS:PORT`. */
  host: string;
  /** Its log, with a line for each request. */
  log(): string;
}

interface Options {
  /** The address to listen on; default 127.0.0.1. */
  address?: string;
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

export async function startRegistry({ address = '127.0.0.1', auth, tls }: Options = {}): Promise<TestRegistry> {
  const program = PROGRAMS.find((path) => path !== '' && existsSync(path));
  if (!program) throw new Error('docker-registry is missing: scripts/test fetches it');
  const root = mkdtempSync(join(tmpdir(), 'holdfast-registry-'));
  const port = await freePort();
  writeFileSync(join(root, 'htpasswd'), HTPASSWD);
  const auths =
    auth === undefined
      ? {}
      : auth === 'htpasswd'
        ? { htpasswd: { realm: 'test', path: join(root, 'htpasswd') } }
        : {
            token: { realm: auth.realm, service: auth.service, issuer: auth.issuer, rootcertbundle: auth.certificate },
          };
  // The registry reads YAML, of which JSON is a subset.
  writeFileSync(
    join(root, 'config.yml'),
    JSON.stringify({
      version: 0.1,
      log: { level: 'info', accesslog: { disabled: false } },
      storage: { filesystem: { rootdirectory: join(root, 'data') }, delete: { enabled: true } },
      http: { addr: `${address}:${port}`, ...(tls && { tls: { certificate: tls.certificate, key: tls.key } }) },
      ...(auth !== undefined && { auth: auths }),
    }),
  );
  let log = '';
  const child: ChildProcess = spawn(program, ['serve', join(root, 'config.yml')], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env.PATH, OTEL_TRACES_EXPORTER: 'none' },
  });
  for (const stream of [child.stdout!, child.stderr!]) stream.on('data', (bytes: Buffer) => (log += bytes.toString()));
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL');
    await until(() => child.exitCode !== null || child.signalCode !== null);
    rmSync(root, { recursive: true, force: true });
  };
  try {
    await until(() => {
      if (child.exitCode !== null) throw new Error(`docker-registry ended: ${log}`);
      const reversed = address
        .split('.')
        .reverse()
        .map((byte) => Number(byte).toString(16).padStart(2, '0'))
        .join('');
      return (
        log.includes('listening on') ||
        readFileSync('/proc/net/tcp', 'utf8').includes(
          `${reversed}:${port.toString(16).padStart(4, '0')}`.toUpperCase() + ' 00000000:0000 0A',
        )
      );
    });
  } catch (error) {
    await stop();
    throw error;
  }
  return { host: `${address}:${port}`, log: () => log, [Symbol.asyncDispose]: stop };
}

interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
}

/** Uploads a blob to a registry without authentication. */
export async function putBlob(host: string, path: string, bytes: Buffer, mediaType: string): Promise<Descriptor> {
  const digest = digestOf(bytes);
  const started = await fetch(`http://${host}/v2/${path}/blobs/uploads/`, { method: 'POST' });
  const at = new URL(started.headers.get('location')!, `http://${host}/`);
  at.searchParams.set('digest', digest);
  const { status } = await fetch(at, {
    method: 'PUT',
    body: bytes,
    headers: { 'content-type': 'application/octet-stream' },
  });
  if (status !== 201) throw new Error(`a blob was answered with ${status}`);
  return { mediaType, digest, size: bytes.length };
}

/** Uploads a manifest or a manifest list. */
export async function putManifest(
  host: string,
  path: string,
  tag: string,
  document: { mediaType: string },
): Promise<Descriptor> {
  const bytes = Buffer.from(JSON.stringify(document));
  const answer = await fetch(`http://${host}/v2/${path}/manifests/${tag}`, {
    method: 'PUT',
    body: bytes,
    headers: { 'content-type': document.mediaType },
  });
  if (answer.status !== 201) throw new Error(`a manifest was answered with ${answer.status}: ${await answer.text()}`);
  return { mediaType: document.mediaType, digest: digestOf(bytes), size: bytes.length };
}
