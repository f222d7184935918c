/** This daemon's links on the host: bridges, and the host's end of each endpoint's veth pair. */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { Errno } from '../../sys/libc.ts';
import { Netlink, NETLINK_ROUTE } from '../../sys/netlink.ts';
import { addAddress, addressesOf, deleteAddress, destinations } from '../../sys/rtnetlink-addresses.ts';
import {
  addBridge,
  addVeth,
  allLinks,
  deleteLink,
  findLink,
  setAlias,
  setHairpin,
  setIsolated,
  setMaster,
  setUp,
  type Link,
} from '../../sys/rtnetlink-links.ts';
import { carriesIPv6, type Bridge, type EndpointSetup, type VethSetup } from './driver.ts';
import { isSetTo, writeSysctl } from './sysctl.ts';

/** Exists when bridged packets pass netfilter: a packet translated back to the port it came from needs hairpin then. */
const BRIDGE_NETFILTER = '/proc/sys/net/bridge';
/**
 * The kernel deletes a link with its namespace, usually within this time. A namespace that another container has joined
 * lives on; its link is deleted afterwards.
 */
const LINGER_MS = 250;
const LINGER_STEP_MS = 5;

export class HostLinks {
  readonly #socket = Netlink.open(NETLINK_ROUTE);
  /** The links that wait for their deletion. */
  readonly #lingering = new Set<Promise<void>>();

  /** @param defaultBridge ours to configure, even where the administrator made it */
  constructor(
    private readonly defaultBridge: string,
    private readonly warn: (message: string) => void,
  ) {}

