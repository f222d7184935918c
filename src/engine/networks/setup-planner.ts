/**
 * What is to be made for a container, before anything is: a setup with the addresses and ports that are its own from
 * now on.
 */
import { closeSync } from 'node:fs';
import type { Config } from '../../config/config.ts';
import { bindPort } from '../../sys/inet.ts';
import { Errno } from '../../sys/libc.ts';
import { bootId } from '../../sys/process.ts';
import type { Container, Endpoint } from '../../model/container.ts';
import { EngineError, Forbidden, SystemFault } from '../../model/errors.ts';
import type { Paths } from '../paths.ts';
import type { Driver, EndpointSetup, PortSetup, Setup } from './driver.ts';
import { Addresses, aimed, makeEndpoint, portRange, portsEnd, viaOf } from './endpoints.ts';
import type { Network } from '../../model/network.ts';
import { groupRequests, portRequests, PortTable, PortTaken, type Protocol } from './port-allocation.ts';

export interface SetupParts {
  config: Pick<Config, 'instance' | 'bridge' | 'iptables' | 'ip' | 'dns'>;
  paths: Paths;
  driver: Pick<Driver, 'unavailable'>;
  /** By id, name or id prefix. @throws NotFound */
  network: (reference: string) => Network;
  /** Whether an address is on record. */
  isTaken: (networkId: string, address: string) => boolean;
}

/** How every refusal to attach a container begins. */
export const FAILED = 'failed to set up container networking';

/** Why a port cannot be had, in Go's words: clients know them. */
const REFUSALS: Record<string, string> = {
  EADDRINUSE: 'address already in use',
  EADDRNOTAVAIL: 'cannot assign requested address',
  EACCES: 'permission denied',
  EPROTONOSUPPORT: 'protocol not supported',
};

export class SetupPlanner {
  readonly boot = bootId();
  readonly #ports: PortTable;
  readonly #addresses: Addresses;

