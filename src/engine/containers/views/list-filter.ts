/** `docker ps --filter`: which containers a client asked for. */
import { InvalidParameter } from '../../../model/errors.ts';
import { hasLabel } from '../../events/filter.ts';
import { anyPattern, booleanOf } from '../../filter-values.ts';
import { pruneMatcher } from '../../prune-filter.ts';
import type { Container } from '../../../model/container.ts';
import { portTable } from './port-listing.ts';
import { DOCKER_STATUSES, dockerStatus, healthOf, isRunning } from '../../../model/container-status.ts';

/** What the filters need beyond the containers themselves. */
export interface Lookup {
  /** By id, name or id prefix. @throws NotFound */
  resolveContainer(reference: string): Pick<Container, 'id'>;
  /** Ids of the image and of all that descend from it; none when there is no such image. */
  imageAncestry(reference: string): string[];
}

type Test = (container: Container) => boolean;

const HEALTHS = ['starting', 'healthy', 'unhealthy', 'none'];

export interface ListQuery {
  /** Also those that do not run. */
  all: boolean;
  /** 0 or less = no limit. */
  limit: number;
  /** As decoded from the client: key → values. */
  filters: Map<string, string[]>;
}

/**
 * `docker ps`: newest first; only running ones without `all`, a limit or a status filter.
 * @throws InvalidParameter for unknown keys and bad values, NotFound for an unknown container in before/since
 */
export function filterContainers(
  containers: readonly Container[],
  { all, limit, filters }: ListQuery,
  look: Lookup,
): Container[] {
  const newestFirst = sortNewestFirst(containers);
  const tests = testsOf(filters, look);
  const stoppedToo = all || limit > 0 || filters.has('status');
  const found = between(newestFirst, filters, look).filter(
    (c) => (stoppedToo || isRunning(c)) && tests.every((test) => test(c)),
  );
  return limit > 0 ? found.slice(0, limit) : found;
}

/** `docker container prune`: newest first. @throws InvalidParameter */
export function filterForPrune(containers: readonly Container[], filters: ListQuery['filters']): Container[] {
  const matches = pruneMatcher(filters);
  return sortNewestFirst(containers).filter((c) => matches({ created: c.created, labels: c.config.Labels }));
}

const sortNewestFirst = (containers: readonly Container[]): Container[] =>
  [...containers].sort((a, b) => compareDecimals(b.created, a.created) || (a.id < b.id ? -1 : 1));

/** Older than `before`, newer than `since`; the last of several values counts. */
function between(newestFirst: Container[], filters: ListQuery['filters'], look: Lookup): Container[] {
  const place = (key: string): number | undefined => {
    const wanted = filters
      .get(key)
      ?.map((reference) => look.resolveContainer(reference).id)
      .at(-1);
    return wanted === undefined ? undefined : newestFirst.findIndex((c) => c.id === wanted);
  };
  return newestFirst.slice((place('before') ?? -1) + 1, place('since') ?? Infinity);
}

/** One test per key: any of its values may match, but all labels must. */
function testsOf(filters: ListQuery['filters'], look: Lookup): Test[] {
  const tests: Test[] = [];
  // dockerd lists a container that matches `publish` or `expose`.
  const ports: Test[] = [];
  for (const [key, values] of filters) {
    if (!KEYS.has(key)) throw new InvalidParameter(`invalid filter '${key}'`);
    if (values.length === 0) continue;
    switch (key) {
      case 'id': {
        const matches = anyPattern(values);
        tests.push((c) => values.some((value) => c.id.startsWith(value)) || matches(c.id));
        break;
      }
      case 'name': {
        const matches = anyPattern(values);
        tests.push(
          (c) => values.includes(c.name) || values.includes(`/${c.name}`) || matches(`/${c.name}`) || matches(c.name),
        );
        break;
      }
      case 'label':
        tests.push((c) => values.every((value) => hasLabel(c.config.Labels, value)));
        break;
      case 'status':
        values.forEach(checkStatus);
        tests.push((c) => values.includes(dockerStatus(c)));
        break;
      case 'health':
        values.forEach(checkHealth);
        tests.push((c) => values.includes(healthOf(c)));
        break;
      case 'exited': {
        const codes = values.map(exitCode);
        tests.push((c) => !isRunning(c) && c.state.startedAt !== '' && codes.includes(c.state.exitCode));
        break;
      }
      case 'ancestor': {
        const images = new Set(values.flatMap((value) => look.imageAncestry(value)));
        tests.push((c) => images.has(c.imageId));
        break;
      }
      case 'volume':
        tests.push((c) => c.mounts.some((m) => values.includes(m.destination) || values.includes(m.name || m.source)));
        break;
      case 'network':
        tests.push((c) =>
          Object.values(c.endpoints).some((e) =>
            values.some((value) => e.network === value || (e.networkId !== '' && e.networkId.startsWith(value))),
          ),
        );
        break;
      case 'publish': {
        const wanted = new Set(values.flatMap((value) => portRange(key, value)));
        ports.push((c) => [...portTable(c).values()].flat().some((b) => wanted.has(`${b.hostPort}/${b.protocol}`)));
        break;
      }
      case 'expose': {
        const wanted = new Set(values.flatMap((value) => portRange(key, value)));
        ports.push((c) => [...portTable(c).keys()].some((port) => wanted.has(port)));
        break;
      }
      case 'is-task': {
        // None is: tasks belong to a swarm.
        const wanted = booleanOf(key, values);
        tests.push(() => !wanted);
        break;
      }
    }
  }
  if (ports.length > 0) tests.push((c) => ports.some((test) => test(c)));
  return tests;
}

/** `isolation` is Windows's; before and since are places in the list. */
const KEYS = new Set([
  'ancestor',
  'before',
  'expose',
  'exited',
  'health',
  'id',
  'isolation',
  'is-task',
  'label',
  'name',
  'network',
  'publish',
  'since',
  'status',
  'volume',
]);

function checkStatus(value: string): void {
  if (!(DOCKER_STATUSES as readonly string[]).includes(value)) {
    throw new InvalidParameter(
      `invalid filter 'status=${value}': invalid value for state (${value}): must be one of created, running, paused, restarting, removing, exited, dead`,
    );
  }
}

function checkHealth(value: string): void {
  if (!HEALTHS.includes(value))
    throw new InvalidParameter(
      `invalid filter 'health=${value}': invalid value for health (${value}): must be one of ${HEALTHS.join(', ')}`,
    );
}

function exitCode(value: string): number {
  if (!/^[+-]?\d+$/.test(value))
    throw new InvalidParameter(
      `invalid filter 'exited=${value}': strconv.Atoi: parsing ${JSON.stringify(value)}: invalid syntax`,
    );
  return Number(value);
}

/** `80`, `80/udp`, `8000-8010/tcp`. */
function portRange(key: string, value: string): string[] {
  if (value.includes(':')) throw new InvalidParameter(`filter for '${key}' should not contain ':': ${value}`);
  const [, first, last, protocol = 'tcp'] = /^(\d+)(?:-(\d+))?(?:\/(tcp|udp|sctp))?$/.exec(value.toLowerCase()) ?? [];
  const start = Number(first ?? NaN);
  const end = Number(last ?? first ?? NaN);
  if (!(start <= end && end <= 65535))
    throw new InvalidParameter(`error while looking up for ${key} ${value}: invalid port`);
  return Array.from({ length: end - start + 1 }, (_, i) => `${start + i}/${protocol}`);
}

const compareDecimals = (a: string, b: string): number => a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