  /** The destinations in this host's routing tables, in CIDR notation. */
  routes = (): string[] => destinations(this.#socket);

  has = (name: string): boolean => findLink(this.#socket, name) !== undefined;

  /** The bridges of every daemon of ours on this host; `used` are this one's, which an administrator may have made. */
  ownBridges = (used: string[]): string[] =>
    allLinks(this.#socket)
      .filter(({ name, alias }) => alias === aliasOf(name) || used.includes(name))
      .map(({ name }) => name)
      .sort();

  /**
   * Creates a bridge or completes an existing one. While it is `inUse`, outdated addresses stay.
   * @throws Error, Errno
   */
  putBridge(bridge: Bridge, { inUse }: { inUse: boolean }): void {
    const { link: name, addresses, mtu } = bridge;
    const { index, alias } = this.#findBridge(name) ?? this.#makeBridge(name, mtu);
    const isOurs = alias === aliasOf(name);
    // On another's bridge the host may have its own uplink, which router advertisements configure.
    if (isOurs || name === this.defaultBridge) refuseAdvertisements(name);
    if (isOurs) writeSysctl(`ipv6/conf/${name}/disable_ipv6`, carriesIPv6(bridge) ? '0' : '1');
    const present = addressesOf(this.#socket, index);
    this.#socket.run(
      addresses.filter((address) => !present.includes(address)).map((address) => addAddress(index, address)),
    );
    // Addresses of an earlier configuration. On a bridge that the administrator made, others may be intended.
    const stale = isOurs && !inUse ? present.filter((other) => !addresses.includes(other)) : [];
    this.#socket.run([...stale.map((other) => deleteAddress(index, other)), setUp(index)]);
  }

  /** Deletes a bridge that we created. */
  async deleteBridge(name: string): Promise<void> {
    const link = findLink(this.#socket, name);
    if (link?.alias === aliasOf(name)) await deleteInThreadPool(link.index);
  }

  /** Creates an endpoint's veth pair: one end on its bridge, the other in the namespace. @throws Error, Errno */
  async connect({ link, mac }: EndpointSetup, netns: string): Promise<void> {
    const { bridge, host, name, mtu, isolated } = link!;
    const master = this.#findBridge(bridge);
    if (!master) throw new Error(`bridge ${bridge} is missing`);
    await this.disconnect(host);
    const namespace = openSync(netns, 'r');
    try {
      this.#socket.run([addVeth({ host, peer: { name, mac, netns: namespace }, bridge: master.index, mtu })]);
    } finally {
      closeSync(namespace);
    }
    refuseAdvertisementsOfPort(host);
    const hairpin = needsHairpin();
    if (!hairpin && !isolated) return;
    const { index } = findLink(this.#socket, host)!;
    this.#socket.run([...(hairpin ? [setHairpin(index)] : []), ...(isolated ? [setIsolated(index)] : [])]);
  }

  /** Deletes a veth pair by its end on the host. */
  async disconnect(host: string): Promise<void> {
    const link = findLink(this.#socket, host);
    if (link) await deleteInThreadPool(link.index);
  }

  /**
   * Takes an end off its bridge at once (0.2 ms), so that the address is free. Deleting a link takes the kernel 25 ms;
   * it does so by itself when the namespace ends, for all that end together.
   */
  cutOff(host: string): void {
    const link = findLink(this.#socket, host);
    if (!link) return;
    if (link.master !== 0) this.#socket.run([setMaster(link.index, 0)]);
    const waiting = this.#linger(host).finally(() => this.#lingering.delete(waiting));
    this.#lingering.add(waiting);
  }

  /** Resolves when all links that were cut off are deleted. */
  async settled(): Promise<void> {
    while (this.#lingering.size > 0) await Promise.all(this.#lingering);
  }

  /** Attaches ends to their bridges again: a bridge that was deleted and recreated has no ports. */
  reattach(wanted: VethSetup[]): void {
    if (wanted.length === 0) return;
    const links = new Map(allLinks(this.#socket).map((link) => [link.name, link]));
    const hairpin = needsHairpin();
    for (const { host, bridge, isolated } of wanted) {
      const end = links.get(host);
      const master = links.get(bridge);
      if (end) refuseAdvertisementsOfPort(host);
      if (!end || master?.kind !== 'bridge') continue;
      if (end.master !== master.index) this.#socket.run([setMaster(end.index, master.index), setUp(end.index)]);
      if (hairpin && !hasFlag(end, 'hairpin_mode')) this.#socket.run([setHairpin(end.index)]);
      if (isolated && !hasFlag(end, 'isolated')) this.#socket.run([setIsolated(end.index)]);
    }
  }

  /** @throws Error when a link of another kind has the name */
  #findBridge(name: string): Link | undefined {
    const link = findLink(this.#socket, name);
    if (link && link.kind !== 'bridge') throw new Error(`existing interface ${name} is not a bridge`);
    return link;
  }

  #makeBridge(name: string, mtu: number): Link {
    this.#socket.run([addBridge(name, bridgeMac(name), mtu)]);
    const link = { ...findLink(this.#socket, name)!, alias: aliasOf(name) };
    this.#socket.run([setAlias(link.index, link.alias)]);
    return link;
  }

  async #linger(host: string): Promise<void> {
    for (let waitedMs = 0; waitedMs < LINGER_MS; waitedMs += LINGER_STEP_MS) {
      await delay(LINGER_STEP_MS);
      if (!this.has(host)) return;
    }
    try {
      await this.disconnect(host);
    } catch (error) {
      this.warn(`could not delete link ${host}: ${(error as Error).message}`);
    }
  }
}

/** Uses a socket of its own, so that other requests do not wait while the kernel deletes the link. */
async function deleteInThreadPool(index: number): Promise<void> {
  const socket = Netlink.open(NETLINK_ROUTE);
  try {
    await socket.runAsync([deleteLink(index)]);
  } catch (error) {
    if (!(error instanceof Errno && error.code === 'ENODEV')) throw error;
  } finally {
    socket.close();
  }
}

/**
 * Keeps containers from giving the host addresses and routes (CVE-2020-13401). What advertisements have configured on
 * the link already is removed by the kernel when IPv6 is disabled there.
 */
function refuseAdvertisements(bridge: string): void {
  const setting = `ipv6/conf/${bridge}/accept_ra`;
  const disabled = `ipv6/conf/${bridge}/disable_ipv6`;
  if (isSetTo(setting, '0')) return;
  const isUsed = isSetTo(disabled, '0');
  if (isUsed) writeSysctl(disabled, '1');
  writeSysctl(setting, '0');
  if (isUsed) writeSysctl(disabled, '0');
}

/**
 * A bridge's port hands no packet to the host. Without its bridge it does: while it waits for its deletion, or when
 * another program has deleted the bridge.
 */
const refuseAdvertisementsOfPort = (host: string): void => writeSysctl(`ipv6/conf/${host}/accept_ra`, '0');

/** The alias of bridges that we created, which distinguishes them from those an administrator provides. */
const aliasOf = (bridge: string): string => `holdfast ${bridge}`;

// A bridge without a fixed address takes on the lowest of its ports' addresses, which changes as they come and go.
const bridgeMac = (name: string): string =>
  ['02', '42', ...(createHash('sha256').update(name).digest('hex').slice(0, 8).match(/../g) ?? [])].join(':');

const needsHairpin = (): boolean => existsSync(BRIDGE_NETFILTER);

function hasFlag({ name }: Link, flag: 'hairpin_mode' | 'isolated'): boolean {
  const path = `/sys/class/net/${name}/brport/${flag}`;
  return existsSync(path) && readFileSync(path, 'latin1').trim() === '1';
}
