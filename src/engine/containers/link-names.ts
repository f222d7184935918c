/** The names that legacy links give: a container linked on the default bridge is known as `parent/alias` too. */
import type { HostConfig } from '../../model/container-config.ts';
import type { Container } from '../../model/container.ts';
import { networkOfMode } from '../../model/namespace-mode.ts';
import { parseLink } from '../spec/links.ts';

export const BRIDGE = 'bridge';
export const isOnBridge = ({ NetworkMode }: Pick<HostConfig, 'NetworkMode'>): boolean =>
  networkOfMode(NetworkMode) === BRIDGE;

/** The links of a container on the default bridge: names of the linked containers by alias. */
export const linksOf = ({ hostConfig }: Pick<Container, 'hostConfig'>): Map<string, string> =>
  new Map(
    isOnBridge(hostConfig) ? (hostConfig.Links ?? []).map(parseLink).map(({ name, alias }) => [alias, name]) : [],
  );

/** `parent/alias`, by which the linked container is known too; undefined for other references. */
export function parseLinkName(reference: string): { parent: string; alias: string } | undefined {
  const [, parent = '', alias = ''] = /^\/?([^/]+)\/([^/]+)$/.exec(reference) ?? [];
  return parent === '' ? undefined : { parent, alias };
}
