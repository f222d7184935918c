/** Plans what is to be set up for a container, and reserves the addresses and ports it will have. */
import { closeSync } from 'node:fs';
import type { Config } from '../../config/config.ts';
import type { Container, Endpoint } from '../../model/container.ts';
import { EngineError, Forbidden, SystemFault } from '../../model/errors.ts';
import type { Network } from '../../model/network.ts';
import { bindPort } from '../../sys/inet.ts';
import { Errno } from '../../sys/libc.ts';
import { bootId } from '../../sys/process.ts';
import type { Paths } from '../paths.ts';
import type { Driver, EndpointSetup, PortSetup, Setup } from './driver.ts';
import { AddressAllocator } from './address-allocation.ts';
import { forwarderOf, makeEndpoint, portEndpoint, portRange, withPortsRedirected } from './endpoints.ts';
import { hostResolverOptions } from './etc-files.ts';
import { groupRequests, portRequests, PortTable, PortTaken, type PortGroup, type Protocol } from './port-allocation.ts';

export interface SetupPlannerDeps {
  config: Pick<Config, 'instance' | 'bridge' | 'iptables' | 'ip' | 'dns' | 'dnsOptions'>;
  paths: Paths;
  driver: Pick<Driver, 'unavailable'>;
  /** By id, name or id prefix. @throws NotFound */
  network: (reference: string) => Network;
  /** Whether an address is on record. */
  isTaken: (networkId: string, address: string) => boolean;
}

/** Prefix of every error about attaching a container. */
export const FAILED = 'failed to set up container networking';

/** Why a port cannot be bound, worded like Go: clients match on these texts. */
const BIND_ERRORS: Record<string, string> = {
  EADDRINUSE: 'address already in use',
  EADDRNOTAVAIL: 'cannot assign requested address',
  EACCES: 'permission denied',
  EPROTONOSUPPORT: 'protocol not supported',
};

export class SetupPlanner {
  readonly boot = bootId();
  readonly #ports: PortTable;
  readonly #addresses: AddressAllocator;

