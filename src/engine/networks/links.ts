/** The links on the host that are this daemon's: bridges, and of each endpoint's pair the end that is on its bridge. */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { Errno } from '../../sys/libc.ts';
import { Netlink, NETLINK_ROUTE } from '../../sys/netlink.ts';
import {
  addAddress,
  addBridge,
  addressesOf,
  addVeth,
  allLinks,
  deleteAddress,
  deleteLink,
  destinations,
  findLink,
  setAlias,
  setHairpin,
  setIsolated,
  setMaster,
  setUp,
  type Link,
} from '../../sys/rtnetlink.ts';
import type { Bridge, EndpointSetup } from './driver.ts';

/** There when bridged packets pass the IP filter: then a packet that comes back to its own port needs hairpin. */
const BRIDGE_NETFILTER = '/proc/sys/net/bridge';
/**
 * A link whose namespace ended is gone by itself within this time; one whose namespace lives on in another container is
 * deleted then.
 */
const LINGER_MS = 250;
const LINGER_STEP_MS = 5;

type EndpointLink = NonNullable<EndpointSetup['link']>;

export class Links {
  readonly #socket = Netlink.open(NETLINK_ROUTE);
  /** Links that are on their way out. */
  readonly #lingering = new Set<Promise<void>>();

  constructor(private readonly warn: (message: string) => void) {}

  /** What this host has routes to, in CIDR notation. */
  routes = (): string[] => destinations(this.#socket);

  has = (name: string): boolean => findLink(this.#socket, name) !== undefined;

  /**
   * Makes a bridge, unless it is there, and gives it what it lacks. `inUse`: addresses that are no longer wanted stay
   * for now.
   */
  putBridge({ link: name, addresses, mtu }: Bridge, { inUse }: { inUse: boolean }): void {
    const { index, alias } = findLink(this.#socket, name) ?? this.#makeBridge(name, mtu);
    const present = addressesOf(this.#socket, index);
    this.#socket.run(
      addresses.filter((address) => !present.includes(address)).map((address) => addAddress(index, address)),
    );
    // An address of an earlier configuration; on a bridge that is not of our making it is the maker's business.
    const stale = alias === ours(name) && !inUse ? present.filter((other) => !addresses.includes(other)) : [];
    this.#socket.run([...stale.map((other) => deleteAddress(index, other)), setUp(index)]);
  }

  /** Deletes a bridge of our making. */
  async deleteBridge(name: string): Promise<void> {
    const link = findLink(this.#socket, name);
    if (link?.alias === ours(name)) await deleteAside(link.index);
  }

  /** Makes an endpoint's pair: one end on its bridge, the other in the namespace. */
  async connect({ link, mac }: EndpointSetup, netns: string): Promise<void> {
    const { bridge, host, name, mtu, isolated } = link!;
    const master = findLink(this.#socket, bridge);
    if (!master) throw new Error(`bridge ${bridge} is missing`);
    await this.disconnect(host);
    const namespace = openSync(netns, 'r');
    try {
      this.#socket.run([addVeth({ host, peer: { name, mac, netns: namespace }, bridge: master.index, mtu })]);
    } finally {
      closeSync(namespace);
    }
    const hairpin = needsHairpin();
    if (!hairpin && !isolated) return;
    const { index } = findLink(this.#socket, host)!;
    this.#socket.run([...(hairpin ? [setHairpin(index)] : []), ...(isolated ? [setIsolated(index)] : [])]);
  }

  /** Deletes an endpoint's pair, by the end on the host. */
  async disconnect(host: string): Promise<void> {
    const link = findLink(this.#socket, host);
    if (link) await deleteAside(link.index);
  }

  /**
   * Takes an end off its bridge at once (0.2 ms): nobody answers for the address any more. Deleting a link takes the
   * kernel
   * 25 ms each; with the end of its namespace it goes by itself, all that end together in one go.
   */
  cutOff(host: string): void {
    const link = findLink(this.#socket, host);
    if (!link) return;
    if (link.master !== 0) this.#socket.run([setMaster(link.index, 0)]);
    const waiting = this.#linger(host).finally(() => this.#lingering.delete(waiting));
    this.#lingering.add(waiting);
  }

  /** Nothing is on its way out any more. */
  async settled(): Promise<void> {
    while (this.#lingering.size > 0) await Promise.all(this.#lingering);
  }

  /** Puts ends back on their bridges: one that was deleted and made anew has lost its ports. */
  putBack(wanted: EndpointLink[]): void {
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

  #makeBridge(name: string, mtu: number): Link {
    this.#socket.run([addBridge(name, bridgeMac(name), mtu)]);
    const link = findLink(this.#socket, name)!;
    this.#socket.run([setAlias(link.index, ours(name))]);
    return link;
  }

  async #linger(host: string): Promise<void> {
    for (let waitedMs = 0; waitedMs < LINGER_MS; waitedMs += LINGER_STEP_MS) {
      await delay(LINGER_STEP_MS);
      if (!this.has(host)) return;
    }
    await this.disconnect(host).catch((error: Error) => this.warn(`link ${host} stays: ${error.message}`));
  }
}

/** Deletes a link over a socket of its own: others need not wait while the kernel does it. */
async function deleteAside(index: number): Promise<void> {
  const socket = Netlink.open(NETLINK_ROUTE);
  try {
    await socket.runAside([deleteLink(index)]);
  } catch (error) {
    if (!(error instanceof Errno && error.code === 'ENODEV')) throw error;
  } finally {
    socket.close();
  }
}

// What tells a bridge that we made from one that an administrator gave us.
const ours = (bridge: string): string => `holdfast ${bridge}`;

// Fixed, or the bridge would take on the lowest of its ports' each time one comes or goes.
const bridgeMac = (name: string): string =>
  ['02', '42', ...(createHash('sha256').update(name).digest('hex').slice(0, 8).match(/../g) ?? [])].join(':');

const needsHairpin = (): boolean => existsSync(BRIDGE_NETFILTER);

function hasFlag({ name }: Link, flag: 'hairpin_mode' | 'isolated'): boolean {
  const path = `/sys/class/net/${name}/brport/${flag}`;
  return existsSync(path) && readFileSync(path, 'latin1').trim() === '1';
}
