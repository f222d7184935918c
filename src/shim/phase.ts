/** Where the container stands between the operations, and which of them may come next. The only place that knows it. */
import { Refused } from './refused.ts';

export type Phase =
  /** No generation. */
  | 'idle'
  /** The runtime makes it. */
  | 'creating'
  /** Its init waits to be started; the daemon sets up the network meanwhile. */
  | 'created'
  | 'starting'
  | 'running'
  | 'paused'
  /** Its init is dead, the rest is being cleared away. */
  | 'ending'
  /** Dead; the restart policy will start it again. */
  | 'backoff'
  /** Dead; a `restart` under way will start it again. */
  | 'between';

/** Each move: from which phases it may be made, and where it leads. */
const moves = {
  create: { idle: 'creating' },
  recreate: { backoff: 'creating', between: 'creating' },
  created: { creating: 'created' },
  start: { created: 'starting' },
  started: { starting: 'running' },
  abandon: { created: 'ending' },
  pause: { running: 'paused' },
  resume: { paused: 'running' },
  die: { created: 'ending', starting: 'ending', running: 'ending', paused: 'ending' },
  fail: { creating: 'idle', starting: 'idle', ending: 'idle' },
  retry: { ending: 'backoff' },
  await: { ending: 'between' },
  finish: { ending: 'idle', backoff: 'idle', between: 'idle' },
  // A shim that takes over a container begins where the dead one stood.
  adoptRunning: { idle: 'running', ending: 'running' },
  adoptPaused: { idle: 'paused' },
  adoptBackoff: { idle: 'backoff', ending: 'backoff' },
  adoptBetween: { idle: 'between', ending: 'between' },
  clear: { idle: 'ending' },
} as const satisfies Record<string, Partial<Record<Phase, Phase>>>;

export type Move = keyof typeof moves;

/** An init is there, and a signal reaches the container's own process. */
export const isUp = (phase: Phase): boolean => phase === 'running' || phase === 'paused';

/** Soon it will be something else without anybody's doing. */
export const isPassing = (phase: Phase): boolean => phase !== 'idle' && phase !== 'backoff' && !isUp(phase);

/** Where `move` leads from `phase`. @throws Refused where it may not be made */
export function next(phase: Phase, move: Move, container: string): Phase {
  const to = (moves[move] as Partial<Record<Phase, Phase>>)[phase];
  if (to === undefined) throw new Refused('conflict', refusal(phase, move, container));
  return to;
}

// moby's words, where it has any (daemon/errors.go, pause.go, unpause.go).
function refusal(phase: Phase, move: Move, container: string): string {
  if (move === 'pause')
    return phase === 'paused' ? `container ${container} is already paused` : `container ${container} is not running`;
  if (move === 'resume') return `Container ${container} is not paused`;
  return `container ${container} is ${phase}: cannot ${move} it`;
}

/** The phase of one container. Who changes it does so in his turn; who only needs it to be settled waits for that. */
export class Phases {
  #current: Phase = 'idle';
  #lastTurn: Promise<unknown> = Promise.resolve();
  #waitingToSettle: (() => void)[] = [];

  constructor(private readonly container: string) {}

  get current(): Phase {
    return this.#current;
  }

  get isUp(): boolean {
    return isUp(this.#current);
  }

  /** @throws Refused when `move` may not be made now */
  check(move: Move): void {
    next(this.#current, move, this.container);
  }

  /** @throws Refused when it may not be made */
  move(move: Move): void {
    this.#current = next(this.#current, move, this.container);
    if (isPassing(this.#current)) return;
    for (const settled of this.#waitingToSettle.splice(0)) settled();
  }

  /** Resolves when the phase is not a passing one. */
  async settled(): Promise<void> {
    while (isPassing(this.#current)) await new Promise<void>((resolve) => this.#waitingToSettle.push(resolve));
  }

  /** Does `work` after all turns that were asked for before, and before all later ones. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#lastTurn.then(work);
    this.#lastTurn = turn.catch(() => {});
    return turn;
  }
}
