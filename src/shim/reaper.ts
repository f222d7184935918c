/**
 * Reaps dead children. At each SIGCHLD every watched child gets a waitpid(WNOHANG), repeated until none is reaped: a
 * pid namespace's init cannot be reaped before the namespace's other dead processes (Linux, zap_pid_ns_processes()).
 * Processes inherited from a dead shim are not our children: they are polled through /proc and their pidfd.
 */
import { readFileSync } from 'node:fs';
import type { Fd } from '../sys/libc.ts';
import { pidfdExitStatus, procStat, reap, decodeStatus, type ExitStatus } from '../sys/process.ts';
import { now, type Moment } from './journal.ts';

export interface Death extends ExitStatus {
  at: Moment;
  /** False when the exit status is not available: `code` is 255 then. */
  known: boolean;
}

const UNKNOWN_CODE = 255;
const FOREIGN_POLL_MS = 100;
const ORPHAN_SCAN_MS = 2000;

interface Foreign {
  startTime: string;
  pidfd: Fd | null;
  onDeath: (death: Death) => void;
}

export class Reaper {
  #watched = new Map<number, (death: Death) => void>();
  #foreign = new Map<number, Foreign>();
  #poll: NodeJS.Timeout | undefined;
  #orphanScan: NodeJS.Timeout | undefined;
  #suspects = new Set<number>();
  #spawning = 0;

  constructor() {
    process.on('SIGCHLD', () => {
      this.#sweep();
      this.#scanOrphansLater();
    });
  }

  /** Calls `onDeath` once child `pid` is dead, also when it is dead already. */
  watch(pid: number, onDeath: (death: Death) => void): void {
    this.#watched.set(pid, onDeath);
    // A child that died before this line is a zombie without a further SIGCHLD.
    queueMicrotask(() => this.#sweep());
  }

  /** As watch(), for a process that is not our child. */
  watchForeign(pid: number, startTime: string, pidfd: Fd | null, onDeath: (death: Death) => void): void {
    this.#foreign.set(pid, { startTime, pidfd, onDeath });
    this.#poll ??= setInterval(() => this.#pollForeign(), FOREIGN_POLL_MS);
  }

  /** Suspends the orphan scan until disposed: a command runs whose descendants may become our children. */
  expectChildren(): Disposable {
    this.#spawning++;
    return { [Symbol.dispose]: () => void this.#spawning-- };
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

  #pollForeign(): void {
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

  #scanOrphansLater(): void {
    if (this.#orphanScan) return;
    this.#orphanScan = setTimeout(() => {
      this.#orphanScan = undefined;
      this.#scanOrphans();
    }, ORPHAN_SCAN_MS).unref();
  }

  // A child that outlives a --pid=host container is reparented to this subreaper. Only a zombie seen by two scans with
  // nothing being spawned is reaped: a younger one may be an exec that is not watched yet.
  #scanOrphans(): void {
    if (this.#spawning > 0) return this.#scanOrphansLater();
    const zombies = childrenOfThisProcess().filter((pid) => !this.#watched.has(pid) && procStat(pid)?.state === 'Z');
    for (const pid of zombies) if (this.#suspects.has(pid)) reap(pid);
    const fresh = zombies.filter((pid) => !this.#suspects.has(pid));
    this.#suspects = new Set(fresh);
    if (fresh.length > 0) this.#scanOrphansLater();
  }
}

export const unknownDeath = (): Death => ({ code: UNKNOWN_CODE, signal: 0, at: now(), known: false });

/** How a process that is not our child ended; undefined while it lives. */
export function foreignDeath(pid: number, startTime: string, pidfd: Fd | null): Death | undefined {
  const stat = procStat(pid);
  const isSameProcess = stat?.startTime === startTime;
  if (isSameProcess && stat.state !== 'Z' && stat.state !== 'X') return undefined;
  const ending =
    (pidfd === null ? undefined : pidfdExitStatus(pidfd)) ??
    (isSameProcess ? decodeStatus(stat.exitStatus) : undefined);
  return ending ? { ...ending, at: now(), known: true } : unknownDeath();
}

function childrenOfThisProcess(): number[] {
  return readFileSync(`/proc/self/task/${process.pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number);
}
