/** Looks for a living container of which the journal may have lost the records. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { KEEPER_SUFFIX } from '../protocol/paths.ts';
import { procStat } from '../sys/process.ts';
import { cgroupsAt, initIn } from './cgroup.ts';
import { Runtime } from './runtime.ts';
import type { Reaper } from './reaper.ts';
import type { ShimSpec } from '../protocol/spec.ts';
import type { RunState } from '../protocol/runstate.ts';
import type { Living } from './takeover.ts';

const ALIVE = ['created', 'running', 'paused'] as const;

/**
 * Asks the runtime, and where that has lost the container too, looks into its cgroup. The runtime's state directory,
 * the keepers' files and the cgroup tell whether it is worth asking: a new container has none of them.
 */
export async function findLiving(
  spec: ShimSpec | null,
  { run, state, reaper }: { run: string; state: RunState; reaper: Reaper },
): Promise<Living | null> {
  if (!spec) return null;
  const kept = keptGeneration(run);
  // Only where nothing else is known: during a create, or after an end, other processes can be in the cgroup.
  const init = state.final && spec.cgroupPath !== undefined ? initIn(cgroupsAt(spec.cgroupPath)) : undefined;
  const isKnownToRuntime = existsSync(join(spec.runtime.root, spec.id));
  if (kept === 0 && !isKnownToRuntime && !init) return null;
  const gen = kept > 0 ? kept : state.gen + (state.final ? 1 : 0);
  const answer = isKnownToRuntime ? await new Runtime(spec, run, reaper).state() : undefined;
  const status = ALIVE.find((alive) => alive === answer?.status);
  const startTime = procStat(answer?.pid ?? 0)?.startTime;
  if (answer && status && startTime !== undefined) return { status, pid: answer.pid, startTime, gen };
  return init ? { ...init, status: 'running', gen } : null;
}

/** The newest generation that has a keeper's file; 0 = none. */
function keptGeneration(run: string): number {
  const files = readdirSync(run).filter((name) => name.endsWith(KEEPER_SUFFIX));
  return Math.max(0, ...files.map((name) => Number.parseInt(name)));
}
