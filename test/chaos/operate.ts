/** Docker's operations on a container: sent until they are answered, and judged by the model. */
import type { Answer } from '../support/http.ts';
import type { Life } from './life.ts';
import { afterUnknown, follow, type Status } from './model.ts';
import { USER_NETWORK } from './roles.ts';
import type { Verb } from './script.ts';
import type { Reply, World } from './world.ts';

/** Events that an operation causes exactly once when it succeeds. */
const EVENT_OF: Partial<Record<Verb, string>> = {
  pause: 'pause',
  unpause: 'unpause',
  rename: 'rename',
  update: 'update',
  restart: 'restart',
  commit: 'commit',
};
/** What resumes a paused container, with that event. */
const RESUMES: readonly Verb[] = ['stop', 'wait-stop', 'kill', 'signal', 'restart', 'rm-f'];
export const SUCCESS = [200, 201, 204];

type Send = (life: Life, arg: number, world: World) => Promise<Reply>;

const post =
  (path: string): Send =>
  (life, _, world) =>
    world.call('POST', `/containers/${life.id}/${path}`);

export const SENDS: Partial<Record<Verb, Send>> = {
  start: post('start'),
  stop: post('stop?t=1'),
  'wait-stop': post('stop?t=1'),
  kill: post('kill'),
  signal: post('kill?signal=USR1'),
  restart: post('restart?t=1'),
  pause: post('pause'),
  unpause: post('unpause'),
  rm: (life, _, world) => world.call('DELETE', `/containers/${life.id}?v=1`),
  'rm-f': (life, _, world) => world.call('DELETE', `/containers/${life.id}?v=1&force=1`),
  prune: ({ role }, _, world) =>
    world.call(
      'POST',
      `/containers/prune?filters=${encodeURIComponent(JSON.stringify({ label: [`role=${role.name}`] }))}`,
    ),
  rename: (life, arg, world) => world.call('POST', `/containers/${life.id}/rename?name=${renamed(life, arg)}`),
  update: (life, arg, world) => world.call('POST', `/containers/${life.id}/update`, { PidsLimit: pidsLimit(arg) }),
  connect: (life, _, world) => world.call('POST', `/networks/${USER_NETWORK}/connect`, { Container: life.id }),
  disconnect: (life, _, world) => world.call('POST', `/networks/${USER_NETWORK}/disconnect`, { Container: life.id }),
  commit: (life, arg, world) =>
    world.call('POST', `/commit?container=${life.id}&repo=chaos-commit&tag=n${life.role.name}-${arg}&pause=0`),
  inspect: (life, _, world) => world.call('GET', `/containers/${life.id}/json`),
  top: (life, _, world) => world.call('GET', `/containers/${life.id}/top`),
};

export const renamed = (life: Life, arg: number): string => `n${life.role.name}-${arg}`;
export const pidsLimit = (arg: number): number => 200 + (arg % 100);

/** An operation that Docker answers by itself: sent until it is answered, and judged by the model. */
export async function operate(world: World, life: Life, verb: Verb, arg: number): Promise<Answer | undefined> {
  const send = SENDS[verb]!;
  let lost = false;
  const answer = await world.ask(`${verb} ${life.label}`, () => send(life, arg, world), {
    id: life.id,
    isFinal: ({ status }) => follow(verb, life.role, life.now(), status).size > 0,
    // A removal by --rm, or one that a dead daemon began.
    isPending: ({ text }) => text.includes('already in progress'),
    onUnknown: () => {
      lost = true;
      counted(life, verb, false);
      life.states = afterUnknown(verb, life.role, life.now());
    },
  });
  if (answer === undefined) return undefined;
  const from = life.now();
  const { status } = answer;
  const next = follow(verb, life.role, from, status);
  if (SUCCESS.includes(status)) counted(life, verb, true);
  const isRepeatedRename = verb === 'rename' && lost && [400, 409].includes(status);
  if (next.size === 0 && !isRepeatedRename)
    world.fail(`${verb} ${life.label}: ${status} ${answer.text.trim()} while ${[...from].join(' or ')}`);
  settle(world, life, verb, status, next.size === 0 ? from : next);
  return answer;
}

function counted(life: Life, verb: Verb, isSure: boolean): void {
  const event = EVENT_OF[verb];
  if (event !== undefined) life.counted(event, isSure);
  if (RESUMES.includes(verb)) life.counted('unpause', false);
}

function settle(world: World, life: Life, verb: Verb, status: number, next: Set<Status>): void {
  life.states = next;
  if (['stop', 'wait-stop', 'kill', 'signal'].includes(verb) && SUCCESS.includes(status)) {
    life.daemonsAtEnd = world.faults.daemonsStarting;
    life.mayEnd = false;
  }
  if (['start', 'restart'].includes(verb) && SUCCESS.includes(status)) {
    life.daemonsAtEnd = Infinity;
    life.mayEnd = false;
  }
}

/** Two operations at the same time: their answers are those that some order of their steps gives. */
export async function together(world: World, life: Life, verbs: readonly [Verb, Verb], arg: number): Promise<void> {
  const { role } = life;
  const [first, second] = verbs;
  const step = (verb: Verb, from: Set<Status>): Set<Status> => afterUnknown(verb, role, from);
  const from = life.now();
  life.states = step(first, step(second, step(first, from)));
  const replies = await Promise.all(
    verbs.map(async (verb, at) => ({ verb, reply: await (SENDS[verb] ?? SENDS.inspect!)(life, arg + at, world) })),
  );
  for (const { verb, reply } of replies) {
    const what = `${verb} ${life.label} beside ${verbs.find((other) => other !== verb) ?? verb}`;
    const { answer } = reply;
    const possible = life.now();
    const isRight =
      answer !== undefined &&
      // A container that is being removed refuses as being removed, or is gone.
      (follow(verb, role, possible, answer.status).size > 0 || [404, 409].includes(answer.status));
    counted(life, verb, isRight && SUCCESS.includes(answer.status));
    if (isRight || world.isUnknown(reply, what, life.id)) continue;
    world.fail(`${what}: ${answer!.status} ${answer!.text.trim()} while ${[...possible].join(' or ')}`);
  }
  const isLost = ({ reply }: (typeof replies)[number]): boolean =>
    reply.answer === undefined || reply.answer.status >= 500;
  // What was not answered may still happen: repeated until it is answered, nothing of it is left in the queue.
  for (const { verb } of replies.filter(isLost)) if (SENDS[verb]) await operate(world, life, verb, arg);
  if (verbs.some((verb) => ['stop', 'kill', 'restart'].includes(verb)))
    life.daemonsAtEnd = Math.min(life.daemonsAtEnd, world.faults.daemonsStarting - 1);
}
