/**
 * What operations on one container may leave: the states that serial orders of their steps give, each operation done
 * or not done. Pure. test/e2e/operation-pairs.test.ts measures the same with a daemon.
 */

/** What a client sees of a container. `down`: it does not run. */
export interface Seen {
  status: 'gone' | 'down' | 'running' | 'paused';
  renamed: boolean;
  limited: boolean;
  bridge: boolean;
  pairs: boolean;
}

export type OperationName = keyof typeof STEPS;

/** `done` is what its answer says: undefined where there was none. */
export interface Attempt {
  name: OperationName;
  done: boolean | undefined;
}

type Step = (seen: Seen) => Seen;

const to =
  (status: Seen['status'], ...from: Seen['status'][]): Step =>
  (seen) =>
    from.includes(seen.status) ? { ...seen, status } : seen;
const set =
  (change: Partial<Seen>): Step =>
  (seen) => ({ ...seen, ...change });

const start = to('running', 'down');
const end = to('down', 'running', 'paused');
const remove = to('gone', 'down');

/** Where Docker does an operation in steps, another one may come in between. */
const STEPS = {
  start: [start],
  stop: [end],
  kill: [end],
  restart: [end, start],
  pause: [to('paused', 'running')],
  rm: [remove],
  'rm -f': [end, remove],
  prune: [remove],
  rename: [set({ renamed: true })],
  update: [set({ limited: true })],
  exec: [],
  attach: [],
  connect: [set({ pairs: true })],
  disconnect: [set({ bridge: false })],
  cp: [],
  commit: [],
  // The process ends by itself, and its policy starts it again.
  crash: [],
  // It writes more than one log file, or journal, may contain.
  write: [],
} as const satisfies Record<string, readonly Step[]>;

/** Comparable with `===`. */
export const keyOf = (seen: Seen): string => (seen.status === 'gone' ? 'gone' : JSON.stringify(seen));

/** The keys of all states that are allowed after these attempts, which were made at the same time. */
export function allowedStates(before: Seen, attempts: readonly Attempt[]): Set<string> {
  const [attempt, ...others] = attempts;
  return attempt ? merged(before, [], attempt, others) : new Set([keyOf(before)]);
}

function merged(before: Seen, steps: Step[][], attempt: Attempt, others: readonly Attempt[]): Set<string> {
  const choices = [
    ...(attempt.done === false ? [] : [[...steps, [...STEPS[attempt.name]]]]),
    ...(attempt.done === true ? [] : [steps]),
  ];
  const [next, ...rest] = others;
  return new Set(
    choices.flatMap((chosen) => [...(next ? merged(before, chosen, next, rest) : interleaved(before, chosen))]),
  );
}

function interleaved(seen: Seen, lists: readonly Step[][]): Set<string> {
  const open = lists.filter((list) => list.length > 0);
  if (open.length === 0) return new Set([keyOf(seen)]);
  return new Set(
    open.flatMap((list) => {
      const [step, ...rest] = list;
      return [
        ...interleaved(
          step!(seen),
          open.map((other) => (other === list ? rest : other)),
        ),
      ];
    }),
  );
}
