/**
 * runc's exec.fifo: the init of a created container blocks there until a reader opens it, writes a byte, and executes
 * the container's process (`runc start` does this; libcontainer's Container.Exec). Doing it here saves a process. runc
 * tells a created container from a running one by whether the FIFO exists.
 */
import { closeSync, constants, existsSync, open, openSync, read, readdirSync, statSync, type Stats } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { faultPoint } from '../sys/fault.ts';
import { removeFile } from '../sys/file.ts';
import type { Fd } from '../sys/libc.ts';

const NUDGE_MS = 10;

const fifoIn = (stateDir: string): string => join(stateDir, 'exec.fifo');

/**
 * Whether the container in the runtime's state directory waits at a FIFO in runc's way. crun has an exec.fifo too, used
 * in the other direction; it has no state.json.
 */
export const waitsAtFifo = (stateDir: string): boolean =>
  existsSync(fifoIn(stateDir)) && existsSync(join(stateDir, 'state.json'));

/** Lets the init execute the container's process. False when it died before. `dead` resolves at its death. */
export async function startInit(stateDir: string, dead: Promise<unknown>): Promise<boolean> {
  const fifo = fifoIn(stateDir);
  const fd = await openForReading(fifo, dead);
  faultPoint('init.opened');
  try {
    const { bytesRead } = await promisify(read)(fd, Buffer.alloc(1), 0, 1, null);
    if (bytesRead === 0) return false;
    faultPoint('init.released');
  } finally {
    closeSync(fd);
  }
  removeFile(fifo);
  faultPoint('init.started');
  return true;
}

/**
 * Removes the FIFO of an init that was started; returns whether it did. A shim that died in startInit() between read
 * and removal leaves a running container that runc takes for a created one.
 */
export function removeStaleFifo(stateDir: string, pid: number): boolean {
  if (!waitsAtFifo(stateDir) || isHeldBy(pid, fifoIn(stateDir))) return false;
  removeFile(fifoIn(stateDir));
  return true;
}

// open(2) blocks in a thread of libuv's pool until a writer opens the FIFO too. When the init is dead no writer comes:
// then opening it for writing here unblocks the thread.
async function openForReading(fifo: string, dead: Promise<unknown>): Promise<Fd> {
  let done = false;
  const opening = promisify(open)(fifo, 'r').finally(() => (done = true));
  const nudge = (): void => {
    if (done) return;
    try {
      closeSync(openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK));
    } catch {
      // ENXIO: the thread has not reached open(2) yet.
    }
    setTimeout(nudge, NUDGE_MS);
  };
  void dead.then(nudge);
  return opening;
}

/**
 * runc's init has a descriptor of the FIFO until it executes the container's process (libcontainer's
 * standard_init_linux.go). True for a dead process: whether it was started makes no difference.
 */
function isHeldBy(pid: number, fifo: string): boolean {
  try {
    const { dev, ino } = statSync(fifo);
    const isFifo = (stat: Stats | undefined): boolean => stat?.dev === dev && stat.ino === ino;
    const descriptors = `/proc/${pid}/fd`;
    return readdirSync(descriptors).some((fd) => isFifo(statSync(join(descriptors, fd), { throwIfNoEntry: false })));
  } catch {
    return true;
  }
}
