/** What a start leaves for the runtime and the shim: the bundle's config.json, and the shim's spec file. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Container } from '../../model/container.ts';
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
  writeFileSync(join(run, 'config.json'), ociJson(spec), { mode: 0o600 });
  await writeShimSpec(join(paths.container(c.id), SPEC_FILE), shimSpec(c, { config, paths }, { consoleSize, joined }));
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
