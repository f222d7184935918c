/** What each operation may answer and leave behind, by the state that it finds. Pure. */
import type { Role } from './roles.ts';
import type { Verb } from './script.ts';

export type Status = 'absent' | 'created' | 'running' | 'paused' | 'restarting' | 'exited';

export interface Outcome {
  codes: readonly number[];
  next: readonly Status[];
}

const outcome = (codes: number | readonly number[], ...next: Status[]): Outcome => ({ codes: [codes].flat(), next });
const CONFLICT = 409;
const NOT_FOUND = 404;

/** dockerd 28's answers. A verb that is not named here changes no state, and any container answers it. */
export function outcomes(verb: Verb, status: Status, role: Role): Outcome[] {
  if (verb === 'create') return status === 'absent' ? [outcome(201, 'created')] : [outcome(CONFLICT, status)];
  if (verb === 'prune') {
    const goes = status === 'created' || status === 'exited' || status === 'absent';
    return [outcome(200, goes ? 'absent' : status)];
  }
  if (status === 'absent') return [outcome(NOT_FOUND, 'absent')];
  // What --rm is about to remove may refuse as being removed.
  const leaving = role.autoRemove && status === 'exited' ? [outcome(CONFLICT, 'absent')] : [];
  return [...existing(verb, status, role), ...leaving];
}

function existing(verb: Verb, status: Exclude<Status, 'absent'>, role: Role): Outcome[] {
  const isRunning = status === 'running';
  const lives = isRunning || status === 'paused' || status === 'restarting';
  const stay = (codes: number | readonly number[]): Outcome[] => [outcome(codes, status)];
  switch (verb) {
    case 'start':
      if (status === 'paused') return stay(CONFLICT);
      if (lives) return stay(304);
      // The target of a joining container may not run.
      return [
        outcome(204, 'running'),
        // One that fails removes a container with --rm.
        ...(role.autoRemove ? [outcome([], 'absent')] : []),
        ...(role.joins === undefined ? [] : stay([CONFLICT, NOT_FOUND, 400, 500])),
      ];
    case 'stop':
    case 'wait-stop':
      return lives ? [outcome(204, 'exited')] : stay(304);
    case 'kill':
    case 'signal':
      return lives ? [outcome(204, 'exited')] : stay(CONFLICT);
    case 'restart':
      return [
        outcome(204, 'running'),
        ...(role.joins === undefined ? [] : [outcome([CONFLICT, NOT_FOUND, 500], status, 'exited')]),
      ];
    case 'pause':
      return isRunning ? [outcome(204, 'paused')] : stay(CONFLICT);
    case 'unpause':
      // dockerd's error has no type here, so it is a 500.
      return status === 'paused' ? [outcome(204, 'running')] : stay(500);
    case 'rm':
      return lives ? stay(CONFLICT) : [outcome(204, 'absent')];
    case 'rm-f':
      return [outcome(204, 'absent')];
    case 'rename':
      return stay(204);
    case 'exec':
      return isRunning ? stay(200) : stay(CONFLICT);
    case 'top':
      if (status === 'paused') return stay(200);
      return isRunning ? stay(200) : stay([CONFLICT, 500]);
    case 'attach':
      return isRunning || status === 'created' || status === 'exited' ? stay(101) : stay([101, CONFLICT]);
    case 'connect':
    case 'disconnect':
      return stay([200, 403, 404, 409, 500]);
    case 'commit':
      return stay(201);
    default:
      return stay(200);
  }
}

/** Where a container may have gone by itself. */
export interface Drift {
  /** Daemons that have started since the container was stopped. */
  daemonsSince: number;
  /** Its witness was told to end, or may have been. */
  endsByItself: boolean;
}

/** The states that a container in one of `from` may be in meanwhile. */
export function drifted(from: ReadonlySet<Status>, role: Role, { daemonsSince, endsByItself }: Drift): Set<Status> {
  const to = new Set(from);
  const add = (when: Status, ...then: Status[]): void => {
    if (to.has(when)) for (const status of then) to.add(status);
  };
  for (let size = -1; size !== to.size;) {
    size = to.size;
    const mayRestart = role.policy !== undefined;
    // `exited` is seen for a moment before a restart by policy.
    if (endsByItself && mayRestart) {
      add('running', 'restarting', 'exited');
      add('exited', 'restarting');
    }
    if (endsByItself) add('running', 'exited');
    if (mayRestart) add('restarting', 'running');
    if (daemonsSince > 0 && (role.policy === 'always' || role.policy === 'on-failure')) add('exited', 'running');
    if (role.autoRemove) add('exited', 'absent');
  }
  return to;
}

/** The states after the answer `code`; empty when no state explains it. */
export function follow(verb: Verb, role: Role, from: ReadonlySet<Status>, code: number): Set<Status> {
  const next = [...from].flatMap((status) =>
    outcomes(verb, status, role)
      .filter(({ codes }) => codes.includes(code))
      .flatMap((found) => found.next),
  );
  return new Set(next);
}

/** The states after an operation whose answer is not known. */
export function afterUnknown(verb: Verb, role: Role, from: ReadonlySet<Status>): Set<Status> {
  return new Set([...from, ...[...from].flatMap((status) => outcomes(verb, status, role).flatMap(({ next }) => next))]);
}
