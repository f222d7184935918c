/** Networks and what containers are attached to. */
import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../../config/config.ts';
import type { AttachmentRow, NetworkStore } from '../../store/networks.ts';
import { bindPort } from '../../sys/inet.ts';
import { Errno } from '../../sys/libc.ts';
import { bootId } from '../../sys/process.ts';
import { wallNow } from '../clock.ts';
import type { EndpointRequest } from '../containers/config.ts';
import type { Container, Endpoint } from '../containers/container.ts';
import { InvalidParameter, NotFound, SystemFault } from '../errors.ts';
import type { NewEvent } from '../events/event.ts';
import type { Paths } from '../paths.ts';
import { cidrOf, macOf, nextAddress, subnetOf } from './addresses.ts';
import type { Driver, EndpointSetup, PortSetup, Setup } from './driver.ts';
import { writeNetworkFiles } from './files.ts';
import type { Network } from './network.ts';
import { NetlinkDriver } from './netlink-driver.ts';
import { networkOf, planEndpoints, type Planned } from './plan.ts';
import { groupRequests, portRequests, PortTable, PortTaken, type Protocol, type PublishedPort } from './ports.ts';
import { PortProxy } from './port-proxy.ts';

/** What a running container has: its endpoints with addresses, its published ports, its network namespace. */
export interface Attachment {
  endpoints: Record<string, Endpoint>;
  ports: PublishedPort[];
  /** Where its network namespace is pinned; '' = it uses the host's. */
  netns: string;
}

/** A container on a network, as the network's inspect lists it. */
export interface Member {
  container: string;
  /** Of the container, when it was attached. */
  name: string;
  endpointId: string;
  macAddress: string;
  /** With prefix length; '' without an address. */
  ipv4Address: string;
}

export interface NetworkParts {
  store: NetworkStore;
  config: Pick<Config, 'bridge' | 'bip' | 'mtu' | 'ip' | 'iptables' | 'dns' | 'dnsOptions' | 'dnsSearch'>;
  paths: Paths;
  events: { record(...events: NewEvent[]): void };
  log: { info(message: string): void; warn(message: string): void };
  /** The bundle of proxy-main.ts. */
  proxyBundle: string;
  /** Another one in tests. */
  driver?: Driver;
}

const FAILED = 'failed to set up container networking';
const ID_BYTES = 32;
/** Linux cuts names of links at 15 characters. */
const LINK_PREFIX = 'vh';
const LINK_LENGTH = 13;
const PORT_RANGE = '/proc/sys/net/ipv4/ip_local_port_range';
const DEFAULT_PORT_RANGE = [49_153, 65_535] as const;

/** Why a port cannot be had, in Go's words: clients know them. */
const REFUSALS: Record<string, string> = {
  EADDRINUSE: 'address already in use', EADDRNOTAVAIL: 'cannot assign requested address', EACCES: 'permission denied', EPROTONOSUPPORT: 'protocol not supported',
};

export class Networks {
  readonly #driver: Driver;
  readonly #ports = new PortTable({ ephemeral: portRange(), probe });
  readonly #boot = bootId();
  readonly #last = new Map<string, string>();
  /** The end of the queue of each container's attaching and detaching. */
  readonly #turns = new Map<string, Promise<unknown>>();
  #networks: Network[] = [];

