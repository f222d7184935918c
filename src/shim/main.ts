/**
 * The shim's entry point. The daemon starts it ahead of need and without a container: descriptor 3 is a socket to the
 * daemon, on which one line, the order, assigns it a container. EOF before the order ends the shim; after it, EOF means
 * nothing.
 */
import { Socket } from 'node:net';
import { basename, dirname } from 'node:path';
import { LineSplitter } from '../protocol/lines.ts';
import type { Adopt } from '../protocol/messages.ts';
import { useFaultFile } from '../sys/fault.ts';
import { becomeSubreaper, raisePriority } from '../sys/process.ts';
import { Shim } from './shim.ts';

const DAEMON_FD = 3;
/** Log lines get their time when they are read, so on a busy host the reader must not wait behind the containers. */
const NICE = -5;

let shim: Shim | undefined;
let hostGoesDown = false;

const logError =
  (what: string) =>
  (error: unknown): void => {
    if (shim) shim.logError(what, error);
    else console.error(what, error);
  };

becomeSubreaper();
process.title = 'holdfast-shim';
// An unexpected error must not stop the shim from reading the container's output and recording its exit.
process.on('uncaughtException', logError('uncaught'));
process.on('unhandledRejection', logError('unhandled'));
process.on('SIGHUP', () => {});
process.on('SIGPIPE', () => {});
process.on('SIGINT', () => {});
process.on('SIGTERM', () => {
  if (hostGoesDown) return;
  hostGoesDown = true;
  if (shim) void shim.shutdown();
  else process.exit(0);
});

const daemon = new Socket({ fd: DAEMON_FD, readable: true, writable: true });
const splitter = new LineSplitter();
let order: Adopt | undefined;

daemon.on('data', (chunk: Buffer) => {
  const [line] = splitter.push(chunk);
  if (line === undefined || order) return;
  order = JSON.parse(line) as Adopt;
  void adopt(order);
});
daemon.on('error', () => daemon.destroy());
daemon.on('close', () => {
  if (!order) process.exit(0);
});

async function adopt(given: Adopt): Promise<void> {
  // Not earlier: the start of a spare shim is not urgent.
  raisePriority(NICE);
  useFaultFile(basename(given.run));
  try {
    shim = await Shim.adopt(given, process.env.HOLDFAST_SHIM_BUNDLE ?? basename(dirname(process.argv[1] ?? '')));
  } catch (error) {
    logError('adoption')(error);
    daemon.end(`${JSON.stringify({ error: error instanceof Error ? error.message : String(error) })}\n`, () =>
      process.exit(1),
    );
    return;
  }
  if (!daemon.destroyed) daemon.end('{"ready":true}\n');
  if (hostGoesDown) void shim.shutdown();
}
