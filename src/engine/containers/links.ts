/**
 * Docker's legacy links (moby daemon/links). On the default bridge: the linked container's address under an alias in
 * /etc/hosts and its exposed ports in the environment, both as of the linking container's start. On user-defined
 * networks an alias is a name that DNS answers to the linking container only (networks/dns-policy.ts).
 */
import type { HostConfig } from '../../model/container-config.ts';
import type { Container } from '../../model/container.ts';
import { isRunning } from '../../model/container-status.ts';
import { Conflict, InvalidParameter, NotFound, SystemFault } from '../../model/errors.ts';
import { joinedContainer, joinsContainer, networkOfMode } from '../../model/namespace-mode.ts';
import { parseLink } from '../spec/links.ts';
import type { ContainerIndex } from './container-index.ts';
import { BRIDGE, isOnBridge } from './link-names.ts';

/**
 * Links as inspect shows and the start reads them: `/child:/parent/alias` on the default bridge.
 * @throws InvalidParameter there for a container that does not exist
 */
export function resolvedLinks(
  hostConfig: Pick<HostConfig, 'Links' | 'NetworkMode'>,
  parent: string,
  index: ContainerIndex,
): string[] | null {
  if (!hostConfig.Links || !isOnBridge(hostConfig)) return hostConfig.Links;
  return hostConfig.Links.map((text) => {
    const { name, alias } = parseLink(text);
    const child = networkOwner(name, index);
    if (networkOfMode(child.hostConfig.NetworkMode) === 'host')
      throw new InvalidParameter(
        "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
      );
    return `/${child.name}:/${parent}/${alias}`;
  });
}

/** The container `name`, or the one whose network namespace it joins. */
function networkOwner(name: string, index: ContainerIndex): Container {
  try {
    let { container } = index.lookup(name);
    while (joinsContainer(container.hostConfig.NetworkMode))
      ({ container } = index.lookup(joinedContainer(container.hostConfig.NetworkMode)));
    return container;
  } catch (error) {
    if (error instanceof NotFound) throw new InvalidParameter(`could not get container for ${name}: ${error.message}`);
    throw error;
  }
}

export interface Linked {
  /** Lines of /etc/hosts, as `names:address`. */
  hosts: string[];
  /** Variables of the environment. */
  env: string[];
}

export const NO_LINKS: Linked = { hosts: [], env: [] };

/** What a container sees of its linked containers. @throws SystemFault, Conflict when one of them cannot be reached */
export async function linked(c: Container, index: ContainerIndex): Promise<Linked> {
  if (!isOnBridge(c.hostConfig)) return NO_LINKS;
  const all = await Promise.all(
    (c.hostConfig.Links ?? []).map(async (text) => {
      const { name, alias } = parseLink(text);
      const child = await index.findContainer(name).catch((error: unknown) => {
        throw error instanceof NotFound ? new Conflict(`could not get container for ${name}: ${error.message}`) : error;
      });
      if (!isRunning(child))
        throw new SystemFault(`Cannot link to a non running container: /${child.name} AS /${c.name}/${alias}`);
      const address = child.endpoints[BRIDGE]?.ipAddress;
      if (!address) throw new SystemFault(`container ${child.id} not attached to default bridge network`);
      const names = [...new Set([alias, child.config.Hostname, child.name])];
      return { hosts: `${names.join(' ')}:${address}`, env: linkEnvironment(child, address, `/${c.name}/${alias}`) };
    }),
  );
  return { hosts: all.map(({ hosts }) => hosts), env: all.flatMap(({ env }) => env) };
}

interface Port {
  number: number;
  protocol: string;
}

/** ALIAS_PORT_80_TCP_ADDR and the rest. */
function linkEnvironment({ config }: Container, address: string, name: string): string[] {
  const alias = name
    .slice(name.lastIndexOf('/') + 1)
    .toUpperCase()
    .replaceAll('-', '_');
  const ports = Object.keys(config.ExposedPorts ?? {})
    .map(parsePort)
    .sort(byProtocol);
  const url = ({ number, protocol }: Port): string => `${protocol}://${address}:${number}`;
  const prefix = ({ number, protocol }: Port): string => `${alias}_PORT_${number}_${protocol.toUpperCase()}`;
  const own = config.Env.filter((entry) => entry.includes('=') && !/^(HOME|PATH)=/.test(entry));
  return [
    ...ports.slice(0, 1).map((port) => `${alias}_PORT=${url(port)}`),
    ...ports.flatMap((port) => [
      `${prefix(port)}=${url(port)}`,
      `${prefix(port)}_ADDR=${address}`,
      `${prefix(port)}_PORT=${port.number}`,
      `${prefix(port)}_PROTO=${port.protocol}`,
    ]),
    ...ranges(ports).flatMap(([first, last]) => [
      `${prefix(first)}_START=${url(first)}`,
      `${prefix(first)}_PORT_START=${first.number}`,
      `${prefix(first)}_END=${url(last)}`,
      `${prefix(first)}_PORT_END=${last.number}`,
    ]),
    `${alias}_NAME=${name}`,
    ...own.map((entry) => `${alias}_ENV_${entry}`),
  ];
}

function parsePort(text: string): Port {
  const [number = '', protocol = 'tcp'] = text.split('/');
  return { number: Number(number), protocol };
}

// tcp comes first, then the others by name; within one by number.
const byProtocol = (a: Port, b: Port): number =>
  Number(b.protocol === 'tcp') - Number(a.protocol === 'tcp') ||
  a.protocol.localeCompare(b.protocol) ||
  a.number - b.number;

/** First and last port of each run of consecutive ports. */
function ranges(ports: readonly Port[]): [Port, Port][] {
  const found: [Port, Port][] = [];
  for (const port of ports) {
    const current = found.at(-1);
    const last = current?.[1];
    const follows = last?.protocol === port.protocol && last.number + 1 === port.number;
    if (current && follows) current[1] = port;
    else found.push([port, port]);
  }
  return found.filter(([first, last]) => first !== last);
}
