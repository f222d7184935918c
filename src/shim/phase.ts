/** The container's phase, and the only table of which move may follow which. */
import { Serial } from '../async/serial.ts';
import { alreadyPaused, notPaused, notRunning } from '../protocol/refusals.ts';
import { Refused } from './refused.ts';

export type Phase =
  /** No generation. */
  | 'idle'
  /** `runtime create` is running. */
  | 'creating'
  /** The init waits for the start; the daemon sets up the network meanwhile. */
  | 'created'
  | 'starting'
  | 'running'
  /** `runtime pause` waits for execs that are being started, or is running. */
  | 'pausing'
  | 'paused'
  /** The init is dead, the rest is being cleared away. */
  | 'ending'
  /** Dead; the restart policy will start it again. */
  | 'backoff'
  /** Dead; a client's `restart` under way will start it again. */
  | 'between';

/** Each move: the phases it is allowed in, and the phase it leads to. */
const moves = {
  create: { idle: 'creating' },
  recreate: { backoff: 'creating', between: 'creating' },
  created: { creating: 'created' },
  start: { created: 'starting' },
  started: { starting: 'running' },
  abandon: { created: 'ending' },
  pause: { running: 'pausing' },
  paused: { pausing: 'paused' },
  pauseFailed: { pausing: 'running' },
  resume: { paused: 'running' },
  die: { created: 'ending', starting: 'ending', running: 'ending', pausing: 'ending', paused: 'ending' },
  fail: { creating: 'idle', starting: 'idle', ending: 'idle' },
  retry: { ending: 'backoff' },
  await: { ending: 'between' },
  finish: { ending: 'idle', backoff: 'idle', between: 'idle' },
  // A shim that takes over a container starts in the phase of the dead one.
  adoptRunning: { idle: 'running', ending: 'running' },
  adoptPaused: { idle: 'paused' },
  adoptBackoff: { idle: 'backoff', ending: 'backoff' },
  adoptBetween: { idle: 'between', ending: 'between' },
  clear: { idle: 'ending' },
} as const satisfies Record<string, Partial<Record<Phase, Phase>>>;

export type Move = keyof typeof moves;

/** The container's own process exists, so a signal reaches it. */
export const isUp = (phase: Phase): boolean => phase === 'running' || phase === 'pausing' || phase === 'paused';

/** The phase will end without a further request. */
export const isPassing = (phase: Phase): boolean =>
  phase === 'pausing' || (phase !== 'idle' && phase !== 'backoff' && !isUp(phase));

/** The phase that `move` leads to. @throws Refused when it is not allowed in `phase` */
export function next(phase: Phase, move: Move, container: string): Phase {
  const to = (moves[move] as Partial<Record<Phase, Phase>>)[phase];
  if (to === undefined) throw new Refused('conflict', refusal(phase, move, container));
  return to;
}

// moby's texts where it has one (daemon/pause.go, unpause.go).
function refusal(phase: Phase, move: Move, container: string): string {
  if (move === 'pause' || move === 'paused')
    return phase === 'paused' ? alreadyPaused(container) : notRunning(container);
  if (move === 'resume') return notPaused(container);
  return `container ${container} is ${phase}: cannot ${move} it`;
}

/** The phase of one container. It changes only within a turn, except during the takeover from a dead shim. */
export class Phases {
  #current: Phase = 'idle';
  readonly #turns = new Serial();
  #waitingToSettle: (() => void)[] = [];

  constructor(private readonly container: string) {}

  get current(): Phase {
    return this.#current;
  }

  get isUp(): boolean {
    return isUp(this.#current);
  }

  /** @throws Refused when `move` is not allowed now */
  check(move: Move): void {
    next(this.#current, move, this.container);
  }

  /** @throws Refused when `move` is not allowed now */
  move(move: Move): void {
    this.#current = next(this.#current, move, this.container);
    if (isPassing(this.#current)) return;
    for (const settled of this.#waitingToSettle.splice(0)) settled();
  }

  /** Resolves when the phase is not a passing one. */
  async settled(): Promise<void> {
    while (isPassing(this.#current)) await new Promise<void>((resolve) => this.#waitingToSettle.push(resolve));
  }

  /** Runs `work` after all turns requested before and before all requested later. A rejected turn stops no other. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    return this.#turns.run(work);
  }
}
