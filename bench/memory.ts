/** Memory of an engine's own processes: daemons, shims and keepers, not containers. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * Proportional set size, in MiB, of the processes that belong to the engine behind `socket`: those whose command line
 * names its directory, or that have a file open there, in this mount namespace (containers have their own).
 */
export function engineMemory(socket: string): number {
  const root = dirname(socket);
  const here = readlinkSync('/proc/self/ns/mnt');
  let kib = 0;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)) {
    try {
      if (readlinkSync(`/proc/${pid}/ns/mnt`) !== here || !(names(pid, root) || holds(pid, root))) continue;
      kib += Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1'))?.[1] ?? 0);
    } catch {
      // The process has exited.
    }
  }
  return kib / 1024;
}

const names = (pid: string, root: string): boolean =>
  readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(`${root}/`);
const holds = (pid: string, root: string): boolean =>
  readdirSync(`/proc/${pid}/fd`).some((fd) => readlink(`/proc/${pid}/fd/${fd}`).startsWith(`${root}/`));

function readlink(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
