/**
 * The driver: links, addresses and routes by rtnetlink, ports by one nf_tables table, both without a process spawned
 * when a container starts.
 */
import { Errno } from '../../sys/libc.ts';
import { faultPoint } from '../../sys/fault.ts';
import { removeNetns } from '../../sys/netns.ts';
import { forgetFlows } from '../../sys/conntrack.ts';
import type { Bridge, Driver, EndpointSetup, PortSetup, Setup } from './driver.ts';
import { Firewall, type Openings } from './firewall.ts';
import { acceptTraffic, withdrawTraffic, type Accepted } from './iptables.ts';
import { Links } from './links.ts';
import { bringUp, makeNamespace, setRoutes } from './namespace.ts';
import { refuserOf } from './dns.ts';
import type { PortProxy } from './port-proxy.ts';
import { isOff, writeSysctl } from './sysctl.ts';

export interface NetlinkDriverOptions {
  /** What this daemon's table is named after: the default bridge. Two daemons never share either. */
  name: string;
  /** Whether rules are ours to make; without them every port goes by the proxy, and nothing is masqueraded. */
  firewall: boolean;
  proxy: PortProxy;
  log: { info(message: string): void; warn(message: string): void };
}

const IP_FORWARD = 'ipv4/ip_forward';
const IPV6_FORWARD = 'ipv6/conf/all/forwarding';
const WATCH_MS = 1_000;
/** Whom the proxy asks for what it refuses; one of an older release forwards it to discard(9). */
const NOBODY = { address: '', port: 9 };
/** How often at most the rules are looked through on a host whose rules change all the time. */
const CHECK_MS = 2_000;
/** Changes that no generation tells of (the legacy iptables) are looked for this often. */
const SWEEP_MS = 60_000;

export class NetlinkDriver implements Driver {
  unavailable: string | undefined;
  readonly #links: Links;
  readonly #firewall: Firewall | undefined;
  readonly #setups = new Map<string, Setup>();
  readonly #bridges = new Map<string, Bridge>();
  #timer: NodeJS.Timeout | undefined;
  /** Of the kernel's rules, when they were last in order. */
  #generation = 0;
  /** When they were last looked through. */
  #checkedAt = 0;
  #restoring: Promise<void> | undefined;

  constructor(private readonly options: NetlinkDriverOptions) {
    this.#links = new Links((message) => options.log.warn(message));
    if (options.firewall) this.#firewall = new Firewall(tableName(options.name));
  }

  async start(bridges: Bridge[], setups: Setup[]): Promise<void> {
    for (const bridge of bridges) this.#bridges.set(bridge.link, bridge);
    for (const setup of setups) this.#setups.set(setup.container, setup);
    try {
      this.#forward(IP_FORWARD);
      await this.#restore({ always: true });
      this.unavailable = undefined;
    } catch (error) {
      this.unavailable = (error as Error).message;
      this.options.log.warn(`containers get no bridge: ${this.unavailable}`);
    }
    this.#timer = setInterval(() => void this.#watch(), WATCH_MS).unref();
  }

  routes = (): string[] => this.#links.routes();
  hasLink = (name: string): boolean => this.#links.has(name);

  async addBridge(bridge: Bridge): Promise<void> {
    this.#bridges.set(bridge.link, bridge);
    try {
      await this.#restore({ always: true });
    } catch (error) {
      await this.removeBridge(bridge).catch((reason: Error) =>
        this.options.log.warn(`bridge ${bridge.link} stays: ${reason.message}`),
      );
      throw error;
    }
  }

