/** holdfastd: configuration → locks → store → engine → API → ready. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { getPriority, setPriority } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { createServer } from './api/server.ts';
import { check } from './check/check.ts';
import { loadConfig } from './config/load.ts';
import { openEngine } from './engine/engine.ts';
import { Paths } from './engine/paths.ts';
import { openListeners } from './listening.ts';
import { tryLock } from './sys/file.ts';
import { raisePriority } from './sys/process.ts';
import { VERSION } from './version.ts';

/** While it starts, clients wait for it; its children begin without this. */
const STARTING_NICE = -5;
/** A start is over by then, even where a shim does not answer. */
const STARTED_MS = 2000;

const here = dirname(fileURLToPath(import.meta.url));

async function main(): Promise<void> {
  const invocation = loadConfig(process.argv.slice(2), process.env);
  if ('text' in invocation) return void print(invocation.text);
  const { command, config } = invocation;
  if (command === 'check') return void (process.exitCode = await check(config, print));
  if (command === 'validate') return void print('configuration OK');

  const nice = getPriority();
  raisePriority(nice + STARTING_NICE);
  const log = pino(
    { level: config.logLevel, base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest: 2, sync: true }),
  );
  for (const warning of config.warnings) log.warn(warning);
  const paths = new Paths(config.dataRoot, config.execRoot);
  for (const root of [config.dataRoot, config.execRoot]) mkdirSync(root, { recursive: true, mode: 0o710 });
  const locks = [paths.dataLock(), paths.execLock()].map(
    (path) => tryLock(path) ?? refuse(`another holdfastd is running on ${dirname(path)}`),
  );

  const programs = {
    shim: join(here, 'shim'),
    unpacker: join(here, 'unpacker.cjs'),
    packer: join(here, 'packer.cjs'),
    archiver: join(here, 'archiver.cjs'),
    portProxy: join(here, 'port-proxy.cjs'),
  };
  const engine = await openEngine(config, paths, programs, log);
  const server = await createServer(engine, log, { checkAnswers: process.env.HOLDFAST_CHECK_ANSWERS !== undefined });
  const listening = openListeners(config.hosts, config.execRoot, config.group);
  // Begun first: nobody may be told that a container, only just to be read from the store, does not exist.
  const restored = engine.restore();
  restored.catch(() => undefined); // told below
  setTimeout(() => setPriority(nice), STARTED_MS).unref();
  await server.listen(listening.fds);
  if (config.pidfile) writeFileSync(config.pidfile, `${process.pid}\n`);
  log.info({ version: VERSION, hosts: config.hosts, pid: process.pid }, 'serving');
  restored.then(
    () => log.info('all containers are restored'),
    (err: unknown) => log.error({ err }, 'restoring failed'),
  );

  let ending = false;
  const end = async (signal: string): Promise<void> => {
    if (ending) return;
    ending = true;
    log.info({ signal }, 'the daemon ends; containers go on');
    await server.close();
    listening.release();
    await engine.close();
    if (config.pidfile) rmSync(config.pidfile, { force: true });
    for (const lock of locks) lock.release();
    process.exit(0);
  };
  process.on('SIGTERM', () => void end('SIGTERM'));
  process.on('SIGINT', () => void end('SIGINT'));
  process.on('SIGHUP', () => undefined);
}

const print = (text: string): void => void process.stdout.write(`${text}\n`);

function refuse(why: string): never {
  throw new Error(why);
}

main().catch((error: unknown) => {
  process.stderr.write(`holdfastd: ${error instanceof Error ? error.message : String(error)}\n`);
  if (process.env.HOLDFAST_TRACE) process.stderr.write(`${error instanceof Error ? error.stack : ''}\n`);
  process.exit(1);
});
