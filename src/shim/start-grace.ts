/**
 * Releases the clients of a start that its daemon did not live to finish. They attach, and wait, before they ask for
 * the start. When the daemon dies with that request, nothing ends them: the container has no process.
 */
import type { Socket } from 'node:net';
import type { AttachedClient } from './attached-client.ts';
import type { Journal } from './journal.ts';
import { isUp, type Phases } from './phase.ts';
import type { Sessions } from './sessions.ts';
import type { WaitClients } from './wait-clients.ts';

/**
 * How long another start may take to arrive after the daemon's connection ended, and again after the next daemon has
 * connected: requests that were not sent yet queue at the API's listening sockets meanwhile.
 */
const GRACE_MS = 5_000;

export interface StartGraceDeps {
  journal: Journal;
  phases: Phases;
  sessions: Sessions;
  waitClients: WaitClients;
}

export class StartGrace {
  #timer: NodeJS.Timeout | undefined;
  /** Those that came before the last connection ended. */
  #stranded: { attached: AttachedClient[]; waiting: Socket[] } | null = null;

  constructor(private readonly deps: StartGraceDeps) {}

  setDaemonConnected(connected: boolean): void {
    const { phases, sessions, waitClients } = this.deps;
    // While it runs, a daemon rests without a connection, and no client waits for a start.
    const runs = isUp(phases.current) || phases.current === 'backoff';
    if (!connected && !runs) this.#stranded = { attached: sessions.clients, waiting: waitClients.clients };
    if (this.#stranded) this.#arm();
  }

  /** Call it when a start begins: its end is also the end of these clients. */
  cancel(): void {
    clearTimeout(this.#timer);
    this.#stranded = null;
  }

  #arm(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#release(), GRACE_MS);
  }

  #release(): void {
    const { journal, phases, sessions, waitClients } = this.deps;
    if (phases.current === 'creating') return this.#arm();
    const { attached, waiting } = this.#stranded!;
    this.#stranded = null;
    if (phases.current !== 'idle' && phases.current !== 'created') return;
    sessions.finish(attached);
    // Those of a container that has run may wait for another run, or for its removal.
    if (phases.current === 'created' || journal.state.gen === 0) waitClients.drop(waiting);
  }
}
