/** The driver: links, addresses and routes by rtnetlink, ports by one nf_tables table, both without a process spawned when a container starts. */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, statfsSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Errno } from '../../sys/libc.ts';
import { Netlink, NETLINK_ROUTE } from '../../sys/netlink.ts';
import { faultPoint } from '../../sys/fault.ts';
import { createNetns, inNetns, removeNetns } from '../../sys/netns.ts';
import {
  addAddress, addBridge, addressesOf, addVeth, allLinks, deleteAddress, deleteDefaultRoute, deleteLink, destinations, findLink, setAlias, setDefaultRoute, setHairpin, setIsolated,
  setMaster, setUp, type Link,
} from '../../sys/rtnetlink.ts';
import { forgetFlows } from '../../sys/conntrack.ts';
import { wayOut, type Bridge, type Driver, type EndpointSetup, type PortSetup, type Setup } from './driver.ts';
import { Firewall } from './firewall.ts';
import { acceptTraffic, withdrawTraffic, type Accepted } from './iptables.ts';
import type { PortProxy } from './port-proxy.ts';

export interface NetlinkDriverOptions {
  /** What this daemon's table is named after: the default bridge. Two daemons never share either. */
  name: string;
  /** Whether rules are ours to make; without them every port goes by the proxy, and nothing is masqueraded. */
  firewall: boolean;
  proxy: PortProxy;
  log: { info(message: string): void; warn(message: string): void };
}

const LOOPBACK_INDEX = 1;
/** statfs(2) type of a network namespace's file. */
const NSFS_MAGIC = 0x6e736673;
const IP_FORWARD = '/proc/sys/net/ipv4/ip_forward';
/** There when bridged packets pass the IP filter: then a packet that comes back to its own port needs hairpin. */
const IPV6_FORWARD = '/proc/sys/net/ipv6/conf/all/forwarding';
const BRIDGE_NETFILTER = '/proc/sys/net/bridge';
const WATCH_MS = 1_000;
/** How often at most the rules are looked through on a host whose rules change all the time. */
const CHECK_MS = 2_000;
/** Changes that no generation tells of (the legacy iptables) are looked for this often. */
const SWEEP_MS = 60_000;
/** A link whose namespace ended is gone by itself within this time; one whose namespace lives on in another container is deleted then. */
const LINGER_MS = 250;
const LINGER_STEP_MS = 5;

export class NetlinkDriver implements Driver {
  unavailable: string | undefined;
  readonly #socket = Netlink.open(NETLINK_ROUTE);
  readonly #firewall: Firewall | undefined;
  readonly #setups = new Map<string, Setup>();
  readonly #bridges = new Map<string, Bridge>();
  readonly #lingering = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | undefined;
  #generation = 0;
  #checked = 0;
  #restoring: Promise<void> | undefined;

  constructor(private readonly options: NetlinkDriverOptions) {
    if (options.firewall) this.#firewall = new Firewall(tableName(options.name));
  }

  async start(bridges: Bridge[], setups: Setup[]): Promise<void> {
    for (const bridge of bridges) this.#bridges.set(bridge.link, bridge);
    for (const setup of setups) this.#setups.set(setup.container, setup);
    try {
      this.#forwarding();
      await this.#restore({ always: true });
      this.unavailable = undefined;
    } catch (error) {
      this.unavailable = (error as Error).message;
      this.options.log.warn(`containers get no bridge: ${this.unavailable}`);
    }
    this.#timer = setInterval(() => void this.#watch(), WATCH_MS).unref();
  }

