/**
 * FIFOs between a process and its shim. Unlike a pipe, one can be opened again by its path; unlike a socket, also as
 * /dev/stdout.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { makeBlocking, mkfifo, removeFile } from '../sys/file.ts';
import type { Fd } from '../sys/libc.ts';

const READ_NONBLOCKING = constants.O_RDONLY | constants.O_NONBLOCK;
const WRITE_NONBLOCKING = constants.O_WRONLY | constants.O_NONBLOCK;

export interface FifoEnds {
  readEnd: Fd;
  writeEnd: Fd;
}

/** Makes a FIFO that the process writes: its end blocks, ours does not. */
export function makeOutputFifo(path: string): FifoEnds {
  makeAnew(path);
  // The read end first: without one, opening the write end would block.
  const readEnd = openSync(path, READ_NONBLOCKING);
  return { readEnd, writeEnd: otherEnd(path, constants.O_WRONLY, readEnd) };
}

/**
 * Makes a FIFO that the process reads: its end blocks, ours does not. It must not be able to write: it would never see
 * EOF.
 */
export function makeInputFifo(path: string): FifoEnds {
  makeAnew(path);
  const readEnd = openSync(path, READ_NONBLOCKING);
  const writeEnd = otherEnd(path, WRITE_NONBLOCKING, readEnd);
  makeBlocking(readEnd);
  return { readEnd, writeEnd };
}

/** The read end of a process's output, once more; undefined when the FIFO is gone. */
export function reopenOutput(path: string): Fd | undefined {
  try {
    const readEnd = openSync(path, READ_NONBLOCKING);
    // A FIFO tells a reader of its writers' end only if it has had one since that reader opened it. pipe_poll in
    // fs/pipe.c
    closeSync(otherEnd(path, WRITE_NONBLOCKING, readEnd));
    return readEnd;
  } catch {
    return undefined;
  }
}

function makeAnew(path: string): void {
  removeFile(path);
  mkfifo(path);
}

function otherEnd(path: string, flags: number, readEnd: Fd): Fd {
  try {
    return openSync(path, flags);
  } catch (error) {
    closeSync(readEnd);
    throw error;
  }
}
