/** Carries out one action of a script on its container, and checks its answer and its effect. */
import type { Life } from './life.ts';
import { operate, pidsLimit, renamed, SENDS, SUCCESS, together } from './operate.ts';
import { bodyOf } from './roles.ts';
import type { Verb } from './script.ts';
import { SPECIAL, type Special } from './special.ts';
import type { World } from './world.ts';

/** @param targetId what a joining container joins; '' when there is none */
export async function create(world: World, life: Life, targetId: string): Promise<void> {
  if (life.exists) {
    const again = await world.call('POST', `/containers/create?name=${life.name}`, {
      Image: 'busybox',
      Cmd: ['true'],
    });
    if (world.isUnknown(again, `create ${life.name} again`)) return;
    if (again.answer!.status !== 409) world.fail(`create ${life.name} again: ${again.answer!.status}`);
    return;
  }
  const body = bodyOf(life.role, life.directory, `v-${life.role.name}`, targetId);
  let tried = false;
  const answer = await world.ask(
    `create ${life.name}`,
    () => world.call('POST', `/containers/create?name=${life.name}`, body),
    {
      onUnknown: () => (tried = true),
    },
  );
  if (answer === undefined) return;
  if (answer.status === 201) life.id = (answer.json as { Id: string }).Id;
  else if (answer.status === 409 && tried)
    life.id = ((await world.get(`/containers/${life.name}/json`))?.json as { Id: string } | undefined)?.Id ?? '';
  // A container to join must exist.
  else if (life.role.joins !== undefined && [400, 404, 409, 500].includes(answer.status)) return;
  else world.fail(`create ${life.name}: ${answer.status} ${answer.text.trim()}`);
  if (life.id !== '') life.states = new Set(['created']);
}

export async function perform(world: World, life: Life, verb: Verb, arg: number, twin?: Verb): Promise<void> {
  if (['rm', 'rm-f', 'prune'].includes(verb) || (twin !== undefined && ['rm', 'rm-f', 'prune'].includes(twin)))
    await life.checkLog();
  if (twin !== undefined && twin in SENDS && verb in SENDS) await together(world, life, [verb, twin], arg);
  else await (SPECIAL[verb] ?? plain)(world, life, arg, verb);
  if (world.stopped) return;
  const wasThere = life.exists;
  await life.observe(verb);
  if (wasThere && !life.exists) await life.checkEvents();
}

const plain: Special = async (world, life, arg, verb) => {
  const answer = await operate(world, life, verb, arg);
  if (answer === undefined || !SUCCESS.includes(answer.status)) return;
  const inspected = ['rename', 'update'].includes(verb) ? await life.inspect() : undefined;
  if (inspected && verb === 'rename' && inspected.Name !== `/${renamed(life, arg)}`)
    world.fail(`rename ${life.label}: its name is ${inspected.Name} afterwards`);
  if (verb === 'rename') life.name = renamed(life, arg);
  if (inspected && verb === 'update' && inspected.HostConfig.PidsLimit !== pidsLimit(arg))
    world.fail(`update ${life.label}: PidsLimit is ${inspected.HostConfig.PidsLimit} afterwards`);
  if (verb === 'commit') {
    const name = `chaos-commit:n${life.role.name}-${arg}`;
    const gone = await world.ask(`rmi ${name}`, () => world.call('DELETE', `/images/${name}`));
    if (gone && ![200, 404].includes(gone.status)) world.fail(`rmi ${name}: ${gone.status} ${gone.text}`);
  }
};