  constructor(private readonly parts: NetworkParts) {
    const { config, paths, log, proxyBundle } = parts;
    this.#driver = parts.driver ?? new NetlinkDriver({
      bridges: [{ link: config.bridge, address: config.bip, mtu: config.mtu }],
      firewall: config.iptables,
      proxy: new PortProxy({ socket: join(paths.execRoot, 'ports.sock'), bundle: proxyBundle, log }),
      log,
    });
  }

  /** Makes the default networks' rows, re-adds links and rules that were wiped, undoes what was half done. A container that is attached is not disturbed. */
  async start(): Promise<void> {
    this.#networks = this.parts.store.networks();
    for (const network of this.#defaults()) {
      this.parts.store.save(network);
      this.#networks = [...this.#networks.filter(({ id }) => id !== network.id), network];
    }
    const rows = this.parts.store.attachments().map((row) => ({ row, setup: JSON.parse(row.setup) as Setup }));
    const live = rows.filter(({ row, setup }) => row.phase === 'up' && setup.boot === this.#boot).map(({ setup }) => setup);
    for (const setup of live) {
      this.#ports.hold(setup.container, setup.ports.map(({ protocol, hostIp, hostPort }) => ({ protocol, address: hostIp, port: hostPort })));
      for (const { networkId, address } of setup.endpoints) if (address) this.#last.set(networkId, address);
    }
    await this.#driver.start(live);
    // Half up: `attach` never returned, so no process was given it. Of another boot: nothing of it exists.
    for (const { row, setup } of rows) if (!live.includes(setup)) await this.#undo(row);
  }

  list(): Network[] {
    return this.#networks;
  }

  /** By id, name or id prefix. @throws NotFound `network X not found`, InvalidParameter */
  resolve(reference: string): Network {
    const exact = this.#networks.find(({ id }) => id === reference) ?? this.#networks.find(({ name }) => name === reference);
    if (exact) return exact;
    const matches = reference === '' ? [] : this.#networks.filter(({ id }) => id.startsWith(reference));
    if (matches.length > 1) throw new InvalidParameter(`network ${reference} is ambiguous (${matches.length} matches found based on ID prefix)`);
    if (!matches[0]) throw new NotFound(`network ${reference} not found`);
    return matches[0];
  }

  /** Containers that are on a network now. */
  members(networkId: string): Member[] {
    return this.parts.store.attachments().filter(({ phase }) => phase === 'up').flatMap(({ setup }) => {
      const { container, name, endpoints } = JSON.parse(setup) as Setup;
      return endpoints.filter((endpoint) => endpoint.networkId === networkId)
        .map(({ endpointId, mac, address, prefix }) => ({ container, name, endpointId, macAddress: mac, ipv4Address: address && `${address}/${prefix}` }));
    });
  }

  /** Endpoints of a container at create, without addresses. @throws InvalidParameter */
  plan(mode: string, requests: Record<string, EndpointRequest | null>, container: Planned): Record<string, Endpoint> {
    return planEndpoints(mode, requests, container);
  }

  /**
   * Makes the container's netns, gives it addresses and ports. Intent first; repeatable after a crash.
   * To be awaited before the runtime is asked for anything: an attach that never returned is undone at the next start.
   * @throws SystemFault `driver failed programming external connectivity …` when a port is taken, NotFound for a network
   */
  attach(container: Container): Promise<Attachment> {
    return this.#inTurn(container.id, async () => {
      if (networkOf(container.hostConfig.NetworkMode) === undefined) return { endpoints: {}, ports: [], netns: '' };
      const left = this.parts.store.attachment(container.id);
      if (left) await this.#undo(left);
      return this.#attach(container);
    });
  }

  /** Undoes attach; called only for a container whose run is final. Repeatable. When it returns, addresses and ports are free; links go in the background. */
  detach(container: Pick<Container, 'id'>): Promise<void> {
    return this.#inTurn(container.id, async () => {
      const row = this.parts.store.attachment(container.id);
      if (row) await this.#undo(row);
    });
  }

  /** Detaches whatever is attached for a container that does not hold its network (any more): what a daemon left that died in between. */
  async sweep(holds: (containerId: string) => boolean): Promise<void> {
    for (const { containerId } of this.parts.store.attachments()) if (!holds(containerId)) await this.detach({ id: containerId });
  }

  /** Writes hosts, resolv.conf and hostname into the container's directory. */
  writeFiles(container: Container, attachment: Attachment): void {
    const { config, hostConfig } = container;
    const mode = networkOf(hostConfig.NetworkMode);
    if (mode === undefined) return;
    const daemon = this.parts.config;
    const first = (...lists: (readonly string[] | null)[]): string[] => [...(lists.find((list) => list !== null && list.length > 0) ?? [])];
    writeNetworkFiles(this.parts.paths.container(container.id), {
      hostname: config.Hostname, domainname: config.Domainname, hostNetwork: mode === 'host',
      addresses: Object.values(attachment.endpoints).map(({ ipAddress }) => ipAddress).filter(Boolean),
      extraHosts: hostConfig.ExtraHosts ?? [], hostGateway: addressOf(daemon.bip),
      ipv6: existsSync('/proc/sys/net/ipv6') && hostConfig.Sysctls?.['net.ipv6.conf.all.disable_ipv6'] !== '1',
      dns: { servers: first(hostConfig.Dns, daemon.dns), search: first(hostConfig.DnsSearch, daemon.dnsSearch), options: first(hostConfig.DnsOptions, daemon.dnsOptions) },
    });
  }

  /** Looks at once whether rules or links were wiped, and puts them back. It is done by itself within seconds. */
  restoreRules = (): Promise<void> => this.#driver.restoreRules();

  /** Nothing is on its way out any more: the links of all detached containers are gone. */
  settled = (): Promise<void> => this.#driver.settled();

  /** Ends the looking after; all that is set up stays and works. */
  letGo(): void {
    this.#driver.stop();
  }

  /** At the daemon's clean end. With nothing attached, bridge and rules go as well: the next start makes them in milliseconds. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#turns.values());
    this.letGo();
    if (this.parts.store.attachments().length === 0) await this.#driver.dismantle();
  }

  async #attach(container: Container): Promise<Attachment> {
    const setup = this.#setupFor(container);
    try {
      this.parts.store.begin(container.id, setup.netns, JSON.stringify(setup), setup.endpoints.flatMap(({ networkId, address }) => (address ? [{ networkId, address }] : [])));
    } catch (error) {
      this.#ports.release(container.id);
      throw error;
    }
    try {
      await this.#driver.setUp(setup);
    } catch (error) {
      this.parts.store.end(container.id);
      this.#ports.release(container.id);
      throw new SystemFault(`${FAILED}: ${(error as Error).message}`, { cause: error });
    }
    this.parts.store.move(container.id, 'up', () => this.parts.events.record(...eventsOf(setup, 'connect')));
    return attachmentOf(container, setup);
  }

  // From here to the row's insert nothing is awaited: no two containers get one address or one port.
  #setupFor(container: Container): Setup {
    const networks = Object.entries(container.endpoints).map(([name, endpoint]) => ({ endpoint, network: this.#networkFor(endpoint.networkId || name) }));
    const hasHost = networks.some(({ network }) => network.driver === 'host');
    if (networks.some(({ network }) => network.driver === 'bridge') && this.#driver.unavailable !== undefined) throw new SystemFault(`${FAILED}: ${this.#driver.unavailable}`);
    const endpoints = networks.map(({ network, endpoint }, i) => this.#endpointFor(network, endpoint, container, i));
    const reachable = endpoints.find((endpoint, i) => endpoint.address !== '' && !networks[i]!.network.internal);
    return {
      version: 1, boot: this.#boot, container: container.id, name: container.name, netns: hasHost ? '' : this.parts.paths.netns(container.id),
      endpoints, ports: reachable ? this.#portsFor(container, reachable) : [],
    };
  }

  #networkFor(reference: string): Network {
    try {
      return this.resolve(reference);
    } catch (error) {
      if (error instanceof NotFound) throw new NotFound(`${FAILED}: ${error.message}`);
      throw error;
    }
  }

  #endpointFor(network: Network, { request }: Endpoint, container: Container, place: number): EndpointSetup {
    const endpointId = randomBytes(ID_BYTES).toString('hex');
    const base = { network: network.name, networkId: network.id, type: network.driver, endpointId };
    if (network.driver !== 'bridge') return { ...base, address: '', prefix: 0, gateway: '', mac: '' };
    const { Subnet = '', Gateway = '' } = network.ipam.config[0] ?? {};
    const subnet = subnetOf(Subnet);
    const address = nextAddress(subnet, new Set([Gateway]), this.#last.get(network.id), (candidate) => this.parts.store.isTaken(network.id, candidate));
    if (address === undefined) throw new SystemFault(`${FAILED}: no available IPv4 addresses on this network's address pools: ${network.name} (${network.id})`);
    this.#last.set(network.id, address);
    const mac = (request.MacAddress || (place === 0 && container.config.MacAddress) || macOf(address)).toLowerCase().replaceAll('-', ':');
    const link = { bridge: network.bridge, host: `${LINK_PREFIX}${endpointId}`.slice(0, LINK_LENGTH), name: `eth${place}`, mtu: this.parts.config.mtu };
    return { ...base, address, prefix: subnet.prefix, gateway: Gateway, mac, link };
  }

  #portsFor(container: Container, { address, endpointId }: EndpointSetup): PortSetup[] {
    const { config } = this.parts;
    const groups = groupRequests(portRequests(container.config, container.hostConfig), { hostIp: config.ip, ipv6: hasIPv6() });
    try {
      return groups.flatMap((group) => {
        const via = (hostIp: string): PortSetup['via'] => (config.iptables && !hostIp.includes(':') ? 'kernel' : 'proxy');
        if (group.protocol === 'sctp' && group.hostIps.some((hostIp) => via(hostIp) === 'proxy')) throw new PortTaken(`port ${group.containerPort}/sctp can only be published by the kernel's rules, and over IPv4`);
        const hostPort = this.#ports.allocate(container.id, group, address);
        return group.hostIps.map((hostIp): PortSetup => ({ protocol: group.protocol, hostIp, hostPort, address, port: group.containerPort, via: via(hostIp) }));
      });
    } catch (error) {
      this.#ports.release(container.id);
      if (error instanceof PortTaken) throw new SystemFault(`${FAILED}: driver failed programming external connectivity on endpoint ${container.name} (${endpointId}): ${error.message}`);
      throw error;
    }
  }

  async #undo({ containerId, phase, setup: text }: AttachmentRow): Promise<void> {
    const setup = JSON.parse(text) as Setup;
    if (phase !== 'tearing-down') this.parts.store.move(containerId, 'tearing-down');
    await this.#driver.tearDown(setup);
    // Told of as left only what was told of as connected, and not in another boot's name.
    const told = phase !== 'setting-up' && setup.boot === this.#boot;
    this.parts.store.end(containerId, () => told && this.parts.events.record(...eventsOf(setup, 'disconnect')));
    this.#ports.release(containerId);
  }

  #inTurn<T>(id: string, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(id) ?? Promise.resolve();
    const turn = before.then(work, work);
    this.#turns.set(id, turn);
    const leave = (): void => void (this.#turns.get(id) === turn && this.#turns.delete(id));
    turn.then(leave, leave);
    return turn;
  }

  // Their rows keep id and time of creation; the rest follows the configuration.
  #defaults(): Network[] {
    const { bridge, bip, mtu, ip } = this.parts.config;
    const known = new Map(this.#networks.map((network) => [network.name, network]));
    const base = (name: string): Pick<Network, 'id' | 'name' | 'created'> =>
      ({ id: known.get(name)?.id ?? randomBytes(ID_BYTES).toString('hex'), name, created: known.get(name)?.created ?? wallNow() });
    const plain = { bridge: '', enableIPv4: true, enableIPv6: false, internal: false, attachable: false, ingress: false, ipam: { driver: 'default', options: null, config: [] }, options: {}, labels: {} };
    return [
      {
        ...plain, ...base('bridge'), driver: 'bridge', bridge,
        ipam: { driver: 'default', options: null, config: [{ Subnet: cidrOf(subnetOf(bip)), Gateway: addressOf(bip) }] },
        options: {
          'com.docker.network.bridge.default_bridge': 'true', 'com.docker.network.bridge.enable_icc': 'true', 'com.docker.network.bridge.enable_ip_masquerade': 'true',
          'com.docker.network.bridge.host_binding_ipv4': ip || '0.0.0.0', 'com.docker.network.bridge.name': bridge, 'com.docker.network.driver.mtu': String(mtu),
        },
      },
      { ...plain, ...base('host'), driver: 'host' },
      { ...plain, ...base('none'), driver: 'null' },
    ];
  }
}

function attachmentOf(container: Container, setup: Setup): Attachment {
  const endpoints = setup.endpoints.map((made): [string, Endpoint] => {
    const planned = container.endpoints[made.network] ?? Object.values(container.endpoints).find(({ networkId }) => networkId === made.networkId)!;
    return [made.network, {
      ...planned, network: made.network, networkId: made.networkId, endpointId: made.endpointId, gateway: made.gateway, ipAddress: made.address, ipPrefixLen: made.prefix, macAddress: made.mac,
    }];
  });
  const ports = setup.ports.map(({ port, protocol, hostIp, hostPort, via }): PublishedPort => ({ containerPort: port, protocol, hostIp, hostPort, ...(via === 'proxy' && { proxied: true }) }));
  return { endpoints: Object.fromEntries(endpoints), ports, netns: setup.netns };
}

const eventsOf = (setup: Setup, action: 'connect' | 'disconnect'): NewEvent[] =>
  setup.endpoints.map(({ network, networkId, type }) => ({ type: 'network', action, actor: networkId, attributes: { container: setup.container, name: network, type }, time: wallNow() }));

const addressOf = (cidr: string): string => cidr.split('/')[0]!;

function portRange(): readonly [number, number] {
  try {
    const [first, last] = readFileSync(PORT_RANGE, 'latin1').trim().split(/\s+/).map(Number);
    return first && last ? [first, last] : DEFAULT_PORT_RANGE;
  } catch {
    return DEFAULT_PORT_RANGE;
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
