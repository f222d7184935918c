/** Answers `condition=removed` waiters after a grace period when no daemon is there to remove the container. */
import { existsSync } from 'node:fs';
import type { Journal } from './journal.ts';
import type { Phases } from './phase.ts';
import type { SpecFile } from './spec-file.ts';
import type { WaitClients } from './wait-clients.ts';

/** How long to wait for a daemon to connect. */
const GRACE_MS = 500;

export interface RemovalGraceDeps {
  /** The container's directory. */
  dir: string;
  journal: Journal;
  phases: Phases;
  specFile: SpecFile;
  waitClients: WaitClients;
  /** A daemon runs, connected or not. */
  daemonLives: () => boolean;
}

export class RemovalGrace {
  #daemonConnected = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly deps: RemovalGraceDeps) {}

  setDaemonConnected(connected: boolean): void {
    this.#daemonConnected = connected;
    this.update();
  }

  /** Starts or cancels the grace period. Call it when the container has become final. */
  update(): void {
    this.cancel();
    const { dir, journal, phases, specFile, waitClients } = this.deps;
    const isFinal = phases.current === 'idle' && journal.state.final;
    if (!isFinal || this.#daemonConnected) return;
    const willBeRemoved = specFile.loaded?.autoRemove || !existsSync(dir);
    if (!willBeRemoved) return;
    this.#timer = setTimeout(() => {
      if (this.deps.daemonLives()) this.update();
      else waitClients.answerAll(journal.state.exitCode);
    }, GRACE_MS);
  }

  cancel(): void {
    clearTimeout(this.#timer);
  }
}
