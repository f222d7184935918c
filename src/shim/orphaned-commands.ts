/**
 * Runtime commands that outlive the shim that started them: a `create` that is still at work would bring up a container
 * after everything was cleared away.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type { ShimSpec } from '../protocol/spec.ts';
import { isAlive, kill, procStat, SIGKILL } from '../sys/process.ts';

/** They end by themselves, in an orderly state, or are stuck after this. */
const PATIENCE_MS = 30_000;
const POLL_MS = 50;

/** Resolves when no runtime command of an earlier shim works on the container. Kills those that do not end. */
export async function orphanedCommandsEnded(spec: Pick<ShimSpec, 'id' | 'runtime'>): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  for (let found = commandsOn(spec); found.length > 0; found = commandsOn(spec)) {
    if (Date.now() > deadline) for (const { pid, startTime } of found) if (isAlive(pid, startTime)) kill(pid, SIGKILL);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** Each ends in the container's id (runtime.ts); the runtime's root tells it from those of other programs. */
function commandsOn({ id, runtime }: Pick<ShimSpec, 'id' | 'runtime'>): { pid: number; startTime: string }[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      const args = argumentsOf(pid);
      if (args.at(-1) !== id || !args.includes(runtime.root)) return [];
      const stat = procStat(Number(pid));
      return stat && stat.state !== 'Z' ? [{ pid: Number(pid), startTime: stat.startTime }] : [];
    });
}

function argumentsOf(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
  } catch {
    return []; // It has ended.
  }
}
