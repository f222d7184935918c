/** The runtime's commands that a dead shim had under way: they go on without it. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { removeFile } from '../sys/file.ts';
import { kill, processes, SIGKILL } from '../sys/process.ts';

/** They end by themselves, or are stuck after this. */
const TIMEOUT_MS = 30_000;
const POLL_MS = 10;
const LOG_FILE = /^log\d+\.json$/;

/** The log file of a runtime's command, in the container's run directory. */
export const runtimeLog = (run: string, n: number): string => join(run, `log${n}.json`);

/**
 * Resolves when they have ended: a create that ended after its undoing would leave a container, and a pause after the
 * look at the cgroup a frozen one. A stuck one is killed.
 */
export async function runtimeCommandsEnded(run: string): Promise<void> {
  const logs = readdirSync(run).filter((name) => LOG_FILE.test(name));
  if (logs.length === 0) return;
  const deadline = Date.now() + TIMEOUT_MS;
  for (let pids = commandsIn(run); pids.length > 0; pids = commandsIn(run)) {
    if (Date.now() > deadline) for (const pid of pids) kill(pid, SIGKILL);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  for (const name of logs) removeFile(join(run, name));
}

/** Pids of the processes that have a log file in `run` as an argument. */
function commandsIn(run: string): number[] {
  const argument = `\0${join(run, 'log')}`;
  return processes().filter((pid) => commandLine(pid).includes(argument));
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
  } catch {
    return '';
  }
}
