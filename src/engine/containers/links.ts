/**
 * Docker's legacy links. On the default bridge: the linked container's address under an alias in /etc/hosts, and what
 * it exposes
 * in the environment, both as they are when the linking one starts (moby daemon/links). On networks of users' making,
 * where
 * containers find each other by name: an alias that is this container's alone.
 */
import { Conflict, InvalidParameter, NotFound, SystemFault } from '../../model/errors.ts';
import { isPredefined } from '../../model/network.ts';
import { networkOf } from '../networks/plan.ts';
import { joinedContainer } from '../spec/namespaces.ts';
import { parseLink } from '../spec/links.ts';
import type { HostConfig } from '../../model/container-config.ts';
import type { Container } from '../../model/container.ts';
import { isRunning } from './moves.ts';

const BRIDGE = 'bridge';
const isOnBridge = ({ NetworkMode }: Pick<HostConfig, 'NetworkMode'>): boolean => networkOf(NetworkMode) === BRIDGE;

/** Links as inspect shows and the start reads them: `/child:/parent/alias` on the default bridge.
 *  @throws InvalidParameter there for a container that does not exist */
export function resolvedLinks(
  hostConfig: Pick<HostConfig, 'Links' | 'NetworkMode'>,
  parent: string,
  find: (reference: string) => Container,
): string[] | null {
  if (!hostConfig.Links || !isOnBridge(hostConfig)) return hostConfig.Links;
  return hostConfig.Links.map((text) => {
    const { name, alias } = parseLink(text);
    let child: Container;
    try {
      child = find(name);
      while (joinedContainer(child.hostConfig.NetworkMode)) child = find(joinedContainer(child.hostConfig.NetworkMode));
    } catch (error) {
      if (error instanceof NotFound)
        throw new InvalidParameter(`could not get container for ${name}: ${error.message}`);
      throw error;
    }
    if (networkOf(child.hostConfig.NetworkMode) === 'host')
      throw new InvalidParameter(
        "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
      );
    return `/${child.name}:/${parent}/${alias}`;
  });
}

export interface Linked {
  /** Lines of /etc/hosts, as `names:address`. */
  hosts: string[];
  /** Variables of the environment. */
  env: string[];
}

export const NO_LINKS: Linked = { hosts: [], env: [] };

/** What a container sees of those that it links to. @throws SystemFault, Conflict when one of them cannot be reached */
export async function linked(c: Container, peer: (name: string) => Promise<Container>): Promise<Linked> {
  if (!isOnBridge(c.hostConfig)) return { hosts: await aliases(c, peer), env: [] };
  const all = await Promise.all(
    (c.hostConfig.Links ?? []).map(async (text) => {
      const { name, alias } = parseLink(text);
      const child = await peer(name).catch((error: unknown) => {
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

/**
 * Aliases that a network's names do not have anyway: those follow a container to its next address, a line in a file
 * does not.
 */
async function aliases(c: Container, peer: (name: string) => Promise<Container>): Promise<string[]> {
  const lines: string[] = [];
  for (const { network, networkId, request } of Object.values(c.endpoints).filter(
    (endpoint) => !isPredefined(endpoint.network),
  )) {
    // The command line says it twice: of the endpoint and of the host.
    const ofMode = [network, networkId].includes(c.hostConfig.NetworkMode) ? (c.hostConfig.Links ?? []) : [];
    for (const { name, alias } of [...new Set([...(request.Links ?? []), ...ofMode])].map(parseLink)) {
      const child = await peer(name).catch(() => undefined);
      const there = child && isRunning(child) ? child.endpoints[network] : undefined;
      if (there?.ipAddress && !there.dnsNames.includes(alias)) lines.push(`${alias}:${there.ipAddress}`);
    }
  }
  return lines;
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

/** First and last of ports that follow each other. */
function ranges(ports: readonly Port[]): [Port, Port][] {
  const found: [Port, Port][] = [];
  for (const port of ports) {
    const current = found.at(-1);
    if (current && current[1].protocol === port.protocol && current[1].number + 1 === port.number) current[1] = port;
    else found.push([port, port]);
  }
  return found.filter(([first, last]) => first !== last);
}
