/** What containers are attached to: made, changed and undone, each step on record before it is taken. */
import { closeSync } from 'node:fs';
import type { Config } from '../../config/config.ts';
import type { AttachmentRow, NetworkStore } from '../../store/networks.ts';
import { faultPoint } from '../../sys/fault.ts';
import { bindPort } from '../../sys/inet.ts';
import { Errno } from '../../sys/libc.ts';
import { bootId } from '../../sys/process.ts';
import { wallNow } from '../clock.ts';
import type { Container, Endpoint } from '../containers/container.ts';
import { EngineError, Forbidden, SystemFault } from '../errors.ts';
import type { NewEvent } from '../events/event.ts';
import type { Paths } from '../paths.ts';
import { Addresses, aimed, endpointsOf, makeEndpoint, namesOf, portRange, portsEnd, publishedPorts, viaOf } from './endpoints.ts';
import type { Driver, EndpointSetup, PortSetup, Setup } from './driver.ts';
import type { Network } from './network.ts';
import { networkOf } from './plan.ts';
import { groupRequests, portRequests, PortTable, PortTaken, type Protocol, type PublishedPort } from './ports.ts';

/** What a running container has: its endpoints with addresses, its published ports, its network namespace. */
export interface Attachment {
  endpoints: Record<string, Endpoint>;
  ports: PublishedPort[];
  /** Where its network namespace is pinned; '' = it uses the host's. */
  netns: string;
}

export interface AttachmentParts {
  store: NetworkStore;
  config: Pick<Config, 'iptables' | 'ip' | 'dns'>;
  paths: Paths;
  events: { record(...events: NewEvent[]): void };
  driver: Driver;
  /** By id, name or id prefix. @throws NotFound */
  network: (reference: string) => Network;
  /** Resolves when what the last daemon left is taken up: nothing is changed before. */
  ready: () => Promise<void>;
  /** What the setups say of names has changed. */
  namesChanged: () => Promise<void>;
}

const FAILED = 'failed to set up container networking';

/** Why a port cannot be had, in Go's words: clients know them. */
const REFUSALS: Record<string, string> = {
  EADDRINUSE: 'address already in use', EADDRNOTAVAIL: 'cannot assign requested address', EACCES: 'permission denied', EPROTONOSUPPORT: 'protocol not supported',
};

export class Attachments {
  readonly #ports = new PortTable({ ephemeral: portRange(), probe });
  readonly #boot = bootId();
  readonly #addresses: Addresses;
  /** What is set up, or being set up, in this boot. */
  readonly #setups = new Map<string, Setup>();
  /** The end of the queue of each container's attaching and detaching. */
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(private readonly parts: AttachmentParts) {
    this.#addresses = new Addresses((networkId, address) => parts.store.isTaken(networkId, address));
  }

