/**
 * What ends a running container: clients' signals, stops and restarts, and the host's shutdown. None of them queues
 * behind a turn, so a stop reaches the container whatever other operation is under way. Each is journalled before it is
 * acted upon, so that a successor can continue it.
 */
import { LONGEST_TIMER_MS } from '../sys/clock.ts';
import { faultPoint } from '../sys/fault.ts';
import { SIGKILL } from '../sys/process.ts';
import type { Generation } from './generation.ts';
import type { Generations } from './generations.ts';
import { now, type Journal } from './journal.ts';
import type { StopIntent } from './pending-intents.ts';
import type { Phases } from './phase.ts';
import type { Restarts } from './restarts.ts';
import type { LogError } from './shim-log.ts';
import type { SpecFile } from './spec-file.ts';

export interface StopsDeps {
  journal: Journal;
  phases: Phases;
  specFile: SpecFile;
  generations: Generations;
  restarts: Restarts;
  logError: LogError;
}

/** How a container is brought down. */
interface BringDown {
  signal: number;
  /** Milliseconds until SIGKILL; -1 = no deadline. */
  deadlineMs: number;
  /** A previous shim has sent the signal already. */
  sent: boolean;
}

const NO_DEADLINE = -1;
/**
 * The kernel kills a pid namespace with its init. Processes in the host's pid namespace survive it: they are killed one
 * by one, this long after the init's SIGKILL.
 */
const STRAGGLERS_AFTER_MS = 2000;

export class Stops {
  /** A dead shim's stops and restarts that this one continues, by operation: the daemon repeats its request. */
  readonly #resumed = new Map<string, Promise<void>>();

  constructor(private readonly deps: StopsDeps) {}

  /** Sends one signal. `asUser`: no restart follows if the container dies of it. @throws Refused */
  async signal(operation: string, signal: number, { asUser }: { asUser: boolean }): Promise<void> {
    const { journal, phases, generations, restarts } = this.deps;
    await phases.settled();
    const generation = phases.current === 'backoff' && asUser ? null : generations.requireRunning();
    if (asUser)
      journal.append({ type: 'stopping', operation, signal, deadlineMs: NO_DEADLINE, restart: false, kill: true });
    if (!generation) return restarts.cancel();
    this.#send(generation, signal);
    if (asUser || signal === SIGKILL) await generations.resumeIfPaused();
  }

  /** Resolves when the container is dead and its resources are released. @throws Refused */
  async stop(operation: string, signal: number, timeoutSeconds: number): Promise<void> {
    const resumed = this.#resumed.get(operation);
    if (resumed) return resumed;
    const { journal, phases, generations, restarts } = this.deps;
    await phases.settled();
    const deadlineMs = deadlineFrom(timeoutSeconds);
    if (phases.current !== 'backoff') generations.requireRunning();
    journal.append({ type: 'stopping', operation, signal, deadlineMs, restart: false });
    if (phases.current === 'backoff') await restarts.cancel();
    else await this.#bringDown({ signal, deadlineMs, sent: false });
    journal.append({ type: 'stopped', operation });
  }

  /** Resolves when the container runs again. @throws Refused */
  async restart(operation: string, signal: number, timeoutSeconds: number): Promise<void> {
    const resumed = this.#resumed.get(operation);
    if (resumed) return resumed;
    const { journal, phases, generations, restarts } = this.deps;
    const doneByDeadShim = journal.recent.some((r) => r.type === 'restarted' && r.operation === operation);
    if (doneByDeadShim) return;
    await phases.settled();
    const deadlineMs = deadlineFrom(timeoutSeconds);
    if (phases.current !== 'backoff') generations.requireRunning();
    await restarts.byClient(operation, async () => {
      journal.append({ type: 'stopping', operation, signal, deadlineMs, restart: true });
      if (phases.current !== 'backoff') await this.#bringDown({ signal, deadlineMs, sent: false });
    });
  }

  /** Stops the container within its own stop timeout, which is not a user's stop. */
  async hostGoesDown(): Promise<void> {
    const { journal, phases, specFile, generations, restarts } = this.deps;
    restarts.hostGoesDown();
    journal.append({ type: 'shutdown' });
    if (phases.current === 'created')
      await generations.abandon('', { message: 'the host is shutting down', code: 128 });
    await phases.settled();
    if (phases.current === 'backoff') await restarts.cancel();
    if (phases.isUp) {
      const { stopSignal, stopTimeout } = specFile.definition.spec;
      await this.#bringDown({ signal: stopSignal, deadlineMs: deadlineFrom(stopTimeout), sent: false });
    }
    await journal.durable();
  }

  /** Continues the signals, stops and restarts that a dead shim had not finished. */
  resume(): void {
    for (const intent of this.deps.journal.pending.intents) {
      const resumed = this.#resume(intent);
      this.#resumed.set(intent.operation, resumed);
      void resumed.catch((error: unknown) => this.deps.logError(`resuming ${intent.operation}`, error));
    }
  }

  async #resume({ operation, signal, deadlineMs, restart, kill, since, sent }: StopIntent): Promise<void> {
    const { journal, phases, generations, restarts } = this.deps;
    if (kill) {
      if (!sent && phases.isUp) this.#send(generations.requireRunning(), signal);
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

  /** Resolves when the generation is dead, its end is on disk and its resources are released. @throws Refused */
  async #bringDown({ signal, deadlineMs, sent }: BringDown): Promise<void> {
    const { generations } = this.deps;
    const generation = generations.requireRunning();
    const { ended } = generations;
    if (!sent) this.#send(generation, signal);
    await generations.resumeIfPaused();
    const timers: NodeJS.Timeout[] = [];
    const force = (): void => {
      this.#send(generation, SIGKILL);
      // A pause may have come after the first signal.
      void generations.resumeIfPaused().catch((error: unknown) => this.deps.logError('resuming to stop', error));
      timers.push(setTimeout(() => generation.killAll(), STRAGGLERS_AFTER_MS));
    };
    if (deadlineMs === 0 && signal !== SIGKILL) force();
    else if (deadlineMs >= 0) timers.push(setTimeout(force, Math.min(deadlineMs, LONGEST_TIMER_MS)));
    await generation.init.death;
    for (const timer of timers) clearTimeout(timer);
    await ended;
  }

  #send(generation: Generation, signal: number): void {
    faultPoint('signal.before');
    if (!generation.kill(signal)) return;
    faultPoint('signal.sent');
    this.deps.journal.append({ type: 'killed', signal });
  }
}

/** Milliseconds. */
const deadlineFrom = (seconds: number): number => (seconds < 0 ? NO_DEADLINE : seconds * 1000);
