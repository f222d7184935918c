/** Which operations meet at which fault point. Pure, and the same in each run. */
import type { Base, Lane } from './crash-lanes.ts';
import type { OperationName } from './serial-orders.ts';

/** An operation in which something dies. */
export interface Dying {
  base: Base;
  operation: OperationName;
}

/** Operations that meet the dying one. */
export const SECONDS: readonly OperationName[] = [
  ...(['start', 'stop', 'kill', 'rm', 'rm -f', 'prune', 'rename', 'update'] as const),
  ...(['restart', 'exec', 'attach', 'connect', 'disconnect', 'pause', 'cp', 'commit'] as const),
];
/** Those that leave the container as it is: beside them each operation reaches its points. */
const HARMLESS: readonly OperationName[] = ['attach', 'cp', 'rename', 'update'];
/** Between the two requests, ms: in flight at once, or queued behind the first. */
const APART = [0, 8, 40];

/** `name#1` to `name#often` of the points that were passed. */
export type Passings = Map<string, number>;

export function passingsOf(points: readonly string[]): Passings {
  const often: Passings = new Map();
  for (const name of points) often.set(name, (often.get(name) ?? 0) + 1);
  return often;
}

/** The first, the second and the last passing of a point that is passed often. */
export const someOf = (often: number): number[] => [...new Set([1, Math.min(2, often), often])];

/** The `k`-th lane for a dying operation: each second operation in turn, sent before or after it. */
export function lane({ base, operation }: Dying, k: number, { shim = '' } = {}): Lane {
  const second = SECONDS[k % SECONDS.length]!;
  const isFirst = Math.floor(k / SECONDS.length) % 2 === k % 2;
  return {
    base,
    operations: isFirst ? [operation, second] : [second, operation],
    apart: APART[k % APART.length]!,
    shim,
  };
}

/** A lane in which the operation reaches its points whatever the machine does. */
export const harmlessLane = ({ base, operation }: Dying, k: number, { shim = '' } = {}): Lane => ({
  base,
  operations: [operation, HARMLESS[k % HARMLESS.length]!],
  apart: APART[k % APART.length]!,
  shim,
});

/** All of `list`, in pieces of `size`. */
export const pieces = <T>(list: readonly T[], size: number): T[][] =>
  Array.from({ length: Math.ceil(list.length / size) }, (_, i) => list.slice(i * size, (i + 1) * size));
