/** A run's actions. They depend on the seed alone. A script is a file of one JSON object per line. */
import { Random } from './random.ts';
import { LANES, ROLES, isOnBridge, type Role } from './roles.ts';

/** What is done to the container, or beside it, by one action. */
export type Verb =
  | 'create'
  | 'start'
  | 'stop'
  | 'kill'
  | 'signal'
  | 'restart'
  | 'pause'
  | 'unpause'
  | 'rm'
  | 'rm-f'
  | 'prune'
  | 'rename'
  | 'update'
  | 'exec'
  | 'attach'
  | 'connect'
  | 'disconnect'
  | 'copy'
  | 'commit'
  | 'logs'
  | 'inspect'
  | 'wait-stop'
  | 'exit'
  | 'burst'
  | 'top'
  | 'probe'
  | 'image'
  | 'load'
  | 'volume'
  | 'network'
  | 'list'
  | 'events';

export type FaultKind =
  | 'daemon-kill'
  | 'daemon-term'
  | 'daemon-freeze'
  | 'shim-kill'
  | 'shim-freeze'
  | 'keeper-kill'
  | 'keeper-freeze'
  | 'listener-kill'
  | 'dns-kill'
  | 'dns-freeze'
  | 'proxy-kill'
  | 'proxy-freeze'
  | 'runtime-kill'
  | 'runtime-freeze'
  | 'disk-full'
  | 'firewall-flush';

export interface Fault {
  kind: FaultKind;
  /** After the action was sent, ms. */
  afterMs: number;
  /** How long the daemon stays dead, a process frozen, the disk full, ms. */
  lastsMs: number;
}

export interface Action {
  n: number;
  lane: number;
  /** Index in ROLES. */
  place: number;
  verb: Verb;
  /** Whatever the verb needs by chance: an exit code, a name. */
  arg: number;
  /** A second operation on the same container at the same time. */
  twin?: Verb;
  fault?: Fault;
}

export interface Script {
  seed: number;
  actions: Action[];
}

/** Rough states by which the generator chooses what makes sense next. */
type Guess = 'absent' | 'created' | 'running' | 'paused' | 'exited';

const SENSIBLE: Record<Guess, Partial<Record<Verb, number>>> = {
  absent: { create: 30, list: 1, image: 1, load: 1, volume: 1, network: 1 },
  created: { start: 30, rm: 2, rename: 2, connect: 2, copy: 2, commit: 1, update: 1, inspect: 1 },
  running: {
    stop: 5,
    kill: 4,
    signal: 4,
    restart: 6,
    pause: 5,
    rm: 1,
    'rm-f': 4,
    rename: 3,
    update: 3,
    exec: 9,
    attach: 4,
    connect: 3,
    disconnect: 2,
    copy: 3,
    commit: 1,
    logs: 4,
    inspect: 2,
    'wait-stop': 4,
    exit: 6,
    burst: 5,
    top: 1,
    probe: 5,
    image: 1,
    load: 1,
    volume: 1,
    network: 1,
    list: 2,
    events: 1,
    start: 1,
  },
  paused: { unpause: 12, stop: 2, kill: 2, 'rm-f': 2, exec: 1, restart: 2, logs: 1, update: 1, pause: 1, copy: 1 },
  exited: { start: 20, restart: 4, rm: 4, prune: 4, 'rm-f': 2, rename: 2, copy: 2, commit: 1, logs: 2, stop: 1 },
};
const ANY = [...new Set(Object.values(SENSIBLE).flatMap((weights) => Object.keys(weights) as Verb[]))];
/** Operations on the container itself, whose pairs make sense. */
const TWINS: readonly Verb[] = [
  'start',
  'stop',
  'kill',
  'restart',
  'pause',
  'unpause',
  'rm',
  'rm-f',
  'prune',
  'rename',
  'update',
  'exec',
  'logs',
];
const TWIN_SHARE = 0.08;
const NONSENSE_SHARE = 0.08;
const FAULT_SHARE = 0.22;
const FAULTS: Record<FaultKind, number> = {
  'daemon-kill': 14,
  'daemon-term': 3,
  'daemon-freeze': 4,
  'shim-kill': 16,
  'shim-freeze': 6,
  'keeper-kill': 6,
  'keeper-freeze': 2,
  'listener-kill': 3,
  'dns-kill': 3,
  'dns-freeze': 2,
  'proxy-kill': 3,
  'proxy-freeze': 1,
  'runtime-kill': 8,
  'runtime-freeze': 4,
  'disk-full': 4,
  'firewall-flush': 3,
};

/** @param withHostFaults whether the run has a network namespace of its own, whose firewall it may flush */
export function generate(seed: number, count: number, withHostFaults = true): Script {
  const random = new Random(seed);
  const guesses: Guess[] = ROLES.map(() => 'absent');
  const { 'firewall-flush': _flush, ...mild } = FAULTS;
  const faults = withHostFaults ? FAULTS : mild;
  const actions: Action[] = [];
  for (let n = 0; n < count; n++) {
    const place = random.below(ROLES.length);
    const role = ROLES[place]!;
    const guess = guesses[place]!;
    const verb = fitting(role, random.chance(NONSENSE_SHARE) ? random.pick(ANY) : random.weighted(SENSIBLE[guess]));
    const action: Action = { n, lane: place % LANES, place, verb, arg: random.below(1_000_000) };
    if (TWINS.includes(verb) && random.chance(TWIN_SHARE)) action.twin = random.pick(TWINS);
    if (random.chance(FAULT_SHARE)) {
      const kind = random.weighted<FaultKind>(faults);
      const afterMs = random.chance(0.7) ? random.below(120) : random.below(1_000);
      action.fault = { kind, afterMs, lastsMs: 50 + random.below(random.chance(0.2) ? 3_000 : 700) };
    }
    actions.push(action);
    guesses[place] = after(guess, role, verb);
    if (action.twin !== undefined) guesses[place] = after(guesses[place], role, action.twin);
  }
  return { seed, actions };
}

function fitting(role: Role, verb: Verb): Verb {
  if ((verb === 'connect' || verb === 'disconnect') && !isOnBridge(role)) return 'inspect';
  return verb;
}

function after(guess: Guess, role: Role, verb: Verb): Guess {
  const ended = role.autoRemove ? 'absent' : 'exited';
  const lives = guess === 'running' || guess === 'paused';
  if (guess === 'absent') return verb === 'create' ? 'created' : 'absent';
  switch (verb) {
    case 'start':
      return guess === 'paused' ? 'paused' : 'running';
    case 'restart':
      return 'running';
    case 'stop':
    case 'kill':
    case 'signal':
    case 'wait-stop':
      return lives ? ended : guess;
    case 'exit':
      return guess !== 'running' || role.policy !== undefined ? guess : ended;
    case 'pause':
      return guess === 'running' ? 'paused' : guess;
    case 'unpause':
      return guess === 'paused' ? 'running' : guess;
    case 'rm':
    case 'prune':
      return lives || (guess === 'created' && verb === 'prune') ? guess : 'absent';
    case 'rm-f':
      return 'absent';
    default:
      return guess;
  }
}

export const format = ({ seed, actions }: Script): string =>
  [JSON.stringify({ seed }), ...actions.map((action) => JSON.stringify(action))].join('\n') + '\n';

/** @throws when the text is not a script */
export function parse(text: string): Script {
  const [head, ...actions] = text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as unknown);
  return { seed: (head as { seed: number }).seed, actions: actions as Action[] };
}
