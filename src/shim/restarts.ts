/**
 * What comes after a death: another generation, because a client's `restart` is under way or the restart policy wants
 * it, or
 * the end.
 */
import type { RestartPolicy } from '../protocol/records.ts';
import type { Generations } from './generations.ts';
import { now, type Journal } from './journal.ts';
import type { Phases } from './phase.ts';
import { Refused } from './refused.ts';
import { decide } from './restart-policy.ts';
import type { SpecFile } from './spec-file.ts';
import type { Waiters } from './wait-clients.ts';

export interface RestartsOptions {
  id: string;
  journal: Journal;
  phases: Phases;
  specFile: SpecFile;
  generations: Generations;
  waiters: Waiters;
  complain: (what: string, error: unknown) => void;
}

export class Restarts {
  /** Clients' restarts under way, by operation: the next death is not the end. */
  readonly #byClients = new Set<string>();
  #backoff: NodeJS.Timeout | undefined;
  #hostGoesDown = false;

  constructor(private readonly o: RestartsOptions) {}

  /** From now on no death is followed by a start: the daemon decides after the boot. */
  hostGoesDown(): void {
    this.#hostGoesDown = true;
  }

  /** The container is dead, and its exit in the journal: what next? */
  decide(): void {
    const { journal, phases, specFile } = this.o;
    if (this.#byClients.size > 0 && !this.#hostGoesDown) return phases.move('await');
    const { state, carried } = journal;
    const policy: RestartPolicy = state.restart ?? specFile.definition.spec.restart;
    const decision = decide(policy, {
      code: state.exitCode,
      ranMs: state.startedAt === '' ? 0 : milliseconds(BigInt(state.finishedAt) - BigInt(state.startedAt)),
      stoppedByUser: state.stoppedByUser,
      shutdown: this.#hostGoesDown || carried.shutdown,
      restartCount: state.restartCount,
      backoffMs: carried.backoffMs,
    });
    if (!decision.restart) return this.o.generations.finish();
    const at = now();
    journal.append(
      { type: 'restarting', count: decision.count, at: String(at.wall + BigInt(decision.delayMs) * NS_PER_MS) },
      at,
    );
    phases.move('retry');
    this.schedule(decision.delayMs);
  }

  /** The policy starts the container when the time is up, unless a client has wanted otherwise. */
  schedule(delayMs: number): void {
    this.#backoff = setTimeout(() => void this.#startByPolicy(), delayMs);
  }

  /** Of what a dead shim had decided: until then. */
  scheduleAt(restartAtMono: string): void {
    this.schedule(Math.max(0, milliseconds(BigInt(restartAtMono) - now().mono)));
  }

  /** A client wants the dead container to stay dead. */
  async cancel(): Promise<void> {
    const { journal, phases, generations, waiters } = this.o;
    return phases.inTurn(async () => {
      if (phases.current !== 'backoff') return;
      clearTimeout(this.#backoff);
      generations.finish();
      await journal.durable();
      waiters.exited(journal.state.exitCode);
    });
  }

  /** A client's restart: while `bringDown` lasts a death is not the end, and the start follows it. */
  async byClient(operation: string, bringDown: () => Promise<void>): Promise<void> {
    this.#byClients.add(operation);
    try {
      await bringDown();
      await this.#startAgain(operation);
    } finally {
      this.#byClients.delete(operation);
    }
  }

  async #startAgain(operation: string): Promise<void> {
    const { id, journal, phases, generations } = this.o;
    await phases.inTurn(async () => {
      clearTimeout(this.#backoff);
      // Somebody else's restart may have been quicker.
      if (phases.isUp) return;
      if (phases.current !== 'between' && phases.current !== 'backoff')
        throw new Refused('failed', `container ${id} was stopped meanwhile`);
      await generations.again(operation);
    });
    journal.append({ type: 'restarted', operation });
  }

  async #startByPolicy(): Promise<void> {
    const { journal, phases, generations } = this.o;
    try {
      await phases.inTurn(async () => {
        // A client may have asked for its end while this waited for its turn.
        if (phases.current !== 'backoff' || journal.state.stoppedByUser || this.#hostGoesDown) return;
        await generations.again('');
      });
    } catch (error) {
      // A refusal is in the journal.
      if (!(error instanceof Refused)) this.o.complain('restarting by policy', error);
    }
  }
}

const NS_PER_MS = 1_000_000n;
const milliseconds = (ns: bigint): number => Number(ns / NS_PER_MS);
