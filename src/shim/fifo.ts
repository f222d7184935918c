/**
 * FIFOs between a process and its shim. Unlike a pipe, a FIFO can be reopened by path after the shim's death; unlike a
 * socket, a container can open it as /dev/stdout.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { faultPoint } from '../sys/fault.ts';
import { makeBlocking, mkfifo, removeFile } from '../sys/file.ts';
import type { Fd } from '../sys/libc.ts';

const READ_NONBLOCKING = constants.O_RDONLY | constants.O_NONBLOCK;
const WRITE_NONBLOCKING = constants.O_WRONLY | constants.O_NONBLOCK;

export interface FifoEnds {
  readEnd: Fd;
  writeEnd: Fd;
}

/** Makes a FIFO for the process's output: its end is blocking, ours is not. */
export function makeOutputFifo(path: string): FifoEnds {
  recreateFifo(path);
  // The read end first: without one, opening the write end would block.
  const readEnd = openSync(path, READ_NONBLOCKING);
  return { readEnd, writeEnd: otherEnd(path, constants.O_WRONLY, readEnd) };
}

/**
 * Makes a FIFO for the process's input: its end is blocking, ours is not. Its end is read-only: with a write end of its
 * own the process would never read EOF.
 */
export function makeInputFifo(path: string): FifoEnds {
  recreateFifo(path);
  const readEnd = openSync(path, READ_NONBLOCKING);
  const writeEnd = otherEnd(path, WRITE_NONBLOCKING, readEnd);
  makeBlocking(readEnd);
  return { readEnd, writeEnd };
}

/** Reopens the read end of a process's output; undefined when the FIFO is gone. */
export function reopenOutput(path: string): Fd | undefined {
  try {
    const readEnd = openSync(path, READ_NONBLOCKING);
    // poll(2) reports EOF only when a writer has been there since this reader's open(2): pipe_poll(), Linux fs/pipe.c.
    closeSync(otherEnd(path, WRITE_NONBLOCKING, readEnd));
    return readEnd;
  } catch {
    return undefined;
  }
}

function recreateFifo(path: string): void {
  removeFile(path);
  mkfifo(path);
  faultPoint('fifo.made');
}

function otherEnd(path: string, flags: number, readEnd: Fd): Fd {
  try {
    return openSync(path, flags);
  } catch (error) {
    closeSync(readEnd);
    throw error;
  }
}
