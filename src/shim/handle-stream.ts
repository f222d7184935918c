/** Streams over descriptors that net.Socket does not accept: a terminal's master, an eventfd. */
import { closeSync } from 'node:fs';
import { Socket, type OnReadOpts } from 'node:net';
import type { Fd } from '../sys/libc.ts';
import { socketPair } from '../sys/socket.ts';

interface Handle {
  open(fd: Fd): number;
}
type HandleClass = new (type: number) => Handle;

let pipeHandle: HandleClass | undefined;

/** Node's internal Pipe class. It has no public name, so it is taken from a socket over a unix socket pair. */
function pipeHandleClass(): HandleClass {
  if (pipeHandle) return pipeHandle;
  const [one, other] = socketPair();
  const socket = new Socket({ fd: one });
  closeSync(other);
  pipeHandle = (socket as unknown as { _handle: { constructor: HandleClass } })._handle.constructor;
  socket.destroy();
  return pipeHandle;
}

/** A paused stream that owns `fd`, which must be non-blocking. @throws Error */
export function handleStream(fd: Fd, onread: OnReadOpts): Socket {
  const Pipe = pipeHandleClass();
  const handle = new Pipe(0);
  const failed = handle.open(fd);
  if (failed) throw new Error(`could not open descriptor ${fd} as a stream: ${failed}`);
  const options = { handle, readable: true, writable: true, allowHalfOpen: true, manualStart: true, onread };
  return new Socket(options);
}
