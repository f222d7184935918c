/** The state of the engine's objects, for a person who debugs the daemon: SIGUSR1 and `GET /debug/dump`. */
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { VERSION } from '../version.ts';
import type { HandleDump } from './containers/handle/container-handle.ts';
import type { Engine } from './engine.ts';
import type { LoopDelays } from './loop-delay.ts';

export interface EngineDump {
  version: string;
  pid: number;
  /** Seconds. */
  uptime: number;
  /** Bytes. */
  memory: NodeJS.MemoryUsage;
  /** Handles and requests that keep the event loop alive, by kind. */
  activeResources: Record<string, number>;
  /** Since the dump before. */
  eventLoop: LoopDelays;
  /** Open descriptors. */
  descriptors: number;
  eventSubscribers: number;
  containers: HandleDump[];
}

type Dumped = Pick<Engine, 'containers' | 'events' | 'loopDelay'>;

export function dumpEngine({ containers, events, loopDelay }: Dumped): EngineDump {
  return {
    version: VERSION,
    pid: process.pid,
    uptime: Math.round(process.uptime()),
    memory: process.memoryUsage(),
    activeResources: countByKind(process.getActiveResourcesInfo()),
    eventLoop: loopDelay.take(),
    descriptors: readdirSync('/proc/self/fd').length,
    eventSubscribers: events.subscribers,
    containers: containers.dump(),
  };
}

/** Writes the dump below the exec root. Returns the file's path. */
export function writeDump(engine: Dumped & Pick<Engine, 'paths'>): string {
  const path = join(engine.paths.execRoot, `dump-${new Date().toISOString().replaceAll(':', '')}.json`);
  writeFileSync(path, `${JSON.stringify(dumpEngine(engine), null, 2)}\n`, { mode: 0o600 });
  return path;
}

function countByKind(kinds: string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const kind of kinds) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}
