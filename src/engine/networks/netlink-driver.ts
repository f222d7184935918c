/**
 * The network driver of Linux: links, addresses and routes over rtnetlink, published ports in one nf_tables table per
 * IP family. Starting a container spawns no process.
 */
import { Errno } from '../../sys/libc.ts';
import { faultPoint } from '../../sys/fault.ts';
import { removeNetns } from '../../sys/netns.ts';
import { deleteFlows } from '../../sys/conntrack.ts';
import type { Family } from '../../sys/nft-messages.ts';
import { carriesIPv6, type Bridge, type Driver, type EndpointSetup, type PortSetup, type Setup } from './driver.ts';
import { Firewall, type Openings } from './firewall.ts';
import { acceptTraffic, withdrawTraffic, type AcceptedBridge } from './iptables.ts';
import { Forwarding } from './forwarding.ts';
import { HostLinks } from './host-links.ts';
import { configureEndpoint, makeNamespace, setDefaultRoutes } from './namespace.ts';
import { allDnsClientsOf, dnsClientsOf } from './dns-policy.ts';
import type { PortProxy } from './port-proxy.ts';
import { writeSysctl } from './sysctl.ts';

export interface NetlinkDriverDeps {
  /** The default bridge, which the nf_tables table is named after: daemons on one host share neither. */
  name: string;
  /** Whether to install rules; without them every port is forwarded by the proxy, and nothing is masqueraded. */
  firewall: boolean;
  /** Path of the file that records by whom forwarding was switched on. */
  forwardingRecord: string;
  proxy: PortProxy;
  log: { info(message: string): void; warn(message: string): void };
}

const WATCH_MS = 1_000;
/** The shortest time between two checks, for hosts whose rules change all the time. */
const CHECK_MS = 2_000;
/** The longest time between two checks: changes by iptables-legacy do not count up the generation. */
const SWEEP_MS = 60_000;
/** A failure that lasts is logged again after this time. */
const REPEAT_MS = 600_000;

export class NetlinkDriver implements Driver {
  unavailable: string | undefined;
  readonly #links: HostLinks;
  readonly #firewall: Firewall | undefined;
  readonly #forwarding: Forwarding;
  /** Whether IPv4 forwarding was looked at: an administrator may switch it off later. */
  #forwards = false;
  /** The links that the rules forward for, as JSON. */
  #declaredOnly = '{}';
  readonly #setups = new Map<string, Setup>();
  readonly #bridges = new Map<string, Bridge>();
  /** Why the bridges that cannot be set up cannot, by link. The other networks work. */
  readonly #faults = new Map<string, Error>();
  #timer: NodeJS.Timeout | undefined;
  /** The kernel's rule generation at the last check. */
  #generation = 0;
  #checkedAtMs = 0;
  #restoring: Promise<void> | undefined;
  /** The last failure that was logged, while the watch fails. */
  #failure: { message: string; loggedAtMs: number } | undefined;

  constructor(private readonly deps: NetlinkDriverDeps) {
    this.#links = new HostLinks(deps.name, (message) => deps.log.warn(message));
    this.#forwarding = new Forwarding({ record: deps.forwardingRecord, log: deps.log });
    if (deps.firewall) this.#firewall = new Firewall(tableName(deps.name));
  }

  async start(bridges: Bridge[], setups: Setup[]): Promise<void> {
    for (const bridge of bridges) this.#bridges.set(bridge.link, bridge);
    for (const setup of setups) this.#setups.set(setup.container, setup);
    try {
      await this.#restore({ always: true });
      this.unavailable = undefined;
    } catch (error) {
      this.unavailable = (error as Error).message;
      this.#failure = { message: this.unavailable, loggedAtMs: Date.now() };
      this.deps.log.warn(`could not set up bridges and rules: ${this.unavailable}`);
    }
    this.#timer = setInterval(() => void this.#watch(), WATCH_MS).unref();
  }

  routes = (): string[] => this.#links.routes();
  hasLink = (name: string): boolean => this.#links.has(name);

  async addBridge(bridge: Bridge): Promise<void> {
    this.#bridges.set(bridge.link, bridge);
    try {
      await this.#restore({ always: true });
      const fault = this.#faults.get(bridge.link);
      if (fault) throw fault;
    } catch (error) {
      await this.removeBridge(bridge).catch((failure: unknown) =>
        this.deps.log.warn(`could not remove bridge ${bridge.link}: ${(failure as Error).message}`),
      );
      throw error;
    }
  }

