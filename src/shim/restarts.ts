/** What follows a death: the end, or another generation for a client's `restart` or the restart policy. */
import type { RestartPolicy } from '../protocol/records.ts';
import type { Generations } from './generations.ts';
import { now, type Journal } from './journal.ts';
import type { Phases } from './phase.ts';
import { Refused } from './refused.ts';
import { decide } from './restart-policy.ts';
import type { LogError } from './shim-log.ts';
import type { SpecFile } from './spec-file.ts';
import type { WaitClients } from './wait-clients.ts';

export interface RestartsDeps {
  id: string;
  journal: Journal;
  phases: Phases;
  specFile: SpecFile;
  generations: Generations;
  waitClients: WaitClients;
  logError: LogError;
}

export class Restarts {
  /** Operations of clients' restarts under way: while there is one, a death is not the end. */
  readonly #byClients = new Set<string>();
  #backoff: NodeJS.Timeout | undefined;
  #hostGoesDown = false;

  constructor(private readonly deps: RestartsDeps) {}

  /** Disables restarts: the daemon decides after the next boot. */
  hostGoesDown(): void {
    this.#hostGoesDown = true;
  }

  /** Decides what follows a death whose `exited` is in the journal, and journals the decision. */
  decideAfterDeath(): void {
    const { journal, phases, specFile } = this.deps;
    if (this.#byClients.size > 0 && !this.#hostGoesDown) return phases.move('await');
    const { state, pending } = journal;
    const policy: RestartPolicy = state.restart ?? specFile.definition.spec.restart;
    const decision = decide(policy, {
      code: state.exitCode,
      ranMs: state.startedAt === '' ? 0 : milliseconds(BigInt(state.finishedAt) - BigInt(state.startedAt)),
      stoppedByUser: state.stoppedByUser,
      shutdown: this.#hostGoesDown || pending.shutdown,
      restartCount: state.restartCount,
      backoffMs: pending.backoffMs,
    });
    if (!decision.restart) return this.deps.generations.finish();
    const at = now();
    const restartAt = at.wall + BigInt(decision.delayMs) * NS_PER_MS;
    journal.append({ type: 'restarting', count: decision.count, at: String(restartAt) }, at);
    phases.move('retry');
    this.schedule(decision.delayMs);
  }

  /** Starts the container by policy after `delayMs`, unless it was stopped or started until then. */
  schedule(delayMs: number): void {
    this.#backoff = setTimeout(() => void this.#startByPolicy(), delayMs);
  }

  /** Resumes a dead shim's back-off. `restartAtMono`: CLOCK_MONOTONIC ns, decimal. */
  scheduleAt(restartAtMono: string): void {
    this.schedule(Math.max(0, milliseconds(BigInt(restartAtMono) - now().mono)));
  }

  /** Ends a back-off without a start: a client wants the container to stay dead. */
  async cancel(): Promise<void> {
    const { journal, phases, generations, waitClients } = this.deps;
    return phases.inTurn(async () => {
      if (phases.current !== 'backoff') return;
      clearTimeout(this.#backoff);
      generations.finish();
      await journal.durable();
      waitClients.answerExit(journal.state.exitCode);
    });
  }

  /** Runs a client's restart: `bringDown`, during which a death is not the end, then the start. @throws Refused */
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
    const { id, journal, phases, generations } = this.deps;
    await phases.inTurn(async () => {
      clearTimeout(this.#backoff);
      const startedByAnotherRestart = phases.isUp;
      if (startedByAnotherRestart) return;
      if (phases.current !== 'between' && phases.current !== 'backoff')
        throw new Refused('failed', `container ${id} was stopped meanwhile`);
      await generations.restart(operation);
    });
    journal.append({ type: 'restarted', operation });
  }

  async #startByPolicy(): Promise<void> {
    const { journal, phases, generations } = this.deps;
    try {
      await phases.inTurn(async () => {
        // A stop may have arrived while this waited for its turn.
        if (phases.current !== 'backoff' || journal.state.stoppedByUser || this.#hostGoesDown) return;
        await generations.restart('');
      });
    } catch (error) {
      // A refusal is already in the journal as `failed`.
      if (!(error instanceof Refused)) this.deps.logError('restarting by policy', error);
    }
  }
}

const NS_PER_MS = 1_000_000n;
const milliseconds = (ns: bigint): number => Number(ns / NS_PER_MS);
