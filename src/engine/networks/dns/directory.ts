/** The tables of the DNS server, arranged for lookups. */
import { isIPv6, SocketAddress } from 'node:net';
import { isEncodable, record } from './message.ts';
import type { DnsTables } from './tables.ts';

/** The records of one name on one network. */
export interface Found {
  a: Buffer[];
  aaaa: Buffer[];
}

/** What is known of one network. */
interface Zone {
  name: string;
  internal: boolean;
  names: Map<string, Found>;
  /** PTR records by reverse name. */
  pointers: Map<string, Buffer>;
  /** By address. */
  askers: Map<string, Asker>;
  /** For addresses of no container. */
  stranger: Asker;
}

/** Who asks: a container, by its address. */
export interface Asker {
  /** The networks that it is on, in the order of search. */
  reach: { zone: Zone; links: Map<string, string> }[];
  /** Upstream servers; empty = the host's. */
  servers: readonly string[];
  ndots: boolean;
}

export interface Audience {
  asker: Asker;
  /** Questions are forwarded. */
  forwards: boolean;
}

export class Directory {
  /** By the address that the server listens on. */
  readonly #zones = new Map<string, Zone>();

  constructor({ networks, containers }: DnsTables) {
    const byId = new Map<string, Zone>();
    for (const network of networks) {
      const zone = emptyZone(network);
      byId.set(network.id, zone);
      for (const address of network.resolvers) this.#zones.set(address, zone);
    }
    for (const { endpoints, servers, ndots } of containers) {
      const asker: Asker = { reach: [], servers, ndots };
      for (const { network, addresses, names, links } of endpoints) {
        const zone = byId.get(network);
        if (!zone) continue;
        asker.reach.push({ zone, links: new Map(Object.entries(links)) });
        for (const address of addresses) zone.askers.set(asTheKernelWrites(address), asker);
        enter(zone, addresses, names);
      }
    }
  }

  /** The addresses to listen on. */
  get resolvers(): string[] {
    return [...this.#zones.keys()];
  }

  /**
   * Who asks `resolver` from `source`. Addresses of no container know the names of the network only; on an internal
   * network they get no answer (undefined).
   */
  audience(resolver: string, source: string): Audience | undefined {
    const zone = this.#zones.get(resolver);
    if (!zone) return undefined;
    const known = zone.askers.get(source);
    if (!known && zone.internal) return undefined;
    return { asker: known ?? zone.stranger, forwards: !zone.internal };
  }
}

/**
 * What a name means to a container. For a.b.c it is, in this order: a.b.c on any of its networks, a.b on network c, a
 * on network b.c. An alias of a link hides a name.
 */
export function lookUp({ reach }: Asker, name: string): Found | undefined {
  for (let dot = name.length; dot > 0; dot = name.lastIndexOf('.', dot - 1)) {
    const label = name.slice(0, dot);
    const network = dot === name.length ? undefined : name.slice(dot + 1);
    for (const linked of [true, false])
      for (const { zone, links } of reach) {
        if (network !== undefined && network !== zone.name) continue;
        const target = links.get(label);
        if (linked !== (target !== undefined)) continue;
        const found = zone.names.get(target ?? label);
        if (found) return found;
      }
  }
  return undefined;
}

/** The PTR record of a reverse name. */
export function pointerOf({ reach }: Asker, name: string): Buffer | undefined {
  for (const { zone } of reach) {
    const pointer = zone.pointers.get(name);
    if (pointer) return pointer;
  }
  return undefined;
}

function emptyZone({ name, internal }: { name: string; internal: boolean }): Zone {
  const stranger: Asker = { reach: [], servers: [], ndots: false };
  const zone: Zone = {
    name: name.toLowerCase(),
    internal,
    names: new Map(),
    pointers: new Map(),
    askers: new Map(),
    stranger,
  };
  stranger.reach.push({ zone, links: new Map() });
  return zone;
}

function enter(zone: Zone, addresses: readonly string[], names: readonly string[]): void {
  for (const name of names) if (!zone.names.has(name)) zone.names.set(name, { a: [], aaaa: [] });
  for (const address of addresses) {
    const six = isIPv6(address);
    const encoded = record(six ? 'AAAA' : 'A', address);
    for (const name of names) zone.names.get(name)![six ? 'aaaa' : 'a'].push(encoded);
    const target = `${names[0]}.${zone.name}`;
    if (names.length > 0 && isEncodable(target)) zone.pointers.set(reverseName(address), record('PTR', target));
  }
}

const asTheKernelWrites = (address: string): string =>
  isIPv6(address) ? new SocketAddress({ address, family: 'ipv6' }).address : address;

/** The name under which the PTR record of an address is asked for. RFC 1035 section 3.5, RFC 3596 section 2.5. */
export function reverseName(address: string): string {
  if (!isIPv6(address)) return `${address.split('.').reverse().join('.')}.in-addr.arpa`;
  const [head = '', tail = ''] = address.toLowerCase().split('::');
  const groups = (text: string): string[] => text.split(':').filter(Boolean);
  const [first, last] = [groups(head), groups(tail)];
  const missing = Array.from({ length: 8 - first.length - last.length }, () => '0');
  const digits = [...first, ...missing, ...last].map((group) => group.padStart(4, '0')).join('');
  return `${Array.from(digits).reverse().join('.')}.ip6.arpa`;
}
