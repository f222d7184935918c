/** What a start leaves for the runtime and the shim: the bundle's config.json, and the shim's spec file. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Container } from '../../model/container.ts';
import { SystemFault } from '../../model/errors.ts';
import { joinedContainer } from '../../model/namespace-mode.ts';
import { ociJson } from '../../protocol/oci-json.ts';
import { SPEC_FILE } from '../../protocol/paths.ts';
import { faultPoint } from '../../sys/fault.ts';
import { replaceFileAsync } from '../../sys/replace-file.ts';
import { createBindSources } from '../spec/mounts.ts';
import { mountShareableShm } from '../spec/shm.ts';
import { ociSpec } from '../spec/spec.ts';
import type { ContainerDeps } from './deps.ts';
import { donorsOf, joinedContainers } from './joined-containers.ts';
import { linked } from './links.ts';
import { shimSpec } from './shim-spec.ts';

/** OCI's name for the runtime configuration in a bundle. */
const CONFIG_FILE = 'config.json';

export interface BundleOptions {
  /** Path of the network namespace to join; '' = the host's. */
  netns: string;
  /** Height and width of the terminal. */
  consoleSize: [number, number] | undefined;
}

/** @throws when a container whose namespace is joined, or a linked one, does not run */
export async function writeBundle(
  c: Container,
  { netns, consoleSize }: BundleOptions,
  deps: Pick<ContainerDeps, 'config' | 'paths' | 'index'>,
): Promise<void> {
  const { config, paths, index } = deps;
  const run = paths.run(c.id);
  mkdirSync(run, { recursive: true, mode: 0o700 });
  const joined = await joinedContainers(c, index);
  const pids = new Map(joined.map(({ id, state }) => [id, state.pid]));
  const joinsUnpinnedNetwork = netns.startsWith('/proc/');
  if (joinsUnpinnedNetwork) joined.push(await index.findContainer(joinedContainer(c.hostConfig.NetworkMode)));
  createBindSources(c);
  faultPoint('start.bind-sources');
  mountShareableShm(c.hostConfig, c.id, paths);
  const { env } = await linked(c, index);
  const donors = donorsOf(c, index);
  const spec = ociSpec({ container: c, config, paths, netns, donors, linkEnv: env, pidOf: (id) => pids.get(id) ?? 0 });
  writeFileSync(join(run, CONFIG_FILE), ociJson(spec), { mode: 0o600 });
  await writeShimSpec(join(paths.container(c.id), SPEC_FILE), shimSpec(c, { config, paths }, { consoleSize, joined }));
}

/**
 * Puts changed limits into the config.json of a container that is not final: its shim restarts it from there, also with
 * no daemon. Returns what puts the old ones back.
 */
export async function updateBundle(
  { id }: Container,
  resources: Record<string, unknown>,
  { paths }: Pick<ContainerDeps, 'paths'>,
): Promise<() => Promise<void>> {
  const file = join(paths.run(id), CONFIG_FILE);
  const before = readFileSync(file, 'utf8');
  await replaceFileAsync(file, withResources(before, resources));
  return () => replaceFileAsync(file, before);
}

/**
 * The text of a config.json with other limits; its device rules stay. The rest is not parsed: JSON.parse would lose
 * digits of 64-bit numbers. @throws SystemFault when it has no limits
 */
export function withResources(config: string, resources: Record<string, unknown>): string {
  // Within a JSON string each quote has a backslash before it, so only a key matches.
  const key = /"resources":(?=\{)/.exec(config);
  if (!key) throw new SystemFault(`${CONFIG_FILE} has no resources`);
  const start = key.index + key[0].length;
  const end = endOfObject(config, start);
  const { devices } = JSON.parse(config.slice(start, end)) as { devices?: unknown };
  return config.slice(0, start) + ociJson({ ...resources, devices }) + config.slice(end);
}

/** The index after the JSON object that begins at `start`. */
function endOfObject(json: string, start: number): number {
  const tokens = /"(?:[^"\\]|\\.)*"|[{}]/g;
  tokens.lastIndex = start;
  let depth = 0;
  for (let token = tokens.exec(json); token; token = tokens.exec(json)) {
    if (token[0] === '{') depth++;
    else if (token[0] === '}' && --depth === 0) return tokens.lastIndex;
  }
  throw new SystemFault(`${CONFIG_FILE} ends within its resources`);
}

// A successor after a power cut must find the whole file or the previous one. An unchanged file is not synced again.
async function writeShimSpec(path: string, spec: object): Promise<void> {
  const text = JSON.stringify(spec);
  if (!hasText(path, text)) await replaceFileAsync(path, text);
}

function hasText(path: string, text: string): boolean {
  try {
    return readFileSync(path, 'utf8') === text;
  } catch {
    return false;
  }
}
