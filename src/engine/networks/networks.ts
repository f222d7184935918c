/** Networks: create, look up, remove; connect and disconnect containers. */
import { join } from 'node:path';
import type { Config } from '../../config/config.ts';
import type { EndpointRequest } from '../../model/container-config.ts';
import type { Container, Endpoint } from '../../model/container.ts';
import { Conflict, Forbidden, InvalidParameter, SystemFault } from '../../model/errors.ts';
import type { NewEvent } from '../../model/event.ts';
import { isPredefined, type Network } from '../../model/network.ts';
import type { NetworkStore } from '../../store/networks.ts';
import { faultPoint } from '../../sys/fault.ts';
import { wallNow } from '../clock.ts';
import type { Paths } from '../paths.ts';
import { pruneMatcher } from '../prune-filter.ts';
import { Attachments, type Attachment } from './attachments.ts';
import { ContainerEtcFiles } from './container-etc-files.ts';
import { define, type NetworkRequest } from './definition.ts';
import { dnsTables } from './dns-policy.ts';
import { DnsServer } from './dns-server.ts';
import { bridgeOf, type Driver } from './driver.ts';
import { disconnectEvent, networkEvent, pruneEvent } from './events.ts';
import { networkFilter } from './filter.ts';
import { NetlinkDriver } from './netlink-driver.ts';
import { NetworkIndex } from './network-index.ts';
import { defaultNetworks, localPrefix, networkFrom } from './network-factory.ts';
import { networkOfMode } from '../../model/namespace-mode.ts';
import { checkCombination, endpointFault, planEndpoint, planEndpoints, type Planned } from './plan.ts';
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

type NetworkConfig = Pick<
  Config,
  'instance' | 'bridge' | 'bip' | 'mtu' | 'ip' | 'iptables' | 'dns' | 'dnsOptions' | 'dnsSearch' | 'defaultAddressPools'
>;

export interface NetworksDeps {
  store: NetworkStore;
  config: NetworkConfig;
  paths: Paths;
  events: { record(...events: NewEvent[]): void };
  log: { info(message: string): void; warn(message: string): void };
  /** The bundle of port-proxy-main.ts. */
  proxyBundle: string;
  /** The bundle of dns/main.ts. */
  dnsBundle: string;
  /** Replaced in tests. */
  driver?: Driver;
}

export class Networks {
  readonly #driver: Driver;
  readonly #dns: DnsServer;
  readonly #attachments: Attachments;
  readonly #etcFiles: ContainerEtcFiles;
  readonly #index = new NetworkIndex();
  /** Resolves when start() has ended: before, nothing is attached, created or removed. */
  #started: Promise<void> = Promise.resolve();
  #pruning = false;

