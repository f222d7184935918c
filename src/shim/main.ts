/**
 * The shim's entry. It is started warm and anonymous: descriptor 3 is a socket to the daemon, on which one line gives
 * it a
 * container. The daemon's end before that means that it is not wanted; after it, nothing.
 */
import { Socket } from 'node:net';
import { basename, dirname } from 'node:path';
import type { Adopt } from '../protocol/messages.ts';
import { becomeSubreaper, raisePriority } from '../sys/process.ts';
import { Shim } from './shim.ts';

const DAEMON_FD = 3;
/** A line of output is stamped when it is read: on a busy host its reader must not wait behind those who compute. */
const NICE = -5;

let shim: Shim | undefined;
let hostGoesDown = false;

const complain =
  (what: string) =>
  (error: unknown): void => {
    if (shim) shim.complain(what, error);
    else console.error(what, error);
  };

becomeSubreaper();
process.title = 'holdfast-shim';
// Whatever goes wrong in one corner, the container's output must still be read and its end noticed.
process.on('uncaughtException', complain('uncaught'));
process.on('unhandledRejection', complain('unhandled'));
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
let received = '';
let order: Adopt | undefined;

daemon.on('data', (chunk: Buffer) => {
  received += chunk.toString();
  const end = received.indexOf('\n');
  if (end >= 0 && !order) void adopt((order = JSON.parse(received.slice(0, end)) as Adopt));
});
daemon.on('error', () => daemon.destroy());
daemon.on('close', () => {
  if (!order) process.exit(0);
});

async function adopt(given: Adopt): Promise<void> {
  // Only now: that it is kept ready is nothing urgent.
  raisePriority(NICE);
  try {
    shim = await Shim.adopt(given, process.env.HOLDFAST_SHIM_BUNDLE ?? basename(dirname(process.argv[1] ?? '')));
  } catch (error) {
    complain('adoption')(error);
    daemon.end(`${JSON.stringify({ error: error instanceof Error ? error.message : String(error) })}\n`, () =>
      process.exit(1),
    );
    return;
  }
  if (!daemon.destroyed) daemon.end('{"ready":true}\n');
  if (hostGoesDown) void shim.shutdown();
}
