/**
 * Who collects the dead: one waitpid(WNOHANG) for each watched child at every SIGCHLD, all of them each time, because a
 * pid
 * namespace's init cannot be reaped before its dead execs are (node-on-linux.md §1). Processes that are not our
 * children
 * (taken over from a dead shim) are looked at now and then through their pidfd.
 */
import { readFileSync } from 'node:fs';
import { pidfdExitStatus, procStat, reap, decodeStatus, type ExitStatus } from '../sys/process.ts';
import type { Fd } from '../sys/libc.ts';
import { now, type Moment } from './journal.ts';

export interface Death extends ExitStatus {
  at: Moment;
  /** False when nobody can tell how it ended: then code is 255. */
  known: boolean;
}

const UNKNOWN_CODE = 255;
const FOREIGN_POLL_MS = 100;
const ORPHAN_SCAN_MS = 2000;

export class Reaper {
  #watched = new Map<number, (death: Death) => void>();
  #foreign = new Map<number, Foreign>();
  #poll: NodeJS.Timeout | undefined;
  #scan: NodeJS.Timeout | undefined;
  #suspects = new Set<number>();

  /** `spawning`: a process whose offspring is about to be ours is under way. */
  constructor(private readonly spawning: () => boolean) {
    process.on('SIGCHLD', () => {
      this.#sweep();
      this.#scanSoon();
    });
  }

  /** Calls back once when child `pid` is dead; also if it is already. */
  watch(pid: number, onDeath: (death: Death) => void): void {
    this.#watched.set(pid, onDeath);
    // A zombie waits for us, so whatever died before this line is found now.
    queueMicrotask(() => this.#sweep());
  }

  /** As watch(), for somebody else's child. */
  watchForeign(pid: number, startTime: string, pidfd: Fd | null, onDeath: (death: Death) => void): void {
    this.#foreign.set(pid, { startTime, pidfd, onDeath });
    this.#poll ??= setInterval(() => this.#look(), FOREIGN_POLL_MS);
  }

  #sweep(): void {
    for (let again = true; again;) {
      again = false;
      for (const [pid, onDeath] of this.#watched) {
        const ending = reap(pid);
        if (ending === undefined) continue;
        this.#watched.delete(pid);
        again = true;
        onDeath(ending === 'not-a-child' ? unknownDeath() : { ...ending, at: now(), known: true });
      }
    }
  }

  #look(): void {
    for (const [pid, { startTime, pidfd, onDeath }] of this.#foreign) {
      const death = foreignDeath(pid, startTime, pidfd);
      if (!death) continue;
      this.#foreign.delete(pid);
      onDeath(death);
    }
    if (this.#foreign.size > 0) return;
    clearInterval(this.#poll);
    this.#poll = undefined;
  }

  // Orphans that nobody announced arrive when a --pid=host container's child outlives it. Only what was a zombie at two
  // scans
  // with nothing being spawned is taken: a younger one may be an exec that is not registered yet.
  #scanSoon(): void {
    this.#scan ??= setTimeout(() => {
      this.#scan = undefined;
      if (this.spawning()) return this.#scanSoon();
      const zombies = childrenOfThisProcess().filter((pid) => !this.#watched.has(pid) && procStat(pid)?.state === 'Z');
      for (const pid of zombies) if (this.#suspects.has(pid)) reap(pid);
      const fresh = zombies.filter((pid) => !this.#suspects.has(pid));
      this.#suspects = new Set(fresh);
      if (fresh.length > 0) this.#scanSoon();
    }, ORPHAN_SCAN_MS).unref();
  }
}

interface Foreign {
  startTime: string;
  pidfd: Fd | null;
  onDeath: (death: Death) => void;
}

export const unknownDeath = (): Death => ({ code: UNKNOWN_CODE, signal: 0, at: now(), known: false });

/** How somebody else's child ended; undefined while it lives. */
export function foreignDeath(pid: number, startTime: string, pidfd: Fd | null): Death | undefined {
  const stat = procStat(pid);
  const isItself = stat?.startTime === startTime;
  if (isItself && stat.state !== 'Z' && stat.state !== 'X') return undefined;
  const ending =
    (pidfd === null ? undefined : pidfdExitStatus(pidfd)) ?? (isItself ? decodeStatus(stat.exitStatus) : undefined);
  return ending ? { ...ending, at: now(), known: true } : unknownDeath();
}

function childrenOfThisProcess(): number[] {
  return readFileSync(`/proc/self/task/${process.pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number);
}