  constructor(private readonly deps: NetworksDeps) {
    const { config, paths, log, proxyBundle, dnsBundle, store, events } = deps;
    this.#driver =
      deps.driver ??
      new NetlinkDriver({
        name: config.bridge,
        firewall: config.iptables,
        forwardingRecord: paths.forwarding(),
        proxy: new PortProxy({ socket: join(paths.execRoot, 'ports.sock'), bundle: proxyBundle, log }),
        log,
      });
    this.#dns = new DnsServer({
      directory: paths.dns(),
      aardvark: paths.aardvark(),
      bundle: dnsBundle,
      tables: () => dnsTables(this.#index.all, this.#attachments.setups()),
      log,
    });
    this.#etcFiles = new ContainerEtcFiles({ paths, config, find: this.find });
    this.#attachments = new Attachments({
      store,
      config,
      paths,
      events,
      driver: this.#driver,
      network: (reference) => usable(this.resolve(reference)),
      ready: () => this.#started,
      publishDns: () => this.#dns.publish(),
      prepareDns: () => this.#dns.prepare(),
      log,
    });
  }

  /**
   * Saves the default networks, restores missing links, rules and DNS tables, and undoes what the previous daemon left
   * half done. Attached containers are not disturbed. Networks can be looked up before it resolves.
   */
  start(): Promise<void> {
    const started = this.#start();
    this.#started = started.catch(() => undefined);
    return started;
  }

  async #start(): Promise<void> {
    const { store } = this.deps;
    const rows = store.networks();
    for (const { network, phase } of rows) {
      if (phase === 'ready') this.#index.put(network);
      if (network.damaged !== undefined) this.deps.log.warn(`network ${network.name}: ${network.damaged}`);
    }
    for (const network of defaultNetworks(this.deps.config, this.#index.all)) {
      store.save(network);
      store.setPhase(network.id, 'ready');
      this.#index.put(network);
    }
    await this.#attachments.start((live) => this.#driver.start(this.#index.all.filter(isBridge).map(bridgeOf), live));
    for (const { network, phase } of rows)
      if (phase !== 'ready' && !isPredefined(network.name))
        await this.#finishRemoval(network, { wasCreated: phase === 'removing' });
    await this.#dns.start();
  }

  /** @throws InvalidParameter for unknown filters and bad values */
  list(filters: ReadonlyMap<string, readonly string[]> = new Map()): Network[] {
    return this.#index.all.filter(networkFilter(filters, (network) => this.members(network.id).length > 0));
  }

  /**
   * By id, name or id prefix.
   * @throws NotFound `network X not found`, InvalidParameter for an ambiguous prefix
   */
  resolve = (reference: string): Network => this.#index.resolve(reference);

  find = (reference: string): Network | undefined => this.#index.find(reference);

  /**
   * Creates a bridge network.
   * @throws InvalidParameter, Forbidden, Conflict `network with name X already exists`, NotFound; Docker's texts
   */
  async create(request: NetworkRequest): Promise<Network> {
    await this.#started;
    const { store, config, events } = this.deps;
    const definition = define(request, { mtu: config.mtu, hostIp: config.ip });
    if (store.networks().some(({ network }) => network.name === definition.name))
      throw new Conflict(`network with name ${definition.name} already exists`);
    if (this.#driver.unavailable !== undefined) throw new SystemFault(this.#driver.unavailable);
    // No await until the row is inserted, so that no two networks get the same subnet.
    const others = store.networks().map(({ network }) => network);
    const network = networkFrom(definition, {
      others,
      pools: config.defaultAddressPools,
      localPrefix: localPrefix(this.deps.paths.dataRoot),
      routes: () => this.#driver.routes(),
      hasLink: (name) => this.#driver.hasLink(name),
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
    store.setPhase(network.id, 'ready', () => events.record(networkEvent(network, 'create')));
    this.#index.put(network);
    return network;
  }

  /** @throws NotFound, Forbidden when it is predefined or has endpoints */
  async remove(reference: string): Promise<void> {
    await this.#started;
    const network = this.resolve(reference);
    if (isPredefined(network.name))
      throw new Forbidden(`${network.name} is a pre-defined network and cannot be removed`);
    if (this.#hasEndpoints(network))
      throw new Forbidden(
        `error while removing network: network ${network.name} id ${network.id} has active endpoints`,
      );
    this.deps.store.setPhase(network.id, 'removing');
    // From here on no lookup finds it, so nothing is attached to it while its bridge is deleted.
    this.#index.delete(network);
    faultPoint('network.removing');
    await this.#destroy(network, { wasCreated: true });
  }

  /**
   * Removes the user-defined networks without endpoints; returns their names.
   * @throws Conflict while another prune runs
   */
  async prune(filters: ReadonlyMap<string, readonly string[]>): Promise<string[]> {
    const matches = pruneMatcher(filters);
    if (this.#pruning) throw new Conflict('a prune operation is already running');
    this.#pruning = true;
    try {
      const unused = this.#index.all.filter(
        (network) =>
          !isPredefined(network.name) &&
          network.damaged === undefined &&
          !this.#hasEndpoints(network) &&
          matches(network),
      );
      const removed: string[] = [];
      for (const network of unused) if (await this.#tryRemove(network)) removed.push(network.name);
      this.deps.events.record(pruneEvent());
      return removed;
    } finally {
      this.#pruning = false;
    }
  }

  /** The containers that are connected to a network now. */
  members(networkId: string): Member[] {
    return this.#attachments
      .endpointsOn(networkId)
      .filter(({ endpoint }) => endpoint.changing === undefined)
      .map(({ setup: { container, name }, endpoint }) => ({
        container,
        name,
        endpointId: endpoint.endpointId,
        macAddress: endpoint.mac,
        ipv4Address: endpoint.address && `${endpoint.address}/${endpoint.prefix}`,
        ipv6Address: endpoint.address6 && `${endpoint.address6}/${endpoint.prefix6}`,
      }));
  }

  /** The endpoints of a container that is being created, without addresses. @throws InvalidParameter */
  plan(mode: string, requests: Record<string, EndpointRequest | null>, container: Planned): Record<string, Endpoint> {
    return planEndpoints(mode, requests, container, this.find);
  }

  /**
   * One more endpoint of a container, without addresses.
   * @throws InvalidParameter when the network cannot be combined with the container's others; Docker's texts
   */
  planOne(container: Container, network: Network, request: EndpointRequest): Endpoint {
    const fault = endpointFault(network.name, request, network);
    if (fault) throw new InvalidParameter(fault);
    checkCombination(container, network, this.find);
    const { id, name, config } = container;
    return { ...planEndpoint(network.name, request, { id, name, hostname: config.Hostname }), networkId: network.id };
  }

  attach = (container: Container): Promise<Attachment> => this.#attachments.attach(container);
  detach = (container: Pick<Container, 'id'>): Promise<void> => this.#attachments.detach(container);
  sweep = (holds: (containerId: string) => boolean): Promise<void> => this.#attachments.sweep(holds);
  renameContainer = (container: Container): Promise<void> => this.#attachments.rename(container);

  /**
   * Connects a running container; `commit` stores the container's record in the same transaction.
   * @throws Forbidden, SystemFault
   */
  async connect(
    container: Container,
    network: Network,
    planned: Endpoint,
    commit: (attachment: Attachment) => void,
  ): Promise<void> {
    await this.#attachments.join(container, network, planned, commit);
    this.#etcFiles.addEndpoint(container, container.endpoints[network.name] ?? planned);
  }

  /** Disconnects a running container; `commit` as in connect(). @throws SystemFault */
  async disconnect(container: Container, network: Network, commit: (attachment: Attachment) => void): Promise<void> {
    const before = container.endpoints[network.name];
    await this.#attachments.leave(container, network, commit);
    this.#etcFiles.removeEndpoint(container, before);
  }

  /** Records the event for a container that was disconnected while it was not running. */
  recordDisconnect(container: Container, network: Network): void {
    this.deps.events.record(disconnectEvent(container, network));
  }

  /** Writes hosts, resolv.conf and hostname into the container's directory. */
  writeFiles(container: Container, attachment: Attachment): void {
    if (networkOfMode(container.hostConfig.NetworkMode) === undefined) return;
    this.#etcFiles.write({ ...container, endpoints: attachment.endpoints });
  }

  /** Restores deleted rules and links at once, instead of within seconds. */
  restoreRules = (): Promise<void> => this.#driver.restoreRules();

  /** Resolves when the links of all detached containers are deleted. */
  settled = (): Promise<void> => this.#driver.settled();

  /** Stops watching the rules and the DNS server; everything that is set up stays and works. */
  stopWatching(): void {
    this.#dns.close();
    this.#driver.close();
  }

  /**
   * For the daemon's clean exit. When no container is attached, bridges and rules are deleted too: the next start
   * recreates them in milliseconds.
   */
  async close(): Promise<void> {
    await this.#started;
    await this.#attachments.idle();
    await this.#dns.publish();
    this.stopWatching();
    if (this.deps.store.attachments().length === 0) await this.#driver.dismantle();
  }

  #hasEndpoints = ({ id }: Network): boolean => this.#attachments.endpointsOn(id).length > 0;

  async #tryRemove(network: Network): Promise<boolean> {
    try {
      await this.remove(network.id);
      return true;
    } catch (error) {
      this.deps.log.warn(`could not remove network ${network.name}: ${(error as Error).message}`);
      return false;
    }
  }

  /** A network that cannot be removed keeps nothing else from starting; the next start tries again. */
  async #finishRemoval(network: Network, options: { wasCreated: boolean }): Promise<void> {
    try {
      await this.#destroy(network, options);
    } catch (error) {
      this.deps.log.warn(`could not finish the removal of network ${network.name}: ${(error as Error).message}`);
    }
  }

  /** Emits `destroy` only if `create` was emitted. */
  async #destroy(network: Network, { wasCreated }: { wasCreated: boolean }): Promise<void> {
    try {
      await this.#driver.removeBridge(bridgeOf(network));
    } catch (error) {
      // Otherwise its name and subnet would be in use by a network that nobody can see.
      this.deps.store.setPhase(network.id, 'ready');
      this.#index.put(network);
      throw error;
    }
    this.deps.store.delete(network.id, () => {
      if (wasCreated) this.deps.events.record(networkEvent(network, 'destroy'));
    });
  }
}

const isBridge = ({ driver, damaged }: Network): boolean => driver === 'bridge' && damaged === undefined;

/** @throws SystemFault */
function usable(network: Network): Network {
  if (network.damaged !== undefined) throw new SystemFault(`cannot use network ${network.name}: ${network.damaged}`);
  return network;
}