  constructor(private readonly deps: SetupPlannerDeps) {
    this.#addresses = new AddressAllocator(deps.isTaken);
    const [first, last] = portRange();
    // A port is bound only some time after it was chosen. Two daemons on one host start at different ports, so that
    // they do not choose the same one in between.
    this.#ports = new PortTable({
      ephemeral: [first, last],
      offset: Number(`0x0${deps.config.instance}`) % (last - first + 1),
      probe: probePort,
    });
  }

  /** Reserves what a setup of the previous daemon uses. */
  adopt(setup: Setup): void {
    this.#ports.claim(
      setup.container,
      [...setup.ports, ...setup.idlePorts].map(({ protocol, hostIp, hostPort }) => ({
        protocol,
        address: hostIp,
        port: hostPort,
      })),
    );
    for (const { networkId, address, address6 } of setup.endpoints)
      for (const each of [address, address6]) this.#addresses.noteUsed(networkId, each);
  }

  /** Frees the container's ports; its addresses are freed with their record in the store. */
  release(container: string): void {
    this.#ports.release(container);
  }

  /**
   * A setup with all networks of the container. The caller must store it before it awaits anything, so that no two
   * containers get the same address or port.
   * @throws Forbidden, SystemFault, NotFound
   */
  plan(container: Container): Setup {
    const networks = Object.entries(container.endpoints).map(([name, endpoint]) => ({
      endpoint,
      network: withPrefix(() => this.deps.network(endpoint.networkId || name)),
    }));
    this.#checkDriver(networks.map(({ network }) => network));
    const endpoints = this.#endpoints(container, networks);
    const usesHost = networks.some(({ network }) => network.driver === 'host');
    const target = portEndpoint({ endpoints });
    return {
      version: 1,
      boot: this.boot,
      container: container.id,
      name: container.name,
      netns: usesHost ? '' : this.deps.paths.netns(container.id),
      endpoints,
      ports: target ? this.#portsFor(container, target) : [],
      idlePorts: [],
      dnsServers: this.#dnsServers(container),
      ndots: this.#ndots(container),
    };
  }

  /** The setup with one more network; to be stored at once, as in plan(). @throws Forbidden, SystemFault */
  withNetwork(
    before: Setup,
    network: Network,
    planned: Endpoint,
    container: Container,
  ): { setup: Setup; added: EndpointSetup } {
    this.#checkDriver([network]);
    const usedLinks = before.endpoints.flatMap(({ link }) => (link ? [link.name] : []));
    const added: EndpointSetup = {
      ...makeEndpoint(network, planned, container, usedLinks, this.#addresses),
      changing: 'joining',
    };
    const setup = withPortsRedirected(
      { ...before, dnsServers: this.#dnsServers(container), endpoints: [...before.endpoints, added] },
      { rules: this.deps.config.iptables },
    );
    // Until now no endpoint could receive traffic, so no port was allocated.
    const target = setup.ports.length === 0 ? portEndpoint(setup) : undefined;
    return { setup: target ? { ...setup, ports: this.#portsFor(container, target) } : setup, added };
  }

  /** The setup with one endpoint marked as leaving. */
  without(setup: Setup, endpoint: EndpointSetup): Setup {
    const endpoints = setup.endpoints.map((each): EndpointSetup =>
      each.networkId === endpoint.networkId ? { ...each, changing: 'leaving' } : each,
    );
    return withPortsRedirected({ ...setup, endpoints }, { rules: this.deps.config.iptables });
  }

  #dnsServers = ({ hostConfig }: Container): string[] => [
    ...(hostConfig.Dns?.length ? hostConfig.Dns : this.deps.config.dns),
  ];

  // Of those that resolvConf() takes over.
  #ndots({ hostConfig }: Container): boolean {
    const given = hostConfig.DnsOptions?.length ? hostConfig.DnsOptions : this.deps.config.dnsOptions;
    const options = given.length > 0 ? given : hostResolverOptions();
    return options.some((option) => option.startsWith('ndots:'));
  }

  #endpoints(container: Container, networks: { network: Network; endpoint: Endpoint }[]): EndpointSetup[] {
    const usedLinks: string[] = [];
    const seen = new Set<string>();
    return networks.map(({ network, endpoint }) => {
      const made = withPrefix(() => makeEndpoint(network, endpoint, container, usedLinks, this.#addresses));
      if (seen.has(network.id))
        throw new Forbidden(
          `${FAILED}: endpoint with name ${container.name} already exists in network ${network.name}`,
        );
      seen.add(network.id);
      if (made.link) usedLinks.push(made.link.name);
      return made;
    });
  }

  #checkDriver(networks: Network[]): void {
    const { unavailable } = this.deps.driver;
    if (unavailable !== undefined && networks.some(({ driver }) => driver === 'bridge'))
      throw new SystemFault(`${FAILED}: ${unavailable}`);
  }

  #portsFor(container: Container, target: EndpointSetup): PortSetup[] {
    const { hostIp } = this.deps.network(target.networkId).settings;
    const requests = portRequests(container.config, container.hostConfig);
    try {
      return groupRequests(requests, { hostIp, ipv6: hasIPv6() }).flatMap((group) =>
        this.#allocate(container.id, group, target),
      );
    } catch (error) {
      this.#ports.release(container.id);
      if (error instanceof PortTaken)
        throw new SystemFault(
          `${FAILED}: driver failed programming external connectivity on endpoint ${container.name} (${target.endpointId}): ${error.message}`,
        );
      throw error;
    }
  }

  #allocate(container: string, group: PortGroup, target: EndpointSetup): PortSetup[] {
    const address = target.address || target.address6;
    const bindings = group.hostIps.map((hostIp) => ({
      hostIp,
      via: forwarderOf(hostIp, target, { rules: this.deps.config.iptables }),
    }));
    if (group.protocol === 'sctp' && bindings.some(({ via }) => via === 'proxy'))
      throw new PortTaken(
        `port ${group.containerPort}/sctp can only be published by the kernel's rules, and over IPv4`,
      );
    const hostPort = this.#ports.allocate(container, group, address);
    return bindings.map(({ hostIp, via }) => ({
      protocol: group.protocol,
      hostIp,
      hostPort,
      address,
      port: group.containerPort,
      via,
    }));
  }
}

/** Runs `work`; its errors get the prefix. */
function withPrefix<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof EngineError) error.message = `${FAILED}: ${error.message}`;
    throw error;
  }
}

/** Why the port cannot be bound; undefined when it is free. */
function probePort(protocol: Protocol, address: string, port: number): string | undefined {
  try {
    closeSync(bindPort(protocol, address, port));
    return undefined;
  } catch (error) {
    if (error instanceof Errno) return BIND_ERRORS[error.code] ?? error.message;
    throw error;
  }
}

const hasIPv6 = (): boolean => probePort('udp', '::', 0) === undefined;
