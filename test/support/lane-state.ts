/** What clients, the kernel and the disk show of a lane's container (crash-lanes.ts). */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { namesFor } from '../../src/config/names.ts';
import { KEEPER_SUFFIX } from '../../src/protocol/paths.ts';
import { cgroupsIn } from './cgroups.ts';
import type { TestEngine } from './engine.ts';
import { NETWORK } from './lane-operations.ts';
import { processesHolding } from './processes.ts';
import type { Seen } from './serial-orders.ts';

/** What a client sees of the container; undefined while it is between two states. */
export async function see(engine: TestEngine, id: string): Promise<Seen | undefined> {
  const { status, json } = await engine.api('GET', `/containers/${id}/json`);
  const gone: Seen = { status: 'gone', renamed: false, limited: false, bridge: false, pairs: false };
  if (status === 404) return gone;
  if (status !== 200) return undefined;
  const { Name, State, HostConfig, NetworkSettings } = json as {
    Name: string;
    State: { Status: string };
    HostConfig: { Memory: number };
    NetworkSettings: { Networks: Record<string, unknown> };
  };
  const statuses: Record<string, Seen['status']> = {
    created: 'down',
    exited: 'down',
    running: 'running',
    paused: 'paused',
  };
  const shown = statuses[State.Status];
  if (!shown) return undefined;
  return {
    status: shown,
    renamed: Name.startsWith('/renamed-'),
    limited: HostConfig.Memory > 0,
    bridge: 'bridge' in NetworkSettings.Networks,
    pairs: NETWORK in NetworkSettings.Networks,
  };
}

/** Operations of the container that run or wait. */
export async function queued(engine: TestEngine, id: string): Promise<number> {
  const { json } = await engine.api('GET', '/debug/dump');
  const { containers } = json as { containers: { id: string; queued: number }[] };
  return containers.find((c) => c.id === id)?.queued ?? 0;
}

/** What the kernel and the roots have of the container that does not belong to its state. */
export function disagreements(engine: TestEngine, id: string, { status }: Seen): string[] {
  const short = shortOf(id);
  const isUp = status === 'running' || status === 'paused';
  const run = join(engine.execRoot, 'c', short);
  const mounts = readFileSync('/proc/self/mountinfo', 'latin1')
    .split('\n')
    .filter((line) => line.includes(short));
  const directories = [join(engine.root, 'data', 'containers', id), run].filter((path) => existsSync(path));
  const keepers = keepersNoted(run);
  const cgroups = cgroupsIn(cgroupOf(engine)).filter((path) => path.includes(id));
  return [
    ...(keepers === (isUp ? 1 : 0) ? [] : [`${keepers} keepers`]),
    ...(mounts.length === (isUp ? 2 : 0) ? [] : [`${mounts.length} mounts`]),
    ...(cgroups.length > 0 === isUp ? [] : [`${cgroups.length} cgroups`]),
    ...(status === 'gone' && directories.length > 0 ? directories : []),
  ];
}

/** What is wrong with the events of a removed container: it, and each of its runs, begins and ends once. */
export async function judgeEvents(engine: TestEngine, id: string): Promise<string[]> {
  const filters = encodeURIComponent(JSON.stringify({ container: [id] }));
  const end = Math.ceil(Date.now() / 1000);
  const { text } = await engine.api('GET', `/events?since=${end - 600}&until=${end}&filters=${filters}`);
  const actions = text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => (JSON.parse(line) as { Action: string }).Action);
  const runs = actions.filter((action) => action === 'start' || action === 'die');
  const alternates = runs.length % 2 === 0 && runs.every((action, i) => action === (i % 2 === 0 ? 'start' : 'die'));
  const once = ['create', 'destroy'].every((action) => actions.filter((a) => a === action).length === 1);
  const renames = actions.filter((action) => action === 'rename').length;
  return alternates && once && renames <= 1 ? [] : [`events: ${actions.join(' ')}`];
}

/** Everything that the engine has of any container. */
export async function everything(engine: TestEngine): Promise<string[]> {
  const rows = (await engine.api('GET', '/containers/json?all=1')).json as { Id: string }[];
  return [
    ...rows.map(({ Id }) => `row ${Id}`),
    ...under(join(engine.root, 'data', 'containers')),
    ...under(join(engine.execRoot, 'c')),
    ...under(join(engine.execRoot, 'netns')),
    ...cgroupsIn(cgroupOf(engine)),
    ...engine.shims().map((pid) => `shim ${pid}`),
    ...(keepersOf(join(engine.execRoot, 'c')) > 0 ? ['keepers'] : []),
  ];
}

/** As directories and mounts are called. */
export const shortOf = (id: string): string => id.slice(0, 16);

const cgroupOf = ({ root, execRoot }: TestEngine): string =>
  namesFor(join(root, 'data'), execRoot).cgroupParent.cgroupfs;
const under = (directory: string): string[] => (existsSync(directory) ? readdirSync(directory) : []);

/** How many keepers' files there are, if all name a living process; else NaN. */
function keepersNoted(run: string): number {
  const files = under(run).filter((name) => name.endsWith(KEEPER_SUFFIX));
  const alive = files.filter((name) =>
    isKeeper((JSON.parse(readFileSync(join(run, name), 'utf8')) as { pid: number }).pid),
  );
  return alive.length === files.length ? files.length : NaN;
}

/** The processes that hold descriptors below `run`. */
const keepersOf = (run: string): number => processesHolding(run).filter(isKeeper).length;

function isKeeper(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').endsWith('sleep\0infinity\0');
  } catch {
    return false;
  }
}
