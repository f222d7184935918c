/** Actions that concern no container of the cast: images, volumes, networks, lists and events. */
import type { Life } from './life.ts';
import type { Verb } from './script.ts';
import type { Reply, World } from './world.ts';

export const SIDE: readonly Verb[] = ['image', 'load', 'volume', 'network', 'list', 'events'];

export async function performSide(world: World, verb: Verb, arg: number, lives: readonly Life[]): Promise<void> {
  switch (verb) {
    case 'image':
      return tagImage(world, arg);
    case 'load':
      return saveAndLoad(world);
    case 'volume':
      return comeAndGo(world, `v${arg}`, '/volumes', { Name: `v${arg}` });
    case 'network':
      return comeAndGo(world, `n${arg}`, '/networks', { Name: `n${arg}`, Driver: 'bridge' });
    case 'list':
      return checkList(world, lives);
    default:
      return checkRecent(world, lives);
  }
}

/** Asks until it is answered. @param codes right answers; `again` more of them if an attempt may have had its effect */
async function expectAnswer(
  world: World,
  what: string,
  send: () => Promise<Reply>,
  codes: number[],
  again: number[] = [],
): Promise<void> {
  let isRepeated = false;
  const answer = await world.ask(what, send, { onUnknown: () => (isRepeated = true) });
  if (answer === undefined || codes.includes(answer.status) || (isRepeated && again.includes(answer.status))) return;
  world.fail(`${what}: ${answer.status} ${answer.text.slice(0, 300)}`);
}

async function tagImage(world: World, arg: number): Promise<void> {
  const name = `chaos-tag:n${arg}`;
  const image = `/images/${name}`;
  await expectAnswer(
    world,
    `tag ${name}`,
    () => world.call('POST', `/images/busybox/tag?repo=chaos-tag&tag=n${arg}`),
    [201],
  );
  await expectAnswer(world, `inspect ${name}`, () => world.call('GET', `${image}/json`), [200]);
  await expectAnswer(world, `rmi ${name}`, () => world.call('DELETE', image), [200], [404]);
  await expectAnswer(world, `inspect removed ${name}`, () => world.call('GET', `${image}/json`), [404]);
}

async function saveAndLoad(world: World): Promise<void> {
  const saved = await world.ask('save busybox', () => world.call('GET', '/images/busybox/get'));
  if (saved === undefined) return;
  if (saved.status !== 200) return void world.fail(`save busybox: ${saved.status} ${saved.text}`);
  const headers = { 'Content-Type': 'application/x-tar' };
  await expectAnswer(world, 'load busybox', () => world.call('POST', '/images/load', saved.body, headers), [200]);
}

async function comeAndGo(world: World, name: string, path: string, body: object): Promise<void> {
  const one = `${path}/${name}`;
  await expectAnswer(world, `create ${one}`, () => world.call('POST', `${path}/create`, body), [201], [409]);
  await expectAnswer(world, `inspect ${one}`, () => world.call('GET', one), [200]);
  await expectAnswer(world, `remove ${one}`, () => world.call('DELETE', one), [204], [404]);
  await expectAnswer(world, `inspect removed ${one}`, () => world.call('GET', one), [404]);
}

/** The list has each of this lane's containers that must be there, and none that must not. */
async function checkList(world: World, lives: readonly Life[]): Promise<void> {
  const answer = await world.get('/containers/json?all=1');
  if (answer === undefined) return;
  if (answer.status !== 200) return void world.fail(`list: ${answer.status} ${answer.text}`);
  const listed = new Set((answer.json as { Id: string }[]).map(({ Id }) => Id));
  for (const life of lives) {
    if (life.id === '') continue;
    const possible = life.now();
    if (!life.exists && listed.has(life.id)) world.fail(`${life.label} is listed after its removal`);
    if (life.exists && !possible.has('absent') && !listed.has(life.id)) world.fail(`${life.label} is not listed`);
  }
}

async function checkRecent(world: World, lives: readonly Life[]): Promise<void> {
  const life = lives.find(({ exists }) => exists);
  if (life === undefined) return;
  const filters = encodeURIComponent(JSON.stringify({ container: [life.id], event: ['create'] }));
  const answer = await world.get(`/events?since=0&until=${(Date.now() / 1000).toFixed(3)}&filters=${filters}`);
  if (answer === undefined) return;
  const count = answer.text.split('\n').filter(Boolean).length;
  if (count !== 1) world.fail(`${life.label}: ${count} create events`);
}
