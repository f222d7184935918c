/**
 * What the daemon holds of one container: its record, the queue of operations that change it, the wait clients that no
 * shim has yet, its journal follower and the session with its shim.
 */
import { Serial } from '../../../async/serial.ts';
import type { Container, Phase } from '../../../model/container.ts';
import type { RunStatus } from '../../../protocol/runstate.ts';
import type { HandleDeps } from './handle-deps.ts';
import { JournalFollower } from './journal-follower.ts';
import { ParkedWaits } from './parked-waits.ts';
import { ShimSession } from './shim-session.ts';

/** A handle's state for a person who debugs the daemon. */
export interface HandleDump {
  id: string;
  name: string;
  phase: Phase;
  status: RunStatus;
  generation: number;
  final: boolean;
  /** Operations that run or wait for their turn. */
  queued: number;
  removalPending: boolean;
  parkedWaits: number;
  journal: ReturnType<JournalFollower['dump']>;
  shim: ReturnType<ShimSession['dump']>;
}

export class ContainerHandle {
  /** Operations that change the container take their turn here. What they checked before it, they check again in it. */
  readonly turns = new Serial();
  readonly waits = new ParkedWaits();
  readonly journal: JournalFollower;
  readonly shim: ShimSession;
  /** A removal is queued or under way; Docker refuses a second one. */
  removalPending = false;
  #retired = false;

  /** `onFinal` runs once each time the container becomes final: dead, and no restart pending. */
  constructor(
    readonly container: Container,
    deps: HandleDeps,
    onFinal: (handle: ContainerHandle) => void,
  ) {
    this.journal = new JournalFollower(container, deps, () => onFinal(this));
    this.shim = new ShimSession(container, this.journal, deps);
  }

  /** Resolves when the operations queued so far are done, so that a client's next request sees their effects. */
  idle = (): Promise<void> => this.turns.run(() => Promise.resolve());

  /** The container is removed: an operation that was queued behind the removal finds nothing to work on. */
  get isRetired(): boolean {
    return this.#retired;
  }

  /** The container is removed: closes everything and resolves all that wait for its state. */
  retire(): void {
    this.#retired = true;
    this.close();
    this.journal.releaseWaiters();
  }

  dump(): HandleDump {
    const { id, name, phase, state } = this.container;
    return {
      id,
      name,
      phase,
      status: state.status,
      generation: state.gen,
      final: state.final,
      queued: this.turns.pending,
      removalPending: this.removalPending,
      parkedWaits: this.waits.count,
      journal: this.journal.dump(),
      shim: this.shim.dump(),
    };
  }

  /** The daemon ends; the shim lives on. */
  close(): void {
    this.shim.close();
    this.journal.close();
  }
}