  async removeBridge(bridge: Bridge): Promise<void> {
    const { link } = bridge;
    this.#bridges.delete(link);
    this.#faults.delete(link);
    await this.settled();
    await this.#restoring?.catch(() => undefined);
    await this.#links.deleteBridge(link);
    if (!this.#firewall) return;
    // Rules for a bridge that is gone match nothing: they do not keep the network from being removed.
    await this.#attempt(`remove the rules of bridge ${link}`, async () => {
      await withdrawTraffic([acceptedBridge(bridge)]);
      await this.#restore({ always: true });
    });
  }

  async setUp(setup: Setup): Promise<void> {
    this.#setups.set(setup.container, setup);
    try {
      makeNamespace(setup);
      for (const endpoint of setup.endpoints) if (endpoint.link) await this.#connect(setup, endpoint);
      await this.#open({ ports: setup.ports, dnsClients: allDnsClientsOf(setup) });
    } catch (error) {
      await this.tearDown(setup);
      throw error;
    }
  }

  async join(setup: Setup, endpoint: EndpointSetup): Promise<void> {
    const before = this.#setups.get(setup.container);
    this.#setups.set(setup.container, setup);
    if (endpoint.link) await this.#connect(setup, endpoint);
    faultPoint('network.joined');
    setDefaultRoutes(setup);
    await this.#movePorts(before?.ports ?? [], setup.ports);
    await this.#open({ ports: [], dnsClients: dnsClientsOf(endpoint) });
  }

  async leave(setup: Setup, endpoint: EndpointSetup): Promise<void> {
    const before = this.#setups.get(setup.container);
    this.#setups.set(setup.container, setup);
    await this.#movePorts(before?.ports ?? [], setup.ports);
    this.#firewall?.drop({ ports: [], dnsClients: dnsClientsOf(endpoint) });
    if (endpoint.link) await this.#links.disconnect(endpoint.link.host);
    faultPoint('network.left');
    setDefaultRoutes(setup);
  }

  async tearDown(setup: Setup): Promise<void> {
    this.#setups.delete(setup.container);
    if (setup.ports.some((port) => port.via === 'proxy')) await this.deps.proxy.update(this.#proxied());
    this.#firewall?.drop({ ports: setup.ports, dnsClients: setup.endpoints.flatMap(dnsClientsOf) });
    this.#deleteFlows(setup.ports);
    for (const { link } of setup.endpoints) if (link) this.#links.cutOff(link.host);
    if (setup.netns !== '') removeNetns(setup.netns);
  }

  async restoreRules(): Promise<void> {
    await this.#restore({ always: true });
  }

  async settled(): Promise<void> {
    await this.#links.settled();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.deps.proxy.close();
  }

  async dismantle(): Promise<void> {
    clearInterval(this.#timer);
    await this.#restoring?.catch(() => undefined);
    await this.settled();
    await this.deps.proxy.update([]);
    this.deps.proxy.close();
    const firewall = this.#firewall;
    if (firewall) {
      await this.#attempt('remove the rules', () => firewall.remove());
      const bridges = [...this.#bridges.values()].map(acceptedBridge);
      await this.#attempt('remove the accept rules', () => withdrawTraffic(bridges));
    }
    for (const name of this.#bridges.keys())
      await this.#attempt(`remove bridge ${name}`, () => this.#links.deleteBridge(name));
  }

  async #attempt(what: string, work: () => void | Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.deps.log.warn(`could not ${what}: ${(error as Error).message}`);
    }
  }

  #ports = (): PortSetup[] => [...this.#setups.values()].flatMap((setup) => setup.ports);

  /** The ports that the proxy listens on. */
  #proxied = (): PortSetup[] => this.#ports().filter((port) => port.via === 'proxy');

  async #connect(setup: Setup, endpoint: EndpointSetup): Promise<void> {
    const { bridge } = endpoint.link!;
    if (!this.#links.has(bridge) || this.#faults.has(bridge)) await this.#restore({ always: true });
    const fault = this.#faults.get(bridge);
    if (fault) throw fault;
    await this.#links.connect(endpoint, setup.netns);
    configureEndpoint(setup, endpoint);
  }

  // Published ports follow the endpoint with the default route; those that do not change are left alone.
  async #movePorts(before: PortSetup[], after: PortSetup[]): Promise<void> {
    const key = (port: PortSetup): string => JSON.stringify(port);
    const [old, wanted] = [new Set(before.map(key)), new Set(after.map(key))];
    const removed = before.filter((port) => !wanted.has(key(port)));
    if (removed.length > 0) {
      this.#firewall?.drop({ ports: removed, dnsClients: [] });
      this.#deleteFlows(removed);
      if (removed.some((port) => port.via === 'proxy')) await this.deps.proxy.update(this.#proxied());
    }
    await this.#open({ ports: after.filter((port) => !old.has(key(port))), dnsClients: [] });
  }

  async #open(openings: Openings): Promise<void> {
    const { ports, dnsClients } = openings;
    if (ports.length === 0 && dnsClients.length === 0) return;
    if (ports.some((port) => port.via === 'proxy')) await this.deps.proxy.update(this.#proxied());
    if (!this.#firewall) return;
    try {
      this.#firewall.put(openings);
      this.#noteOwnChange();
    } catch (error) {
      if (!(error instanceof Errno && error.code === 'ENOENT')) throw error;
      await this.#restore({ always: true });
    }
    this.#deleteFlows(ports);
  }

  // The kernel keeps translating a known UDP flow as it began: to the container that had the port before, or not at
  // all.
  #deleteFlows(ports: PortSetup[]): void {
    const udp = ports.filter((port) => port.protocol === 'udp' && port.via === 'kernel').map((port) => port.hostPort);
    if (udp.length > 0) deleteFlows('udp', new Set(udp));
  }

  async #watch(): Promise<void> {
    const now = Date.now();
    try {
      const changed = this.#firewall !== undefined && this.#firewall.generation() !== this.#generation;
      if (now - this.#checkedAtMs < (changed ? CHECK_MS : SWEEP_MS)) return;
      await this.#restore({ always: false });
      this.unavailable = undefined;
      this.#failure = undefined;
    } catch (error) {
      this.#logFailure((error as Error).message, now);
    }
  }

  // Each check may fail for the same reason, every two seconds.
  #logFailure(message: string, now: number): void {
    const { message: last, loggedAtMs } = this.#failure ?? { message: '', loggedAtMs: 0 };
    if (message === last && now - loggedAtMs < REPEAT_MS) return;
    this.#failure = { message, loggedAtMs: now };
    this.deps.log.warn(`could not restore the network: ${message}`);
  }

  // One round at a time. A caller waits for a round that began after its call, because a running one may have read
  // the state before.
  async #restore(options: { always: boolean }): Promise<void> {
    while (this.#restoring) await this.#restoring.catch(() => undefined);
    this.#restoring = this.#applyAll(options).finally(() => (this.#restoring = undefined));
    await this.#restoring;
  }

  async #applyAll({ always }: { always: boolean }): Promise<void> {
    this.#checkedAtMs = Date.now();
    for (const bridge of this.#bridges.values()) this.#applyBridge(bridge);
    this.#links.reattach(
      [...this.#setups.values()].flatMap(({ endpoints }) => endpoints.flatMap(({ link }) => (link ? [link] : []))),
    );
    if (always) await this.deps.proxy.update(this.#proxied());
    const families = this.#familiesToForward();
    if (this.#firewall) {
      for (const family of families) this.#forwarding.claim(family);
      await this.#applyRules(this.#firewall, { always });
    }
    // Last, so that nothing is forwarded without the rules.
    for (const family of families) this.#forwarding.enable(family);
    this.#forwards = true;
  }

  #familiesToForward = (): Family[] => [
    ...(this.#forwards ? [] : (['ip'] as const)),
    ...([...this.#bridges.values()].some(carriesIPv6) ? (['ip6'] as const) : []),
  ];

  async #applyRules(firewall: Firewall, { always }: { always: boolean }): Promise<void> {
    // Read before the check, so that a change during the check triggers another round.
    const generation = firewall.generation();
    const only = await this.#forwarding.dropOthers(() => this.#links.ownBridges([...this.#bridges.keys()]));
    const isOutdated = always || JSON.stringify(only) !== this.#declaredOnly;
    if (isOutdated || !firewall.isIntact()) {
      if (!isOutdated && !this.#failure)
        this.deps.log.warn(`the rules of table ${firewall.table} were changed: restoring them`);
      await firewall.declare([...this.#bridges.values()], only);
      this.#declaredOnly = JSON.stringify(only);
    }
    firewall.sync({ ports: this.#ports(), dnsClients: [...this.#setups.values()].flatMap(allDnsClientsOf) });
    await acceptTraffic([...this.#bridges.values()].map(acceptedBridge));
    this.#generation = generation;
  }

  #applyBridge(bridge: Bridge): void {
    try {
      this.#links.putBridge(bridge, { inUse: this.#setups.size > 0 });
      if (this.#firewall) writeSysctl(`ipv4/conf/${bridge.link}/route_localnet`, '1');
      this.#faults.delete(bridge.link);
    } catch (error) {
      const { message } = error as Error;
      if (this.#faults.get(bridge.link)?.message !== message)
        this.deps.log.warn(`could not set up bridge ${bridge.link}: ${message}`);
      this.#faults.set(bridge.link, error as Error);
    }
  }

  // Our own transaction counts up the generation by one; more than one means that another program changed rules too.
  #noteOwnChange(): void {
    const now = this.#firewall!.generation();
    if (now === this.#generation + 1) this.#generation = now;
  }
}

/** The name of the nf_tables table of the daemon with this default bridge. */
export const tableName = (bridge: string): string => `holdfast_${bridge.replace(/[^A-Za-z0-9]/g, '_')}`;

const acceptedBridge = (bridge: Bridge): AcceptedBridge => ({
  link: bridge.link,
  ipv6: carriesIPv6(bridge),
  dns: bridge.dns,
});