  constructor(private readonly parts: SetupParts) {
    this.#addresses = new Addresses(parts.isTaken);
    const [first, last] = portRange();
    // Between its choice and its being held a port is nobody's: two daemons that began at the same one would choose the
    // same ones.
    this.#ports = new PortTable({
      ephemeral: [first, last],
      offset: Number(`0x0${parts.config.instance}`) % (last - first + 1),
      probe,
    });
  }

  /** Notes what a setup has that was made by the daemon before. */
  found(setup: Setup): void {
    this.#ports.hold(
      setup.container,
      [...setup.ports, ...setup.idlePorts].map(({ protocol, hostIp, hostPort }) => ({
        protocol,
        address: hostIp,
        port: hostPort,
      })),
    );
    for (const { networkId, address, address6 } of setup.endpoints)
      for (const each of [address, address6]) this.#addresses.used(networkId, each);
  }

  /** The container's ports are free for others; its addresses are with their record. */
  release(container: string): void {
    this.#ports.release(container);
  }

  /**
   * A setup of all its networks. Until its record nothing may be awaited: no two containers get one address or one
   * port. @throws Forbidden, SystemFault, NotFound
   */
  make(container: Container): Setup {
    const networks = Object.entries(container.endpoints).map(([name, endpoint]) => ({
      endpoint,
      network: failing(() => this.parts.network(endpoint.networkId || name)),
    }));
    this.#checkDriver(networks.map(({ network }) => network));
    const endpoints = this.#endpoints(container, networks);
    const hasHost = networks.some(({ network }) => network.driver === 'host');
    const end = portsEnd({ endpoints });
    return {
      version: 1,
      boot: this.boot,
      container: container.id,
      name: container.name,
      netns: hasHost ? '' : this.parts.paths.netns(container.id),
      endpoints,
      ports: end ? this.#portsFor(container, end) : [],
      idlePorts: [],
      dnsServers: this.#dnsServers(container),
    };
  }

  /**
   * The setup with one more network. Until its record nothing may be awaited, as in make(). @throws Forbidden,
   * SystemFault
   */
  withNetwork(
    before: Setup,
    network: Network,
    planned: Endpoint,
    container: Container,
  ): { setup: Setup; made: EndpointSetup } {
    this.#checkDriver([network]);
    const used = before.endpoints.flatMap(({ link }) => (link ? [link.name] : []));
    const made: EndpointSetup = {
      ...makeEndpoint(network, planned, container, used, this.#addresses),
      changing: 'joining',
    };
    const joined = aimed(
      { ...before, dnsServers: this.#dnsServers(container), endpoints: [...before.endpoints, made] },
      { rules: this.parts.config.iptables },
    );
    const first = joined.ports.length === 0 ? portsEnd(joined) : undefined;
    return { setup: first ? { ...joined, ports: this.#portsFor(container, first) } : joined, made };
  }

  /** The setup with one endpoint about to leave. */
  without(setup: Setup, endpoint: EndpointSetup): Setup {
    const endpoints = setup.endpoints.map((each): EndpointSetup =>
      each.networkId === endpoint.networkId ? { ...each, changing: 'leaving' } : each,
    );
    return aimed({ ...setup, endpoints }, { rules: this.parts.config.iptables });
  }

  // Where it asks for names of elsewhere, if not where the host asks.
  #dnsServers = ({ hostConfig }: Container): string[] => [
    ...(hostConfig.Dns?.length ? hostConfig.Dns : this.parts.config.dns),
  ];

  #endpoints(container: Container, networks: { network: Network; endpoint: Endpoint }[]): EndpointSetup[] {
    const usedLinks: string[] = [];
    const taken = new Set<string>();
    return networks.map(({ network, endpoint }) => {
      const made = failing(() => makeEndpoint(network, endpoint, container, usedLinks, this.#addresses));
      if (taken.has(network.id))
        throw new Forbidden(
          `${FAILED}: endpoint with name ${container.name} already exists in network ${network.name}`,
        );
      taken.add(network.id);
      if (made.link) usedLinks.push(made.link.name);
      return made;
    });
  }

  #checkDriver(networks: Network[]): void {
    const { unavailable } = this.parts.driver;
    if (unavailable !== undefined && networks.some(({ driver }) => driver === 'bridge'))
      throw new SystemFault(`${FAILED}: ${unavailable}`);
  }

  #portsFor(container: Container, end: EndpointSetup): PortSetup[] {
    const { config } = this.parts;
    const { hostIp } = this.parts.network(end.networkId).settings;
    const groups = groupRequests(portRequests(container.config, container.hostConfig), { hostIp, ipv6: hasIPv6() });
    const address = end.address || end.address6;
    try {
      return groups.flatMap((group) => {
        const via = (ip: string): PortSetup['via'] => viaOf(ip, end, { rules: config.iptables });
        if (group.protocol === 'sctp' && group.hostIps.some((ip) => via(ip) === 'proxy'))
          throw new PortTaken(
            `port ${group.containerPort}/sctp can only be published by the kernel's rules, and over IPv4`,
          );
        const hostPort = this.#ports.allocate(container.id, group, address);
        return group.hostIps.map((ip): PortSetup => ({
          protocol: group.protocol,
          hostIp: ip,
          hostPort,
          address,
          port: group.containerPort,
          via: via(ip),
        }));
      });
    } catch (error) {
      this.#ports.release(container.id);
      if (error instanceof PortTaken)
        throw new SystemFault(
          `${FAILED}: driver failed programming external connectivity on endpoint ${container.name} (${end.endpointId}): ${error.message}`,
        );
      throw error;
    }
  }
}

/** A refusal, with what was under way before its words. */
function failing<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof EngineError) error.message = `${FAILED}: ${error.message}`;
    throw error;
  }
}

function probe(protocol: Protocol, address: string, port: number): string | undefined {
  try {
    closeSync(bindPort(protocol, address, port));
    return undefined;
  } catch (error) {
    if (error instanceof Errno) return REFUSALS[error.code] ?? error.message;
    throw error;
  }
}

const hasIPv6 = (): boolean => probe('udp', '::', 0) === undefined;
