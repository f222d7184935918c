/**
 * runc's exec.fifo: the init of a created container waits there until somebody opens it to read, writes a byte, and
 * becomes
 * the container's process. Doing so ourselves saves a process (`runc start`, libcontainer's Container.Exec). The fifo's
 * absence is how runc tells a running container from a created one.
 */
import { closeSync, constants, existsSync, open, openSync, read, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { removeFile } from '../sys/file.ts';
import type { Fd } from '../sys/libc.ts';

const NUDGE_MS = 10;
const INIT_COMMAND = 'runc\0init\0';

const fifoIn = (home: string): string => join(home, 'exec.fifo');

/**
 * Whether the container in a runtime's state directory waits at a fifo as runc means it. crun has one too, which it
 * writes; it keeps no state.json.
 */
export const waitsAtFifo = (home: string): boolean => existsSync(fifoIn(home)) && existsSync(join(home, 'state.json'));

/** Lets the init go; false when it was dead. `dead` resolves when it is. */
export async function letGo(home: string, dead: Promise<unknown>): Promise<boolean> {
  const fifo = fifoIn(home);
  const fd = await opened(fifo, dead);
  try {
    const { bytesRead } = await promisify(read)(fd, Buffer.alloc(1), 0, 1, null);
    if (bytesRead === 0) return false;
  } finally {
    closeSync(fd);
  }
  removeFile(fifo);
  return true;
}

/**
 * A shim died after it had let the init go and before it removed the fifo: runc would take a running container for a
 * created one.
 */
export function noteLetGo(home: string, pid: number): boolean {
  if (!waitsAtFifo(home) || commandLine(pid) === INIT_COMMAND) return false;
  removeFile(fifoIn(home));
  return true;
}

// Opening waits for the writer, in a thread of Node's pool. One that is dead will not come: then we are the writer for
// a moment.
async function opened(fifo: string, dead: Promise<unknown>): Promise<Fd> {
  let done = false;
  const opening = promisify(open)(fifo, 'r').finally(() => (done = true));
  const nudge = (): void => {
    if (done) return;
    try {
      closeSync(openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK));
    } catch {
      // Not there yet, in its thread.
    }
    setTimeout(nudge, NUDGE_MS);
  };
  void dead.then(nudge);
  return opening;
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
  } catch {
    return INIT_COMMAND; // Dead: then it does not matter.
  }
}