  routes = (): string[] => destinations(this.#socket);
  hasLink = (name: string): boolean => findLink(this.#socket, name) !== undefined;

  async addBridge(bridge: Bridge): Promise<void> {
    this.#bridges.set(bridge.link, bridge);
    try {
      await this.#restore({ always: true });
    } catch (error) {
      await this.removeBridge(bridge).catch((reason: Error) => this.options.log.warn(`bridge ${bridge.link} stays: ${reason.message}`));
      throw error;
    }
  }

  async removeBridge(bridge: Bridge): Promise<void> {
    const { link } = bridge;
    this.#bridges.delete(link);
    await this.settled();
    await this.#restoring?.catch(() => undefined);
    await this.#deleteBridge(link);
    if (!this.#firewall) return;
    await withdrawTraffic([accepted(bridge)]);
    await this.#restore({ always: true });
  }

  async setUp(setup: Setup): Promise<void> {
    this.#setups.set(setup.container, setup);
    try {
      this.#namespace(setup);
      for (const endpoint of setup.endpoints) if (endpoint.link) await this.#connect(setup, endpoint);
      await this.#publish(setup.ports);
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
    this.#route(setup);
    await this.#republish(before?.ports ?? [], setup.ports);
  }

  async leave(setup: Setup, endpoint: EndpointSetup): Promise<void> {
    const before = this.#setups.get(setup.container);
    this.#setups.set(setup.container, setup);
    await this.#republish(before?.ports ?? [], setup.ports);
    const link = endpoint.link && findLink(this.#socket, endpoint.link.host);
    if (link) await this.#delete(link.index);
    faultPoint('network.left');
    this.#route(setup);
  }

  async tearDown(setup: Setup): Promise<void> {
    this.#setups.delete(setup.container);
    if (setup.ports.some((port) => port.via === 'proxy')) await this.options.proxy.update(this.#proxied());
    this.#firewall?.drop(setup.ports);
    this.#forgetFlows(setup.ports);
    for (const { link } of setup.endpoints) if (link) this.#cutOff(link.host);
    if (setup.netns !== '') removeNetns(setup.netns);
  }

  async restoreRules(): Promise<void> {
    await this.#restore({ always: true });
  }

  async settled(): Promise<void> {
    while (this.#lingering.size > 0) await Promise.all(this.#lingering);
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
    for (const name of this.#bridges.keys()) await this.#deleteBridge(name);
  }

  #ports = (): PortSetup[] => [...this.#setups.values()].flatMap((setup) => setup.ports);
  #proxied = (): PortSetup[] => this.#ports().filter((port) => port.via === 'proxy');

  // Pinned before anything is in it; `lo` is up in every one.
  #namespace({ netns }: Setup): void {
    if (netns === '') return;
    if (!isPinned(netns)) {
      mkdirSync(dirname(netns), { recursive: true, mode: 0o700 });
      removeNetns(netns);
      createNetns(netns);
    }
    withSocketIn(netns, (inside) => inside.run([setUp(LOOPBACK_INDEX)]));
  }

  async #connect(setup: Setup, endpoint: EndpointSetup): Promise<void> {
    const { bridge, host, name, mtu, isolated } = endpoint.link!;
    const master = findLink(this.#socket, bridge) ?? (await this.#restore({ always: true }), findLink(this.#socket, bridge));
    if (!master) throw new Error(`bridge ${bridge} is missing`);
    const old = findLink(this.#socket, host);
    if (old) await this.#delete(old.index);
    const namespace = openSync(setup.netns, 'r');
    try {
      this.#socket.run([addVeth({ host, peer: { name, mac: endpoint.mac, netns: namespace }, bridge: master.index, mtu })]);
    } finally {
      closeSync(namespace);
    }
    const hairpin = needsHairpin();
    if (hairpin || isolated) {
      const { index } = findLink(this.#socket, host)!;
      this.#socket.run([...(hairpin ? [setHairpin(index)] : []), ...(isolated ? [setIsolated(index)] : [])]);
    }
    const addresses = [[endpoint.address, endpoint.prefix], [endpoint.address6, endpoint.prefix6]].filter(([address]) => address !== '').map((pair) => pair.join('/'));
    const gateways = ([4, 6] as const).flatMap((family) => (wayOut(setup, family) === endpoint ? [family === 4 ? endpoint.gateway : endpoint.gateway6] : []));
    withSocketIn(setup.netns, (inside) => {
      const { index } = findLink(inside, name)!;
      inside.run([...addresses.map((address) => addAddress(index, address)), setUp(index), ...gateways.map(setDefaultRoute)]);
    }, () => configure(endpoint));
  }

  // The default routes go by the way out, and by nothing else.
  #route(setup: Setup): void {
    if (setup.netns === '' || !isPinned(setup.netns)) return;
    withSocketIn(setup.netns, (inside) => {
      for (const family of [4, 6] as const) {
        const gateway = wayOut(setup, family)?.[family === 4 ? 'gateway' : 'gateway6'];
        if (gateway) inside.run([setDefaultRoute(gateway)]);
        const others = setup.endpoints.map((endpoint) => (family === 4 ? endpoint.gateway : endpoint.gateway6)).filter((other) => other !== '' && other !== gateway);
        for (const other of others) quietly(() => inside.run([deleteDefaultRoute(other)]), 'ESRCH', 'ENETUNREACH', 'EHOSTUNREACH', 'ENODEV');
      }
    });
  }

  // Ports move with the way out; what stays as it was is not touched.
  async #republish(before: PortSetup[], after: PortSetup[]): Promise<void> {
    const key = (port: PortSetup): string => JSON.stringify(port);
    const [old, wanted] = [new Set(before.map(key)), new Set(after.map(key))];
    const gone = before.filter((port) => !wanted.has(key(port)));
    if (gone.length > 0) {
      this.#firewall?.drop(gone);
      this.#forgetFlows(gone);
      if (gone.some((port) => port.via === 'proxy')) await this.options.proxy.update(this.#proxied());
    }
    await this.#publish(after.filter((port) => !old.has(key(port))));
  }

  async #publish(ports: PortSetup[]): Promise<void> {
    if (ports.length === 0) return;
    if (ports.some((port) => port.via === 'proxy')) await this.options.proxy.update(this.#proxied());
    if (!this.#firewall) return;
    try {
      this.#firewall.put(ports);
      this.#noteOwnChange();
    } catch (error) {
      if (!(error instanceof Errno && error.code === 'ENOENT')) throw error;
      await this.#restore({ always: true });
    }
    this.#forgetFlows(ports);
  }

  // A flow of datagrams that the kernel knows goes on as it began: to nobody, or to the container that had the port before.
  #forgetFlows(ports: PortSetup[]): void {
    const udp = ports.filter((port) => port.protocol === 'udp' && port.via === 'kernel').map((port) => port.hostPort);
    if (udp.length > 0) forgetFlows('udp', new Set(udp));
  }

  // Off the bridge at once (0.2 ms): nobody answers for the address any more. Deleting a link takes the kernel 25 ms each;
  // with the end of its namespace it goes by itself, all that end together in one go.
  #cutOff(name: string): void {
    const link = findLink(this.#socket, name);
    if (!link) return;
    if (link.master !== 0) this.#socket.run([setMaster(link.index, 0)]);
    const waiting = this.#linger(name).finally(() => this.#lingering.delete(waiting));
    this.#lingering.add(waiting);
  }

  async #linger(name: string): Promise<void> {
    for (let waited = 0; waited < LINGER_MS; waited += LINGER_STEP_MS) {
      await delay(LINGER_STEP_MS);
      if (!findLink(this.#socket, name)) return;
    }
    const link = findLink(this.#socket, name);
    if (link) await this.#delete(link.index).catch((error: Error) => this.options.log.warn(`link ${name} stays: ${error.message}`));
  }

  async #delete(index: number): Promise<void> {
    const socket = Netlink.open(NETLINK_ROUTE);
    try {
      await socket.runAside([deleteLink(index)]);
    } catch (error) {
      if (!(error instanceof Errno && error.code === 'ENODEV')) throw error;
    } finally {
      socket.close();
    }
  }

  #forwarding(path = IP_FORWARD): void {
    if (!existsSync(path) || readFileSync(path, 'latin1').trim() === '1') return;
    writeFileSync(path, '1');
    this.options.log.info(`turned on ${path.replace('/proc/sys/', '')}`);
  }

  async #watch(): Promise<void> {
    const now = Date.now();
    const changed = this.#firewall !== undefined && this.#firewall.generation() !== this.#generation;
    if (now - this.#checked < (changed ? CHECK_MS : SWEEP_MS)) return;
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
    this.#checked = Date.now();
    for (const bridge of this.#bridges.values()) this.#bridge(bridge);
    if ([...this.#bridges.values()].some(carriesIPv6)) this.#forwarding(IPV6_FORWARD);
    this.#ends();
    if (always) await this.options.proxy.update(this.#proxied());
    const firewall = this.#firewall;
    if (!firewall) return;
    // Read before the look, not after: what somebody changes meanwhile is seen in the next round.
    const generation = firewall.generation();
    if (always || !firewall.isIntact()) {
      if (!always) this.options.log.warn(`the rules of table ${firewall.table} were changed by somebody: putting them back`);
      await firewall.declare([...this.#bridges.values()]);
    }
    firewall.sync(this.#ports());
    await acceptTraffic([...this.#bridges.values()].map(accepted));
    this.#generation = generation;
  }

  #bridge({ link: name, addresses, mtu }: Bridge): void {
    let link = findLink(this.#socket, name);
    if (!link) {
      this.#socket.run([addBridge(name, bridgeMac(name), mtu)]);
      link = findLink(this.#socket, name)!;
      this.#socket.run([setAlias(link.index, ours(name))]);
    }
    const { index, alias } = link;
    const present = addressesOf(this.#socket, index);
    this.#socket.run(addresses.filter((address) => !present.includes(address)).map((address) => addAddress(index, address)));
    // An address of an earlier configuration; on a bridge that is not of our making it is the maker's business.
    const stale = alias === ours(name) && this.#setups.size === 0 ? present.filter((other) => !addresses.includes(other)) : [];
    this.#socket.run([...stale.map((other) => deleteAddress(index, other)), setUp(index)]);
    if (this.#firewall) writeSysctl(`/proc/sys/net/ipv4/conf/${name}/route_localnet`, '1');
  }

  async #deleteBridge(name: string): Promise<void> {
    const link = findLink(this.#socket, name);
    if (link?.alias === ours(name)) await this.#delete(link.index);
  }

  // A bridge that was deleted and made anew has lost its ports.
  #ends(): void {
    const wanted = [...this.#setups.values()].flatMap(({ endpoints }) => endpoints.flatMap(({ link }) => (link ? [link] : [])));
    if (wanted.length === 0) return;
    const links = new Map(allLinks(this.#socket).map((link) => [link.name, link]));
    const hairpin = needsHairpin();
    for (const { host, bridge, isolated } of wanted) {
      const end = links.get(host);
      const master = links.get(bridge);
      if (!end || !master) continue;
      if (end.master !== master.index) this.#socket.run([setMaster(end.index, master.index), setUp(end.index)]);
      if (hairpin && !hasFlag(end, 'hairpin_mode')) this.#socket.run([setHairpin(end.index)]);
      if (isolated && !hasFlag(end, 'isolated')) this.#socket.run([setIsolated(end.index)]);
    }
  }

  #noteOwnChange(): void {
    const now = this.#firewall!.generation();
    if (now === this.#generation + 1) this.#generation = now;
  }
}

/** Names this daemon's table after its bridge: two daemons never share either. */
export const tableName = (bridge: string): string => `holdfast_${bridge.replace(/[^A-Za-z0-9]/g, '_')}`;

const carriesIPv6 = ({ addresses }: Bridge): boolean => addresses.some((address) => address.includes(':'));

const accepted = (bridge: Bridge): Accepted => ({ link: bridge.link, ipv6: carriesIPv6(bridge), names: bridge.names });

// What tells a bridge that we made from one that an administrator gave us.
const ours = (bridge: string): string => `holdfast ${bridge}`;

// Fixed, or the bridge would take on the lowest of its ports' each time one comes or goes.
const bridgeMac = (name: string): string => ['02', '42', ...(createHash('sha256').update(name).digest('hex').slice(0, 8).match(/../g) ?? [])].join(':');

const needsHairpin = (): boolean => existsSync(BRIDGE_NETFILTER);

const hasFlag = ({ name }: Link, flag: 'hairpin_mode' | 'isolated'): boolean => {
  const path = `/sys/class/net/${name}/brport/${flag}`;
  return existsSync(path) && readFileSync(path, 'latin1').trim() === '1';
};

const isPinned = (path: string): boolean => existsSync(path) && statfsSync(path).type === NSFS_MAGIC;

function withSocketIn(netns: string, work: (inside: Netlink) => void, first?: () => void): void {
  const inside = inNetns(netns, () => {
    first?.();
    return Netlink.open(NETLINK_ROUTE);
  });
  try {
    work(inside);
  } finally {
    inside.close();
  }
}

// Before it comes up. As Docker: on a network without IPv6 a link has no link-local address either.
function configure({ link, address6 }: EndpointSetup): void {
  const { name, sysctls } = link!;
  writeSysctl(`/proc/sys/net/ipv6/conf/${name}/disable_ipv6`, address6 === '' ? '1' : '0');
  for (const [path, value] of Object.entries(sysctls)) writeSysctl(`/proc/sys/net/${path.replace('IFNAME', name)}`, value);
}

function quietly(work: () => void, ...codes: string[]): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof Errno && codes.includes(error.code))) throw error;
  }
}

function writeSysctl(path: string, value: string): void {
  if (existsSync(path)) writeFileSync(path, value);
}
