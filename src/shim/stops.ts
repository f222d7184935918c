/**
 * What ends a running container: clients' signals, stops and restarts, and the host's shutdown. They never queue behind
 * the
 * turns of others, so that a stop reaches a container whatever else is asked of it. Each is in the journal first: the
 * successor of a shim that dies in the middle goes on with it.
 */
import { SIGKILL } from '../sys/process.ts';
import type { StopIntent } from './pending-intents.ts';
import type { Generation } from './generation.ts';
import type { Generations } from './generations.ts';
import { now, type Journal } from './journal.ts';
import type { Phases } from './phase.ts';
import type { Restarts } from './restarts.ts';
import type { SpecFile } from './spec-file.ts';

export interface StopsOptions {
  journal: Journal;
  phases: Phases;
  specFile: SpecFile;
  generations: Generations;
  restarts: Restarts;
  complain: (what: string, error: unknown) => void;
}

/** How a container is brought down. */
interface Downfall {
  signal: number;
  /** Milliseconds from now on until SIGKILL; -1 = no deadline. */
  deadlineMs: number;
  /** The signal was sent before, by a shim that died since. */
  sent: boolean;
}

const NO_DEADLINE = -1;
/** A dead init takes all with it unless they live in the host's pid namespace: those are killed one by one. */
const STRAGGLERS_AFTER_MS = 2000;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export class Stops {
  /** What a dead shim had begun and this one goes on with, by operation: who asked for it may ask again. */
  readonly #resumed = new Map<string, Promise<void>>();

  constructor(private readonly o: StopsOptions) {}

  /** One signal. `asUser`: the container is to stay dead if it dies of it. */
  async signal(operation: string, signal: number, { asUser }: { asUser: boolean }): Promise<void> {
    const { journal, phases, generations } = this.o;
    await phases.settled();
    const generation = phases.current === 'backoff' && asUser ? null : generations.up();
    if (asUser)
      journal.append({ type: 'stopping', operation, signal, deadlineMs: NO_DEADLINE, restart: false, kill: true });
    if (!generation) return this.o.restarts.cancel();
    this.#send(generation, signal);
    if (asUser || signal === SIGKILL) await generations.thaw();
  }

  /** Resolves when the container is dead and cleared away. */
  async stop(operation: string, signal: number, timeoutSeconds: number): Promise<void> {
    const begun = this.#resumed.get(operation);
    if (begun) return begun;
    const { journal, phases, generations } = this.o;
    await phases.settled();
    const deadlineMs = inMilliseconds(timeoutSeconds);
    if (phases.current !== 'backoff') generations.up();
    journal.append({ type: 'stopping', operation, signal, deadlineMs, restart: false });
    if (phases.current === 'backoff') await this.o.restarts.cancel();
    else await this.#bringDown({ signal, deadlineMs, sent: false });
    journal.append({ type: 'stopped', operation });
  }

  /** Resolves when the container runs again. */
  async restart(operation: string, signal: number, timeoutSeconds: number): Promise<void> {
    const begun = this.#resumed.get(operation);
    if (begun) return begun;
    const { journal, phases, generations, restarts } = this.o;
    await phases.settled();
    const deadlineMs = inMilliseconds(timeoutSeconds);
    if (phases.current !== 'backoff') generations.up();
    await restarts.byClient(operation, async () => {
      journal.append({ type: 'stopping', operation, signal, deadlineMs, restart: true });
      if (phases.current !== 'backoff') await this.#bringDown({ signal, deadlineMs, sent: false });
    });
  }

  /** The host goes down: the container is stopped within its own time, which is not a user's stop. */
  async hostGoesDown(): Promise<void> {
    const { journal, phases, specFile, generations, restarts } = this.o;
    restarts.hostGoesDown();
    journal.append({ type: 'shutdown' });
    if (phases.current === 'created')
      await generations.abandon('', { message: 'the host is shutting down', code: 128 });
    await phases.settled();
    if (phases.current === 'backoff') await restarts.cancel();
    if (phases.isUp) {
      const { stopSignal, stopTimeout } = specFile.definition.spec;
      await this.#bringDown({ signal: stopSignal, deadlineMs: inMilliseconds(stopTimeout), sent: false });
    }
    await journal.durable();
  }

  /** Goes on with what a dead shim had not finished. */
  resume(): void {
    for (const intent of this.o.journal.carried.intents) {
      const resumed = this.#resume(intent);
      this.#resumed.set(intent.operation, resumed);
      void resumed.catch((error: unknown) => this.o.complain(`going on with ${intent.operation}`, error));
    }
  }

  async #resume({ operation, signal, deadlineMs, restart, kill, since, sent }: StopIntent): Promise<void> {
    const { journal, phases, generations, restarts } = this.o;
    if (kill) {
      if (!sent && phases.isUp) this.#send(generations.up(), signal);
      return;
    }
    const elapsedMs = Number((now().mono - BigInt(since)) / 1_000_000n);
    const remainingMs = deadlineMs < 0 ? NO_DEADLINE : Math.max(1, deadlineMs - elapsedMs);
    const bringDown = async (): Promise<void> => {
      if (phases.isUp) await this.#bringDown({ signal, deadlineMs: remainingMs, sent });
    };
    if (restart) return restarts.byClient(operation, bringDown);
    await bringDown();
    journal.append({ type: 'stopped', operation });
  }

  /** Resolves when the generation is dead, and its end told and cleared away. @throws Refused when none is up */
  async #bringDown({ signal, deadlineMs, sent }: Downfall): Promise<void> {
    const { generations } = this.o;
    const generation = generations.up();
    const { over } = generations;
    if (!sent) this.#send(generation, signal);
    await generations.thaw();
    const timers: NodeJS.Timeout[] = [];
    const force = (): void => {
      this.#send(generation, SIGKILL);
      timers.push(setTimeout(() => generation.killAll(), STRAGGLERS_AFTER_MS));
    };
    if (deadlineMs === 0 && signal !== SIGKILL) force();
    else if (deadlineMs >= 0) timers.push(setTimeout(force, Math.min(deadlineMs, LONGEST_TIMER_MS)));
    await generation.init.death;
    for (const timer of timers) clearTimeout(timer);
    await over;
  }

  #send(generation: Generation, signal: number): void {
    if (generation.kill(signal)) this.o.journal.append({ type: 'killed', signal });
  }
}

/** The container is dead already: what stops still owe is their record. */
export function settleStops(journal: Journal): void {
  for (const { operation, restart, kill } of journal.carried.intents) {
    if (!restart && !kill) journal.append({ type: 'stopped', operation });
  }
}

const inMilliseconds = (seconds: number): number => (seconds < 0 ? NO_DEADLINE : seconds * 1000);
