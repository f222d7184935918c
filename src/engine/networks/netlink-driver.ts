/** The driver: links, addresses and routes by rtnetlink, ports by one nf_tables table, both without a process spawned when a container starts. */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, statfsSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Errno } from '../../sys/libc.ts';
import { Netlink, NETLINK_ROUTE } from '../../sys/netlink.ts';
import { createNetns, inNetns, removeNetns } from '../../sys/netns.ts';
import {
  addAddress, addBridge, addDefaultRoute, addressesOf, addVeth, allLinks, deleteAddress, deleteLink, findLink, setAlias, setHairpin, setMaster, setUp, type Link,
} from '../../sys/rtnetlink.ts';
import { forgetFlows } from '../../sys/conntrack.ts';
import type { Bridge, Driver, EndpointSetup, PortSetup, Setup } from './driver.ts';
import { Firewall } from './firewall.ts';
import { acceptForwarding, withdrawForwarding } from './iptables.ts';
import type { PortProxy } from './port-proxy.ts';

export interface NetlinkDriverOptions {
  bridges: Bridge[];
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
  readonly #lingering = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | undefined;
  #generation = 0;
  #checked = 0;
  #restoring: Promise<void> | undefined;

  constructor(private readonly options: NetlinkDriverOptions) {
    if (options.firewall) this.#firewall = new Firewall(tableName(options.bridges[0]!.link));
  }

  async start(setups: Setup[]): Promise<void> {
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

  async setUp(setup: Setup): Promise<void> {
    this.#setups.set(setup.container, setup);
    try {
      this.#namespace(setup);
      for (const endpoint of setup.endpoints) if (endpoint.link) await this.#connect(setup.netns, endpoint);
      await this.#publish(setup.ports);
    } catch (error) {
      await this.tearDown(setup);
      throw error;
    }
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
      await withdrawForwarding(this.#links());
    }
    for (const { link: name } of this.options.bridges) {
      const link = findLink(this.#socket, name);
      if (link?.alias === ours(name)) this.#socket.run([deleteLink(link.index)]);
    }
  }

  #links = (): string[] => this.options.bridges.map(({ link }) => link);
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

  async #connect(netns: string, { link, mac, address, prefix, gateway }: EndpointSetup): Promise<void> {
    const { bridge, host, name, mtu } = link!;
    const master = findLink(this.#socket, bridge) ?? (await this.#restore({ always: true }), findLink(this.#socket, bridge));
    if (!master) throw new Error(`bridge ${bridge} is missing`);
    const old = findLink(this.#socket, host);
    if (old) await this.#delete(old.index);
    const namespace = openSync(netns, 'r');
    try {
      this.#socket.run([addVeth({ host, peer: { name, mac, netns: namespace }, bridge: master.index, mtu })]);
    } finally {
      closeSync(namespace);
    }
    if (needsHairpin()) this.#socket.run([setHairpin(findLink(this.#socket, host)!.index)]);
    withSocketIn(netns, (inside) => {
      const { index } = findLink(inside, name)!;
      inside.run([addAddress(index, `${address}/${prefix}`), setUp(index), ...(gateway ? [addDefaultRoute(gateway)] : [])]);
    }, () => withoutIPv6(name));
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

  #forwarding(): void {
    if (readFileSync(IP_FORWARD, 'latin1').trim() === '1') return;
    writeFileSync(IP_FORWARD, '1');
    this.options.log.info('turned on net.ipv4.ip_forward');
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
    for (const bridge of this.options.bridges) this.#bridge(bridge);
    this.#ends();
    if (always) await this.options.proxy.update(this.#proxied());
    const firewall = this.#firewall;
    if (!firewall) return;
    // Read before the look, not after: what somebody changes meanwhile is seen in the next round.
    const generation = firewall.generation();
    if (always || !firewall.isIntact()) {
      if (!always) this.options.log.warn(`the rules of table ${firewall.table} were changed by somebody: putting them back`);
      await firewall.declare(this.options.bridges);
    }
    firewall.sync(this.#ports());
    await acceptForwarding(this.#links());
    this.#generation = generation;
  }

  #bridge({ link: name, address, mtu }: Bridge): void {
    let link = findLink(this.#socket, name);
    if (!link) {
      this.#socket.run([addBridge(name, bridgeMac(name), mtu)]);
      link = findLink(this.#socket, name)!;
      this.#socket.run([setAlias(link.index, ours(name))]);
    }
    const present = addressesOf(this.#socket, link.index);
    if (!present.includes(address)) this.#socket.run([addAddress(link.index, address)]);
    // An address of an earlier configuration; on a bridge that is not of our making it is the maker's business.
    const stale = link.alias === ours(name) && this.#setups.size === 0 ? present.filter((other) => other !== address) : [];
    this.#socket.run([...stale.map((other) => deleteAddress(link.index, other)), setUp(link.index)]);
    if (this.#firewall) writeSysctl(`/proc/sys/net/ipv4/conf/${name}/route_localnet`, '1');
  }

  // A bridge that was deleted and made anew has lost its ports.
  #ends(): void {
    const wanted = [...this.#setups.values()].flatMap(({ endpoints }) => endpoints.flatMap(({ link }) => (link ? [link] : [])));
    if (wanted.length === 0) return;
    const links = new Map(allLinks(this.#socket).map((link) => [link.name, link]));
    const hairpin = needsHairpin();
    for (const { host, bridge } of wanted) {
      const end = links.get(host);
      const master = links.get(bridge);
      if (!end || !master) continue;
      if (end.master !== master.index) this.#socket.run([setMaster(end.index, master.index), setUp(end.index)]);
      if (hairpin && !hasHairpin(end)) this.#socket.run([setHairpin(end.index)]);
    }
  }

  #noteOwnChange(): void {
    const now = this.#firewall!.generation();
    if (now === this.#generation + 1) this.#generation = now;
  }
}

/** Names this daemon's table after its bridge: two daemons never share either. */
export const tableName = (bridge: string): string => `holdfast_${bridge.replace(/[^A-Za-z0-9]/g, '_')}`;

// What tells a bridge that we made from one that an administrator gave us.
const ours = (bridge: string): string => `holdfast ${bridge}`;

// Fixed, or the bridge would take on the lowest of its ports' each time one comes or goes.
const bridgeMac = (name: string): string => ['02', '42', ...(createHash('sha256').update(name).digest('hex').slice(0, 8).match(/../g) ?? [])].join(':');

const needsHairpin = (): boolean => existsSync(BRIDGE_NETFILTER);

const hasHairpin = ({ name }: Link): boolean => {
  const path = `/sys/class/net/${name}/brport/hairpin_mode`;
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

// As Docker: on a network without IPv6 a link has no link-local address either.
const withoutIPv6 = (link: string): void => writeSysctl(`/proc/sys/net/ipv6/conf/${link}/disable_ipv6`, '1');

function writeSysctl(path: string, value: string): void {
  if (existsSync(path)) writeFileSync(path, value);
}