  async removeBridge(bridge: Bridge): Promise<void> {
    const { link } = bridge;
    this.#bridges.delete(link);
    await this.settled();
    await this.#restoring?.catch(() => undefined);
    await this.#links.deleteBridge(link);
    if (!this.#firewall) return;
    await withdrawTraffic([accepted(bridge)]);
    await this.#restore({ always: true });
  }

  async setUp(setup: Setup): Promise<void> {
    this.#setups.set(setup.container, setup);
    try {
      makeNamespace(setup);
      for (const endpoint of setup.endpoints) if (endpoint.link) await this.#connect(setup, endpoint);
      await this.#open({ ports: setup.ports, askers: allAskersOf(setup) });
      await this.#refuseNames(undefined, setup);
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
    setRoutes(setup);
    await this.#republish(before?.ports ?? [], setup.ports);
    await this.#open({ ports: [], askers: askersOf(endpoint) });
    await this.#refuseNames(before, setup);
  }

  async leave(setup: Setup, endpoint: EndpointSetup): Promise<void> {
    const before = this.#setups.get(setup.container);
    this.#setups.set(setup.container, setup);
    await this.#republish(before?.ports ?? [], setup.ports);
    this.#firewall?.drop({ ports: [], askers: askersOf(endpoint) });
    await this.#refuseNames(before, setup);
    if (endpoint.link) await this.#links.disconnect(endpoint.link.host);
    faultPoint('network.left');
    setRoutes(setup);
  }

  async tearDown(setup: Setup): Promise<void> {
    this.#setups.delete(setup.container);
    if (asksRefuser(setup) || setup.ports.some((port) => port.via === 'proxy'))
      await this.options.proxy.update(this.#proxied());
    this.#firewall?.drop({ ports: setup.ports, askers: setup.endpoints.flatMap(askersOf) });
    this.#forgetFlows(setup.ports);
    for (const { link } of setup.endpoints) if (link) this.#links.cutOff(link.host);
    if (setup.netns !== '') removeNetns(setup.netns);
  }

  async restoreRules(): Promise<void> {
    await this.#restore({ always: true });
  }

  async settled(): Promise<void> {
    await this.#links.settled();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.options.proxy.close();
  }

  async dismantle(): Promise<void> {
    clearInterval(this.#timer);
    await this.#restoring?.catch(() => undefined);
    await this.settled();
    await this.options.proxy.update([]);
    this.options.proxy.close();
    if (this.#firewall) {
      await this.#firewall.remove();
      await withdrawTraffic([...this.#bridges.values()].map(accepted));
    }
    for (const name of this.#bridges.keys()) await this.#links.deleteBridge(name);
  }

  #ports = (): PortSetup[] => [...this.#setups.values()].flatMap((setup) => setup.ports);
  #proxied(): PortSetup[] {
    const refuser = {
      protocol: 'udp' as const,
      hostIp: refuserOf(this.options.name),
      hostPort: 53,
      ...NOBODY,
      via: 'proxy' as const,
    };
    return [
      ...this.#ports().filter((port) => port.via === 'proxy'),
      ...([...this.#setups.values()].some(asksRefuser) ? [refuser] : []),
    ];
  }

  async #refuseNames(before: Setup | undefined, after: Setup): Promise<void> {
    if (asksRefuser(before) !== asksRefuser(after)) await this.options.proxy.update(this.#proxied());
  }

  async #connect(setup: Setup, endpoint: EndpointSetup): Promise<void> {
    if (!this.#links.has(endpoint.link!.bridge)) await this.#restore({ always: true });
    await this.#links.connect(endpoint, setup.netns);
    bringUp(setup, endpoint);
  }

  // Ports move with the way out; what stays as it was is not touched.
  async #republish(before: PortSetup[], after: PortSetup[]): Promise<void> {
    const key = (port: PortSetup): string => JSON.stringify(port);
    const [old, wanted] = [new Set(before.map(key)), new Set(after.map(key))];
    const gone = before.filter((port) => !wanted.has(key(port)));
    if (gone.length > 0) {
      this.#firewall?.drop({ ports: gone, askers: [] });
      this.#forgetFlows(gone);
      if (gone.some((port) => port.via === 'proxy')) await this.options.proxy.update(this.#proxied());
    }
    await this.#open({ ports: after.filter((port) => !old.has(key(port))), askers: [] });
  }

  async #open(openings: Openings): Promise<void> {
    const { ports, askers } = openings;
    if (ports.length === 0 && askers.length === 0) return;
    if (ports.some((port) => port.via === 'proxy')) await this.options.proxy.update(this.#proxied());
    if (!this.#firewall) return;
    try {
      this.#firewall.put(openings);
      this.#noteOwnChange();
    } catch (error) {
      if (!(error instanceof Errno && error.code === 'ENOENT')) throw error;
      await this.#restore({ always: true });
    }
    this.#forgetFlows(ports);
  }

  // A flow of datagrams that the kernel knows goes on as it began: to nobody, or to the container that had the port
  // before.
  #forgetFlows(ports: PortSetup[]): void {
    const udp = ports.filter((port) => port.protocol === 'udp' && port.via === 'kernel').map((port) => port.hostPort);
    if (udp.length > 0) forgetFlows('udp', new Set(udp));
  }

  #forward(setting: string): void {
    if (!isOff(setting)) return;
    writeSysctl(setting, '1');
    this.options.log.info(`turned on net/${setting}`);
  }

  async #watch(): Promise<void> {
    const now = Date.now();
    const changed = this.#firewall !== undefined && this.#firewall.generation() !== this.#generation;
    if (now - this.#checkedAt < (changed ? CHECK_MS : SWEEP_MS)) return;
    try {
      await this.#restore({ always: false });
      this.unavailable = undefined;
    } catch (error) {
      this.options.log.warn(`cannot put the network back in order: ${(error as Error).message}`);
    }
  }

  // One at a time; whoever comes meanwhile waits for a whole round that began after it came.
  async #restore(options: { always: boolean }): Promise<void> {
    while (this.#restoring) await this.#restoring.catch(() => undefined);
    this.#restoring = this.#bringAbout(options).finally(() => (this.#restoring = undefined));
    await this.#restoring;
  }

  async #bringAbout({ always }: { always: boolean }): Promise<void> {
    this.#checkedAt = Date.now();
    for (const bridge of this.#bridges.values()) this.#bringBridgeAbout(bridge);
    if ([...this.#bridges.values()].some(carriesIPv6)) this.#forward(IPV6_FORWARD);
    this.#links.putBack(
      [...this.#setups.values()].flatMap(({ endpoints }) => endpoints.flatMap(({ link }) => (link ? [link] : []))),
    );
    if (always) await this.options.proxy.update(this.#proxied());
    const firewall = this.#firewall;
    if (!firewall) return;
    // Read before the look, not after: what somebody changes meanwhile is seen in the next round.
    const generation = firewall.generation();
    if (always || !firewall.isIntact()) {
      if (!always)
        this.options.log.warn(`the rules of table ${firewall.table} were changed by somebody: putting them back`);
      await firewall.declare([...this.#bridges.values()]);
    }
    firewall.sync({ ports: this.#ports(), askers: [...this.#setups.values()].flatMap(allAskersOf) });
    await acceptTraffic([...this.#bridges.values()].map(accepted));
    this.#generation = generation;
  }

  #bringBridgeAbout(bridge: Bridge): void {
    this.#links.putBridge(bridge, { inUse: this.#setups.size > 0 });
    if (this.#firewall) writeSysctl(`ipv4/conf/${bridge.link}/route_localnet`, '1');
  }

  #noteOwnChange(): void {
    const now = this.#firewall!.generation();
    if (now === this.#generation + 1) this.#generation = now;
  }
}

/** Names this daemon's table after its bridge: two daemons never share either. */
export const tableName = (bridge: string): string => `holdfast_${bridge.replace(/[^A-Za-z0-9]/g, '_')}`;

/** The addresses from which a container asks for names on an internal network. */
const askersOf = ({ internal, names, address, address6 }: EndpointSetup): string[] =>
  internal && names.length > 0 ? [address, address6].filter(Boolean) : [];

const allAskersOf = ({ endpoints }: Setup): string[] =>
  endpoints.filter(({ changing }) => changing !== 'leaving').flatMap(askersOf);

const asksRefuser = (setup: Setup | undefined): boolean => setup !== undefined && allAskersOf(setup).length > 0;

const carriesIPv6 = ({ addresses }: Bridge): boolean => addresses.some((address) => address.includes(':'));

const accepted = (bridge: Bridge): Accepted => ({ link: bridge.link, ipv6: carriesIPv6(bridge), names: bridge.names });
