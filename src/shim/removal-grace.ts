/**
 * Who waits for a container's removal is not kept for ever when no daemon is there to remove it, or to say that it did.
 */
import { existsSync } from 'node:fs';
import type { Journal } from './journal.ts';
import type { Phases } from './phase.ts';
import type { SpecFile } from './spec-file.ts';
import type { Waiters } from './wait-clients.ts';

/** What they wait for a daemon to come. */
const GRACE_MS = 500;

export interface RemovalGraceOptions {
  /** The container's directory. */
  dir: string;
  journal: Journal;
  phases: Phases;
  specFile: SpecFile;
  waiters: Waiters;
  daemonConnected: () => boolean;
}

export class RemovalGrace {
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly o: RemovalGraceOptions) {}

  /** To be called when the container is final, and when a daemon comes or goes. */
  consider(): void {
    this.cancel();
    const { dir, journal, phases, specFile, waiters } = this.o;
    const isOver = phases.current === 'idle' && journal.state.final;
    if (!isOver || this.o.daemonConnected()) return;
    const willBeRemoved = specFile.loaded?.autoRemove || !existsSync(dir);
    if (!willBeRemoved) return;
    this.#timer = setTimeout(() => waiters.all(journal.state.exitCode), GRACE_MS);
  }

  cancel(): void {
    clearTimeout(this.#timer);
  }
}
