/** Networks: what there are, and who is on them. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../../config/config.ts';
import type { NetworkStore } from '../../store/networks.ts';
import { faultPoint } from '../../sys/fault.ts';
import { wallNow } from '../clock.ts';
import type { EndpointRequest } from '../../model/container-config.ts';
import type { Container, Endpoint } from '../../model/container.ts';
import { Conflict, Forbidden, InvalidParameter, NotFound, SystemFault } from '../../model/errors.ts';
import type { NewEvent } from '../../model/event.ts';
import type { Paths } from '../paths.ts';
import { pruneMatcher } from '../prune-filter.ts';
import { Attachments, type Attachment } from './attachments.ts';
import { define, type NetworkRequest } from './definition.ts';
import type { Driver } from './driver.ts';
import { addOwnAddresses, dropOwnAddresses, writeNetworkFiles, writeResolvConf, type FileInput } from './files.ts';
import { networkFilter } from './filter.ts';
import { defaultNetworks, localPrefix, networkFrom } from './network-factory.ts';
import { hasNames, NameService, nameTables, refuserOf, resolversOf } from './dns.ts';
import { NetlinkDriver } from './netlink-driver.ts';
import { bridgeOf, isPredefined, type Network } from '../../model/network.ts';
import { faultOf, networkOf, planEndpoint, planEndpoints, type Planned } from './plan.ts';
import { PortProxy } from './port-proxy.ts';

export type { Attachment } from './attachments.ts';

/** A container on a network, as the network's inspect lists it. */
export interface Member {
  container: string;
  /** Of the container. */
  name: string;
  endpointId: string;
  macAddress: string;
  /** With prefix length; '' without an address. */
  ipv4Address: string;
  ipv6Address: string;
}

export interface NetworkParts {
  store: NetworkStore;
  config: Pick<
    Config,
    | 'instance'
    | 'bridge'
    | 'bip'
    | 'mtu'
    | 'ip'
    | 'iptables'
    | 'dns'
    | 'dnsOptions'
    | 'dnsSearch'
    | 'defaultAddressPools'
  >;
  paths: Paths;
  events: { record(...events: NewEvent[]): void };
  log: { info(message: string): void; warn(message: string): void };
  /** The bundle of port-proxy-main.ts. */
  proxyBundle: string;
  /** Another one in tests. */
  driver?: Driver;
}

export class Networks {
  readonly #driver: Driver;
  readonly #names: NameService;
  readonly #attachments: Attachments;
  #networks: Network[] = [];
  /** Resolves when start() is done: until then nothing is attached, made or removed. */
  #started: Promise<void> = Promise.resolve();
  #pruning = false;