  setups = (): Setup[] => [...this.#setups.values()];

  /** Endpoints on a network, those on their way in and out too. */
  on = (networkId: string): { setup: Setup; endpoint: EndpointSetup }[] =>
    this.setups().flatMap((setup) => setup.endpoints.filter((endpoint) => endpoint.networkId === networkId).map((endpoint) => ({ setup, endpoint })));

  /** Takes up what the daemon before left: what is up stays, through `begin` undisturbed; what was half done is undone. */
  async start(begin: (live: Setup[]) => Promise<void>): Promise<void> {
    const rows = this.parts.store.attachments().map((row) => ({ row, setup: JSON.parse(row.setup) as Setup }));
    const live = rows.filter(({ row, setup }) => row.phase === 'up' && setup.boot === this.#boot);
    for (const { setup } of live) {
      this.#setups.set(setup.container, setup);
      this.#ports.hold(setup.container, [...setup.ports, ...setup.idlePorts].map(({ protocol, hostIp, hostPort }) => ({ protocol, address: hostIp, port: hostPort })));
      for (const { networkId, address, address6 } of setup.endpoints) for (const each of [address, address6]) this.#addresses.used(networkId, each);
    }
    await begin(live.map(({ setup }) => setup));
    // Half up: `attach` never returned, so no process was given it. Of another boot: nothing of it exists.
    for (const { row } of rows.filter((each) => !live.includes(each))) await this.#undo(row);
    for (const { setup } of live) for (const endpoint of setup.endpoints.filter(({ changing }) => changing)) await this.#takeAway(this.#setups.get(setup.container)!, endpoint);
  }

  /**
   * Makes the container's netns, gives it addresses and ports. Intent first; repeatable after a crash.
   * To be awaited before the runtime is asked for anything: an attach that never returned is undone at the next start.
   * @throws SystemFault `driver failed programming external connectivity …` when a port is taken, NotFound for a network, Forbidden for an address
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

  /** Gives a container that is attached one more network. `commit` runs in the transaction that makes it so. @throws Forbidden, SystemFault */
  join(container: Container, network: Network, planned: Endpoint, commit: (attachment: Attachment) => void): Promise<void> {
    return this.#inTurn(container.id, async () => {
      const before = this.#attached(container);
      if (before.endpoints.some(({ networkId }) => networkId === network.id)) throw new Forbidden(`endpoint with name ${container.name} already exists in network ${network.name}`);
      this.#checkDriver([network]);
      // From here to the record nothing is awaited: no two containers get one address or one port.
      const used = before.endpoints.flatMap(({ link }) => (link ? [link.name] : []));
      const made: EndpointSetup = { ...makeEndpoint(network, planned, container, used, this.#addresses), changing: 'joining' };
      const joined = aimed({ ...before, endpoints: [...before.endpoints, made] }, { rules: this.parts.config.iptables });
      const first = joined.ports.length === 0 ? portsEnd(joined) : undefined;
      const setup: Setup = first ? { ...joined, ports: this.#portsFor(container, first) } : joined;
      this.#change(setup, { take: addressesOf(made) });
      faultPoint('network.joining');
      try {
        await this.parts.driver.join(setup, made);
      } catch (error) {
        await this.#takeAway(setup, made);
        throw new SystemFault((error as Error).message, { cause: error });
      }
      const { changing: _, ...whole } = made;
      const done: Setup = { ...setup, endpoints: [...before.endpoints, whole] };
      const attachment = attachmentOf({ ...container.endpoints, [network.name]: planned }, done);
      this.#change(done, {}, () => {
        commit(attachment);
        this.parts.events.record(...eventsOf(done, [whole], 'connect'));
      });
      await this.parts.namesChanged();
    });
  }

  /** Takes a network from a container that is attached. `commit` runs in the transaction that decides it. @throws SystemFault when it is not on it */
  leave(container: Container, network: Network, commit: (attachment: Attachment) => void): Promise<void> {
    return this.#inTurn(container.id, async () => {
      const before = this.#attached(container);
      const endpoint = before.endpoints.find(({ networkId }) => networkId === network.id);
      if (!endpoint) throw new SystemFault(`container ${container.id} is not connected to network ${network.name}`);
      const setup = this.#without(before, endpoint);
      this.#change(setup, {}, () => commit(attachmentOf(container.endpoints, setup)));
      faultPoint('network.leaving');
      await this.parts.namesChanged();
      await this.#takeAway(setup, setup.endpoints.find(({ networkId }) => networkId === network.id)!);
    });
  }

  /** A container that is attached has got another name. */
  renamed(container: Container): Promise<void> {
    return this.#inTurn(container.id, async () => {
      const setup = this.#setups.get(container.id);
      if (!setup) return;
      const named = (endpoint: EndpointSetup): EndpointSetup =>
        (endpoint.names.length === 0 ? endpoint : { ...endpoint, names: namesOf(container, container.endpoints[endpoint.network]?.request ?? {}) });
      this.#change({ ...setup, name: container.name, endpoints: setup.endpoints.map(named) });
      await this.parts.namesChanged();
    });
  }

  /** Nothing is under way any more. */
  idle = async (): Promise<void> => void (await Promise.allSettled(this.#turns.values()));

  async #attach(container: Container): Promise<Attachment> {
    const { store, driver, events } = this.parts;
    const setup = this.#setupFor(container);
    try {
      store.begin(container.id, setup.netns, JSON.stringify(setup), setup.endpoints.flatMap(addressesOf));
    } catch (error) {
      this.#ports.release(container.id);
      throw error;
    }
    this.#setups.set(container.id, setup);
    try {
      await driver.setUp(setup);
    } catch (error) {
      this.#setups.delete(container.id);
      store.end(container.id);
      this.#ports.release(container.id);
      throw new SystemFault(`${FAILED}: ${(error as Error).message}`, { cause: error });
    }
    store.move(container.id, 'up', () => events.record(...eventsOf(setup, setup.endpoints, 'connect')));
    if (setup.endpoints.some(({ names }) => names.length > 0)) await this.parts.namesChanged();
    return attachmentOf(container.endpoints, setup);
  }

  // From here to the row's insert nothing is awaited: no two containers get one address or one port.
  #setupFor(container: Container): Setup {
    const networks = Object.entries(container.endpoints).map(([name, endpoint]) => ({ endpoint, network: this.#networkFor(endpoint.networkId || name) }));
    this.#checkDriver(networks.map(({ network }) => network));
    const used: string[] = [];
    const taken = new Set<string>();
    const endpoints = networks.map(({ network, endpoint }) => {
      const made = failing(() => makeEndpoint(network, endpoint, container, used, this.#addresses));
      if (taken.has(network.id)) throw new Forbidden(`${FAILED}: endpoint with name ${container.name} already exists in network ${network.name}`);
      taken.add(network.id);
      if (made.link) used.push(made.link.name);
      return made;
    });
    const hasHost = networks.some(({ network }) => network.driver === 'host');
    const end = portsEnd({ endpoints });
    return {
      version: 1, boot: this.#boot, container: container.id, name: container.name, netns: hasHost ? '' : this.parts.paths.netns(container.id),
      endpoints, ports: end ? this.#portsFor(container, end) : [], idlePorts: [], dnsServers: this.#dnsServers(container, networks.map(({ network }) => network)),
    };
  }

  #networkFor(reference: string): Network {
    return failing(() => this.parts.network(reference));
  }

  #checkDriver(networks: Network[]): void {
    const { unavailable } = this.parts.driver;
    if (unavailable !== undefined && networks.some(({ driver }) => driver === 'bridge')) throw new SystemFault(`${FAILED}: ${unavailable}`);
  }

  // On internal networks alone a name must not be a way out either: this address refuses at once (a broadcast needs SO_BROADCAST, socket(7)).
  #dnsServers({ hostConfig }: Container, networks: Network[]): string[] {
    const NOWHERE = '255.255.255.255';
    if (networks.length > 0 && networks.every(({ internal }) => internal)) return [NOWHERE];
    return [...(hostConfig.Dns?.length ? hostConfig.Dns : this.parts.config.dns)];
  }

  #portsFor(container: Container, end: EndpointSetup): PortSetup[] {
    const { config } = this.parts;
    const { hostIp } = this.parts.network(end.networkId).settings;
    const groups = groupRequests(portRequests(container.config, container.hostConfig), { hostIp, ipv6: hasIPv6() });
    const address = end.address || end.address6;
    try {
      return groups.flatMap((group) => {
        const via = (ip: string): PortSetup['via'] => viaOf(ip, end, { rules: config.iptables });
        if (group.protocol === 'sctp' && group.hostIps.some((ip) => via(ip) === 'proxy')) throw new PortTaken(`port ${group.containerPort}/sctp can only be published by the kernel's rules, and over IPv4`);
        const hostPort = this.#ports.allocate(container.id, group, address);
        return group.hostIps.map((ip): PortSetup => ({ protocol: group.protocol, hostIp: ip, hostPort, address, port: group.containerPort, via: via(ip) }));
      });
    } catch (error) {
      this.#ports.release(container.id);
      if (error instanceof PortTaken) throw new SystemFault(`${FAILED}: driver failed programming external connectivity on endpoint ${container.name} (${end.endpointId}): ${error.message}`);
      throw error;
    }
  }

  #attached({ id }: Container): Setup {
    const setup = this.#setups.get(id);
    if (!setup) throw new SystemFault(`container ${id} has no network of its own`);
    return setup;
  }

  #without(setup: Setup, endpoint: EndpointSetup): Setup {
    const endpoints = setup.endpoints.map((each): EndpointSetup => (each.networkId === endpoint.networkId ? { ...each, changing: 'leaving' } : each));
    return aimed({ ...setup, endpoints }, { rules: this.parts.config.iptables });
  }

  // Told of as left only what was told of as connected.
  async #takeAway(setup: Setup, endpoint: EndpointSetup): Promise<void> {
    const leaving = this.#without(setup, endpoint);
    await this.parts.driver.leave(leaving, endpoint);
    const done = { ...leaving, endpoints: leaving.endpoints.filter(({ networkId }) => networkId !== endpoint.networkId) };
    const told = endpoint.changing !== 'joining';
    this.#change(done, { leave: endpoint.networkId }, () => told && this.parts.events.record(...eventsOf(done, [endpoint], 'disconnect')));
  }

  #change(setup: Setup, changes: Parameters<NetworkStore['change']>[2] = {}, also?: () => void): void {
    this.parts.store.change(setup.container, JSON.stringify(setup), changes, also);
    this.#setups.set(setup.container, setup);
  }

  async #undo({ containerId, phase, setup: text }: AttachmentRow): Promise<void> {
    const setup = JSON.parse(text) as Setup;
    if (phase !== 'tearing-down') this.parts.store.move(containerId, 'tearing-down');
    await this.parts.driver.tearDown(setup);
    // Told of as left only what was told of as connected, and not in another boot's name.
    const told = phase !== 'setting-up' && setup.boot === this.#boot;
    this.parts.store.end(containerId, () => told && this.parts.events.record(...eventsOf(setup, setup.endpoints, 'disconnect')));
    this.#setups.delete(containerId);
    this.#ports.release(containerId);
    if (setup.endpoints.some(({ names }) => names.length > 0)) await this.parts.namesChanged();
  }

  #inTurn<T>(id: string, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(id) ?? this.parts.ready();
    const turn = before.then(work, work);
    this.#turns.set(id, turn);
    const leave = (): void => void (this.#turns.get(id) === turn && this.#turns.delete(id));
    turn.then(leave, leave);
    return turn;
  }
}

const addressesOf = ({ networkId, address, address6 }: EndpointSetup): { networkId: string; address: string }[] =>
  [address, address6].filter(Boolean).map((each) => ({ networkId, address: each }));

const attachmentOf = (planned: Record<string, Endpoint>, setup: Setup): Attachment => ({ endpoints: endpointsOf(planned, setup), ports: publishedPorts(setup), netns: setup.netns });

const eventsOf = (setup: Setup, endpoints: EndpointSetup[], action: 'connect' | 'disconnect'): NewEvent[] =>
  endpoints.map(({ network, networkId, type }) => ({ type: 'network', action, actor: networkId, attributes: { container: setup.container, name: network, type }, time: wallNow() }));

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
