/** holdfastd: configuration → store → engine → API → ready. */
import { chmodSync, ftruncateSync, mkdirSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { getPriority, setPriority } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pino, type Logger } from 'pino';
import { createServer } from './api/server.ts';
import { check } from './check/check.ts';
import type { Config } from './config/config.ts';
import { loadConfig } from './config/load.ts';
import { writeDump } from './engine/dump.ts';
import { openEngine, type Engine } from './engine/engine.ts';
import { Paths } from './engine/paths.ts';
import { openListeners } from './listening.ts';
import { tryLock, type Lock } from './sys/file.ts';
import { procStat, raisePriority } from './sys/process.ts';
import { VERSION } from './version.ts';

/** Added to the nice value while clients wait for the daemon to start. Child processes do not inherit it. */
const STARTING_NICE = -5;
const ROOT_MODE = 0o710;
/** Start-up counts as finished after this time, even if a shim does not respond. */
const STARTING_MS = 2000;

const dist = dirname(fileURLToPath(import.meta.url));
/** The build puts the other programs beside this one. */
const programs = {
  shim: join(dist, 'shim'),
  unpacker: join(dist, 'unpacker.cjs'),
  packer: join(dist, 'packer.cjs'),
  archiver: join(dist, 'archiver.cjs'),
  portProxy: join(dist, 'port-proxy.cjs'),
  dnsServer: join(dist, 'dns-server.cjs'),
};

async function main(): Promise<void> {
  const invocation = loadConfig(process.argv.slice(2), process.env);
  if ('text' in invocation) return void print(invocation.text);
  const { command, config } = invocation;
  if (command === 'check') process.exitCode = await check(config, print);
  else if (command === 'validate') print('configuration OK');
  else await runDaemon(config);
}

async function runDaemon(config: Config): Promise<void> {
  const nice = getPriority();
  raisePriority(nice + STARTING_NICE);
  const log = createLog(config);
  for (const warning of config.warnings) log.warn(warning);
  const paths = new Paths(config.dataRoot, config.execRoot);
  const locks = lockRoots(config, paths);

  const engine = await openEngine(config, paths, programs, log);
  const checkResponses = process.env.HOLDFAST_CHECK_ANSWERS !== undefined;
  const server = await createServer(engine, log, { checkResponses });
  const listening = openListeners(config.hosts, config.execRoot, config.group);
  // Before the server listens: a container that is still being restored must not seem not to exist.
  const restored = engine.restore();
  restored.catch(() => undefined); // Logged by logRestored.
  setTimeout(() => setPriority(nice), STARTING_MS).unref();
  await server.listen(listening.fds);
  if (config.pidfile) writeFileSync(config.pidfile, `${process.pid}\n`);
  log.info({ version: VERSION, hosts: config.hosts, pid: process.pid }, 'serving');
  logRestored(restored, log);

  process.on('SIGUSR1', () => logDump(engine, log));
  onTermination(async (signal) => {
    log.info({ signal }, 'the daemon is exiting; containers keep running');
    // SIGTERM is what a restart sends too: clients queue at the held sockets. SIGINT is a person who ends it for good.
    const discardSockets = (): void => void (signal === 'SIGINT' && listening.discard());
    for (const close of [() => server.close(), discardSockets, () => engine.close()])
      await Promise.resolve()
        .then(close)
        .catch((err: unknown) => log.error({ err }, 'could not close everything'));
    if (config.pidfile) rmSync(config.pidfile, { force: true });
    for (const lock of locks) lock.release();
    process.exit(0);
  });
}

function createLog(config: Config): Logger {
  return pino(
    { level: config.logLevel, base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest: 2, sync: true }),
  );
}

/** @throws when another daemon uses one of the roots */
function lockRoots({ dataRoot, execRoot }: Config, paths: Paths): Lock[] {
  for (const root of [dataRoot, execRoot]) mkdirSync(root, { recursive: true, mode: ROOT_MODE });
  // One that the administrator made is often 0755: every user could read what is in volumes and images.
  if (statSync(dataRoot).mode & 0o777 & ~ROOT_MODE) chmodSync(dataRoot, ROOT_MODE);
  return [paths.dataLock(), paths.execLock()].map((path) => {
    const lock = tryLock(path);
    if (!lock) throw new Error(`another holdfastd is running on ${dirname(path)}`);
    // For shims, which are not always connected to the daemon.
    ftruncateSync(lock.fd);
    writeSync(lock.fd, `${process.pid} ${procStat(process.pid)?.startTime ?? ''}\n`);
    return lock;
  });
}

function logRestored(restored: Promise<void>, log: Logger): void {
  restored.then(
    () => log.info('all containers are restored'),
    (err: unknown) => log.error({ err }, 'restoring the containers failed'),
  );
}

/** As dockerd's SIGUSR1. Node.js would start its inspector otherwise. */
function logDump(engine: Engine, log: Logger): void {
  try {
    log.info({ path: writeDump(engine) }, 'state dump written');
  } catch (err) {
    log.error({ err }, 'could not write the state dump');
  }
}

/** Runs `exit` on the first SIGTERM or SIGINT. SIGHUP is ignored. */
function onTermination(exit: (signal: string) => Promise<void>): void {
  let exiting = false;
  const once = (signal: string): void => {
    if (exiting) return;
    exiting = true;
    void exit(signal);
  };
  process.on('SIGTERM', once);
  process.on('SIGINT', once);
  process.on('SIGHUP', () => undefined);
}

const print = (text: string): void => void process.stdout.write(`${text}\n`);

main().catch((error: unknown) => {
  process.stderr.write(`holdfastd: ${error instanceof Error ? error.message : String(error)}\n`);
  if (process.env.HOLDFAST_TRACE) process.stderr.write(`${error instanceof Error ? error.stack : ''}\n`);
  process.exit(1);
});
