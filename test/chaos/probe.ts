/** Whether a container is reached by its port and its name. */
import { setTimeout as sleep } from 'node:timers/promises';
import { unframe } from '../support/frames.ts';
import type { Life } from './life.ts';
import type { World } from './world.ts';

const FETCH_MS = 2_000;
const POLL_MS = 200;
/** The rules and helpers that a fault took away are put back within seconds. */
const REACHED_MS = 40_000;

/** Does nothing unless the container is certain to run. */
export async function probe(world: World, life: Life): Promise<void> {
  const isRunning = (): boolean => life.now().has('running') && life.now().size === 1;
  if (life.role.web) await reach(world, life, 'its port', () => fetchPage(life));
  if (life.role.network === 'user' && isRunning()) await reach(world, life, 'its name', () => resolveName(world, life));
}

/** @param attempt its result is '' when the container was reached, undefined when it need not be reachable */
async function reach(
  world: World,
  life: Life,
  what: string,
  attempt: () => Promise<string | undefined>,
): Promise<void> {
  let reason: string | undefined;
  const end = Date.now() + REACHED_MS;
  do {
    reason = await attempt();
    if (!reason || world.stopped) return;
    await sleep(POLL_MS);
  } while (Date.now() < end);
  world.fail(`probe ${life.label}: ${what} does not lead to it: ${reason}`);
}

async function fetchPage(life: Life): Promise<string | undefined> {
  const inspected = await life.inspect();
  if (inspected?.State.Status !== 'running') return undefined;
  const port = inspected.NetworkSettings.Ports['80/tcp']?.[0]?.HostPort;
  if (port === undefined) return 'no port is published';
  try {
    const answer = await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(FETCH_MS) });
    const text = await answer.text();
    return /^run \d+$/m.test(text) ? '' : `it answers ${answer.status} ${text}`;
  } catch (error) {
    const { message, cause } = error as Error;
    return cause instanceof Error ? cause.message : message;
  }
}

async function resolveName(world: World, life: Life): Promise<string | undefined> {
  const created = await world.call('POST', `/containers/${life.id}/exec`, {
    AttachStdout: true,
    AttachStderr: true,
    Cmd: ['timeout', '3', 'nslookup', life.name],
  });
  if (created.answer?.status !== 201) return created.answer?.status === 409 ? undefined : 'no exec';
  const { Id } = created.answer.json as { Id: string };
  const { answer } = await world.call('POST', `/exec/${Id}/start`, { Detach: false });
  if (answer?.status !== 200) return answer?.status === 409 ? undefined : 'no exec';
  const { 1: out, 2: errors } = unframe(answer.body);
  return out.includes(`Name:\t${life.name}`) || /Name:\s+\S*/.test(out) ? '' : `${out} ${errors}`;
}