  constructor(private readonly parts: NetworkParts) {
    const { config, paths, log, proxyBundle, store, events } = parts;
    this.#driver =
      parts.driver ??
      new NetlinkDriver({
        name: config.bridge,
        firewall: config.iptables,
        proxy: new PortProxy({ socket: join(paths.execRoot, 'ports.sock'), bundle: proxyBundle, log }),
        log,
      });
    this.#names = new NameService({ directory: paths.names(), log });
    this.#attachments = new Attachments({
      store,
      config,
      paths,
      events,
      driver: this.#driver,
      network: (reference) => this.resolve(reference),
      ready: () => this.#started,
      namesChanged: () => this.#names.publish(this.#nameTables()),
    });
  }

  /**
   * Makes the default networks' rows, re-adds links, rules and names that were wiped, undoes what was half done. A
   * container that is attached is not disturbed.
   */
  start(): Promise<void> {
    const started = this.#start();
    this.#started = started.catch(() => undefined);
    return started;
  }

  // What can be asked for is there at once; links, rules and names follow.
  async #start(): Promise<void> {
    const { store } = this.parts;
    const rows = store.networks();
    this.#networks = rows.filter(({ phase }) => phase === 'ready').map(({ network }) => network);
    for (const network of defaultNetworks(this.parts.config, this.#networks)) {
      store.save(network);
      store.setPhase(network.id, 'ready');
      this.#networks = [...this.#networks.filter(({ id }) => id !== network.id), network];
    }
    await this.#attachments.start((live) =>
      this.#driver.start(this.#networks.filter(({ driver }) => driver === 'bridge').map(bridgeOf), live),
    );
    for (const { network, phase } of rows)
      if (phase !== 'ready' && !isPredefined(network.name))
        await this.#takeAway(network, { told: phase === 'removing' });
    await this.#names.start(this.#nameTables());
  }

  /** All of them, or those that pass filters. @throws InvalidParameter for unknown filters and bad values */
  list(filters: ReadonlyMap<string, readonly string[]> = new Map()): Network[] {
    return this.#networks.filter(networkFilter(filters, (network) => this.members(network.id).length > 0));
  }

  /** By id, name or id prefix. @throws NotFound `network X not found`, InvalidParameter */
  resolve(reference: string): Network {
    const exact =
      this.#networks.find(({ id }) => id === reference) ?? this.#networks.find(({ name }) => name === reference);
    if (exact) return exact;
    const matches = reference === '' ? [] : this.#networks.filter(({ id }) => id.startsWith(reference));
    if (matches.length > 1)
      throw new InvalidParameter(
        `network ${reference} is ambiguous (${matches.length} matches found based on ID prefix)`,
      );
    if (!matches[0]) throw new NotFound(`network ${reference} not found`);
    return matches[0];
  }

  find(reference: string): Network | undefined {
    try {
      return this.resolve(reference === 'default' ? 'bridge' : reference);
    } catch {
      return undefined;
    }
  }

  /**
   * @throws InvalidParameter, Forbidden, Conflict `network with name X already exists`, NotFound with Docker's texts
   */
  async create(request: NetworkRequest): Promise<Network> {
    await this.#started;
    const { store, config, events } = this.parts;
    const definition = define(request, { mtu: config.mtu, hostIp: config.ip });
    if (store.networks().some(({ network }) => network.name === definition.name))
      throw new Conflict(`network with name ${definition.name} already exists`);
    if (this.#driver.unavailable !== undefined) throw new SystemFault(this.#driver.unavailable);
    // From here to the row nothing is awaited: no two networks get one subnet.
    const others = store.networks().map(({ network }) => network);
    const network = networkFrom(definition, {
      others,
      pools: config.defaultAddressPools,
      localPrefix: localPrefix(this.parts.paths.dataRoot),
      routes: this.#driver.routes,
      hasLink: this.#driver.hasLink,
      now: wallNow(),
    });
    store.insertCreating(network);
    try {
      await this.#driver.addBridge(bridgeOf(network));
    } catch (error) {
      store.delete(network.id);
      throw new SystemFault(`failed to create network ${network.name}: ${(error as Error).message}`, { cause: error });
    }
    faultPoint('network.made');
    store.setPhase(network.id, 'ready', () => events.record(eventOf(network, 'create')));
    this.#networks.push(network);
    return network;
  }

  /** @throws NotFound, Forbidden when it is predefined or somebody is on it */
  async remove(reference: string): Promise<void> {
    await this.#started;
    const network = this.resolve(reference);
    if (isPredefined(network.name))
      throw new Forbidden(`${network.name} is a pre-defined network and cannot be removed`);
    if (this.#attachments.on(network.id).length > 0)
      throw new Forbidden(
        `error while removing network: network ${network.name} id ${network.id} has active endpoints`,
      );
    this.parts.store.setPhase(network.id, 'removing');
    // Nobody finds it from here on.
    this.#networks = this.#networks.filter((each) => each !== network);
    faultPoint('network.removing');
    await this.#takeAway(network, { told: true });
  }

  /** Names of those that went: all of users' making that nobody is on. @throws Conflict while another prune runs */
  async prune(filters: ReadonlyMap<string, readonly string[]>): Promise<string[]> {
    const matches = pruneMatcher(filters);
    if (this.#pruning) throw new Conflict('a prune operation is already running');
    this.#pruning = true;
    try {
      const gone: string[] = [];
      for (const network of this.#networks.filter(
        (each) => !isPredefined(each.name) && this.#attachments.on(each.id).length === 0 && matches(each),
      )) {
        await this.remove(network.id).then(
          () => gone.push(network.name),
          (error: Error) => this.parts.log.warn(`could not remove network ${network.name}: ${error.message}`),
        );
      }
      this.parts.events.record({
        type: 'network',
        action: 'prune',
        actor: '',
        attributes: { reclaimed: '0' },
        time: wallNow(),
      });
      return gone;
    } finally {
      this.#pruning = false;
    }
  }

  /** Containers that are on a network now. */
  members(networkId: string): Member[] {
    return this.#attachments
      .on(networkId)
      .filter(({ endpoint }) => endpoint.changing === undefined)
      .map(({ setup: { container, name }, endpoint: e }) => ({
        container,
        name,
        endpointId: e.endpointId,
        macAddress: e.mac,
        ipv4Address: e.address && `${e.address}/${e.prefix}`,
        ipv6Address: e.address6 && `${e.address6}/${e.prefix6}`,
      }));
  }

  /** Endpoints of a container at create, without addresses. @throws InvalidParameter */
  plan(mode: string, requests: Record<string, EndpointRequest | null>, container: Planned): Record<string, Endpoint> {
    return planEndpoints(mode, requests, container, (reference) => this.find(reference));
  }

  /**
   * One more endpoint of a container, without addresses. @throws InvalidParameter for what cannot be had together,
   * Docker's texts
   */
  planOne(container: Container, network: Network, request: EndpointRequest): Endpoint {
    const fault = faultOf(network.name, request, network);
    if (fault) throw new InvalidParameter(fault);
    if (container.hostConfig.NetworkMode !== 'host' && network.driver === 'host')
      throw new InvalidParameter(
        'cannot connect container to host network - container must be created in host network mode',
      );
    for (const [key, { networkId }] of Object.entries(container.endpoints)) {
      const other = this.find(networkId || key);
      if (!other || other === network) continue;
      if (other.driver === 'host')
        throw new InvalidParameter(
          'container sharing network namespace with another container or host cannot be connected to any other network',
        );
      if (other.name === 'none' || network.name === 'none')
        throw new InvalidParameter(
          'container cannot be connected to multiple networks with one of the networks in private (none) mode',
        );
    }
    return {
      ...planEndpoint(network.name, request, {
        id: container.id,
        name: container.name,
        hostname: container.config.Hostname,
      }),
      networkId: network.id,
    };
  }

  attach = (container: Container): Promise<Attachment> => this.#attachments.attach(container);
  detach = (container: Pick<Container, 'id'>): Promise<void> => this.#attachments.detach(container);
  sweep = (holds: (containerId: string) => boolean): Promise<void> => this.#attachments.sweep(holds);
  renamed = (container: Container): Promise<void> => this.#attachments.renamed(container);

  /**
   * Connects a container that runs; `commit` keeps the container's record in the same transaction. @throws Forbidden,
   * SystemFault
   */
  async connect(
    container: Container,
    network: Network,
    planned: Endpoint,
    commit: (attachment: Attachment) => void,
  ): Promise<void> {
    await this.#attachments.join(container, network, planned, commit);
    const { ipAddress, globalIPv6Address } = container.endpoints[network.name] ?? planned;
    const directory = this.parts.paths.container(container.id);
    addOwnAddresses(directory, [ipAddress, globalIPv6Address].filter(Boolean), {
      hostname: container.config.Hostname,
      domainname: container.config.Domainname,
    });
    writeResolvConf(directory, this.#files(container));
  }

  /** Disconnects a container that runs. @throws SystemFault */
  async disconnect(container: Container, network: Network, commit: (attachment: Attachment) => void): Promise<void> {
    const before = container.endpoints[network.name];
    await this.#attachments.leave(container, network, commit);
    const directory = this.parts.paths.container(container.id);
    dropOwnAddresses(directory, [before?.ipAddress ?? '', before?.globalIPv6Address ?? ''].filter(Boolean));
    writeResolvConf(directory, this.#files(container));
  }

  /** Tells of what was done to a container that does not run. */
  told(container: Container, network: Network, action: 'disconnect'): void {
    this.parts.events.record({
      type: 'network',
      action,
      actor: network.id,
      attributes: { container: container.id, name: network.name, type: network.driver },
      time: wallNow(),
    });
  }

  /** Writes hosts, resolv.conf and hostname into the container's directory. */
  writeFiles(container: Container, attachment: Attachment): void {
    if (networkOf(container.hostConfig.NetworkMode) === undefined) return;
    writeNetworkFiles(
      this.parts.paths.container(container.id),
      this.#files({ ...container, endpoints: attachment.endpoints }),
    );
  }

  /** Looks at once whether rules or links were wiped, and puts them back. It is done by itself within seconds. */
  restoreRules = (): Promise<void> => this.#driver.restoreRules();

  /** Nothing is on its way out any more: the links of all detached containers are gone. */
  settled = (): Promise<void> => this.#driver.settled();

  /** Ends the looking after; all that is set up stays and works. */
  letGo(): void {
    this.#names.close();
    this.#driver.stop();
  }

  /**
   * At the daemon's clean end. With nothing attached, bridges and rules go as well: the next start makes them in
   * milliseconds.
   */
  async close(): Promise<void> {
    await this.#started;
    await this.#attachments.idle();
    await this.#names.publish(this.#nameTables());
    this.letGo();
    if (this.parts.store.attachments().length === 0) await this.#driver.dismantle();
  }

  #nameTables = (): Map<string, string> =>
    nameTables(this.#networks, this.#attachments.setups(), refuserOf(this.parts.config.bridge));

  #files({ config, hostConfig, endpoints }: Container): FileInput {
    const daemon = this.parts.config;
    const first = (...lists: (readonly string[] | null)[]): string[] => [
      ...(lists.find((list) => list !== null && list.length > 0) ?? []),
    ];
    const named = Object.values(endpoints)
      .flatMap(({ networkId }) => this.find(networkId) ?? [])
      .filter(hasNames);
    // The one that does not go away with an internal network's bridge is as good as any.
    const server = named.find(({ internal }) => !internal) ?? named[0];
    return {
      hostname: config.Hostname,
      domainname: config.Domainname,
      hostNetwork: networkOf(hostConfig.NetworkMode) === 'host',
      addresses: Object.values(endpoints)
        .flatMap(({ ipAddress, globalIPv6Address }) => [ipAddress, globalIPv6Address])
        .filter(Boolean),
      extraHosts: hostConfig.ExtraHosts ?? [],
      hostGateway: addressOf(daemon.bip),
      ipv6: existsSync('/proc/sys/net/ipv6') && hostConfig.Sysctls?.['net.ipv6.conf.all.disable_ipv6'] !== '1',
      dns: {
        servers: first(hostConfig.Dns, daemon.dns),
        search: first(hostConfig.DnsSearch, daemon.dnsSearch),
        options: first(hostConfig.DnsOptions, daemon.dnsOptions),
      },
      resolvers: server && this.#names.available ? resolversOf(server).slice(0, 1) : [],
    };
  }

  async #takeAway(network: Network, { told }: { told: boolean }): Promise<void> {
    await this.#driver.removeBridge(bridgeOf(network));
    this.parts.store.delete(network.id, () => told && this.parts.events.record(eventOf(network, 'destroy')));
  }
}

const eventOf = (network: Network, action: 'create' | 'destroy'): NewEvent => ({
  type: 'network',
  action,
  actor: network.id,
  attributes: { name: network.name, type: network.driver },
  time: wallNow(),
});

const addressOf = (text: string): string => text.split('/')[0]!;
