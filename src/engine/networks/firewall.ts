/**
 * The daemon's own nf_tables tables: published ports, masquerading, isolation, access to DNS. Their rules depend on the
 * bridges only; starting or stopping a container changes elements of a few maps, which takes microseconds.
 */
import { isIPv4 } from 'node:net';
import { Errno } from '../../sys/libc.ts';
import type { Netlink, Request } from '../../sys/netlink.ts';
import { addressBytes } from '../../sys/inet.ts';
import {
  deleteTable,
  dropElements,
  putElements,
  type Family,
  type MapElement,
  type MapName,
  type Table,
  type TableName,
} from '../../sys/nft-messages.ts';
import {
  commit,
  commitTables,
  fingerprint,
  generation,
  hasTable,
  mapElements,
  openNftables,
} from '../../sys/nftables.ts';
import type { Bridge, PortSetup } from './driver.ts';
import type { OnlyLinks } from './forwarding.ts';
import { carriesFamily, DNS_CLIENTS, MAPS, tableOf } from './firewall-rules.ts';

/** What is opened for containers: the elements of the maps. */
export interface Openings {
  ports: PortSetup[];
  /** Addresses on internal networks. */
  dnsClients: string[];
}
type MapContents = [family: Family, map: string, elements: MapElement[]][];
const FAMILIES: Family[] = ['ip', 'ip6'];
/** What the kernel says when one of our chains or maps exists and is of another kind. The tables are made anew then. */
const CONFLICTS = ['EEXIST', 'EOPNOTSUPP', 'EINVAL', 'EBUSY'];
/** How often the elements are read again when another program deletes some of them at the same time. */
const SYNC_ATTEMPTS = 3;

const PROTOCOL_NUMBERS = { tcp: 6, udp: 17, sctp: 132 } as const;

export class Firewall {
  #opened: Netlink | undefined;
  /** For the transactions that another thread waits for. */
  #declaring: Netlink | undefined;
  /** How often this object has counted up the generation. */
  #commits = 0;
  /** The tables as declared; a family's table that has no rules is not there. */
  #tables: Table[] = [];
  /** The fingerprints after `declare`: any other means that the tables were changed. */
  #declared: string | undefined;

  constructor(readonly table: string) {}

  /** Creates the tables or replaces their rules, in one transaction without a gap. The maps' elements stay. */
  async declare(bridges: Bridge[], only: OnlyLinks): Promise<void> {
    const carriesIPv6 = carriesFamily(bridges, 'ip6') || only.ip6 !== undefined;
    const families: Family[] = carriesIPv6 ? ['ip', 'ip6'] : ['ip'];
    this.#tables = families.map((family) => tableOf(this.table, bridges, family, only[family]));
    this.#declared = undefined;
    const isStale = !carriesIPv6 && hasTable(this.#socket, this.#name('ip6'));
    const others = this.generation() - this.#commits;
    await this.#commitTables(isStale ? deleteTable(this.#name('ip6')) : []);
    const declared = this.#fingerprint();
    // If another program has changed rules meanwhile, these may have been ours.
    if (this.generation() - this.#commits === others) this.#declared = declared;
  }

  isIntact(): boolean {
    return this.#declared !== undefined && this.#fingerprint() === this.#declared;
  }

  /** Counts up with every change of nf_tables on this host. */
  generation = (): number => generation(this.#socket);

  /** Publishes ports and admits DNS clients, all or none. @throws Errno ENOENT when a table was deleted */
  put(openings: Openings): void {
    const changes = contents(openings)
      .filter(([, , elements]) => elements.length > 0)
      .flatMap(([family, map, elements]) => putElements(this.#map(family, map), elements));
    this.#commit(changes);
  }

  /** Closes openings; missing ones are ignored. */
  drop(openings: Openings): void {
    for (const [family, map, elements] of contents(openings))
      for (const element of elements) this.#dropElement(this.#map(family, map), element);
  }

  /** Replaces all openings in one transaction; those that are right already are not touched. */
  sync(openings: Openings): void {
    for (let attempt = 1; ; attempt++) {
      try {
        return this.#commit(this.#differences(openings));
      } catch (error) {
        if (!isMissing(error) || attempt === SYNC_ATTEMPTS) throw error;
      }
    }
  }

  /** Deletes the tables. */
  remove(): void {
    this.#declared = undefined;
    const found = FAMILIES.map(this.#name).filter((name) => hasTable(this.#socket, name));
    this.#commit(found.flatMap(deleteTable));
  }

  #commit(changes: Request[]): void {
    if (changes.length === 0) return;
    commit(this.#socket, changes);
    this.#commits += 1;
  }

  async #commitTables(others: Request[]): Promise<void> {
    const socket = (this.#declaring ??= openNftables());
    try {
      await commitTables(socket, this.#tables, others);
    } catch (error) {
      if (!(error instanceof Errno && CONFLICTS.includes(error.code))) throw error;
      const all = this.#tables.flatMap(({ family }) => deleteTable(this.#name(family)));
      await commitTables(socket, this.#tables, [...others, ...all]);
    }
    this.#commits += 1;
  }

  #differences(openings: Openings): Request[] {
    const families = this.#tables.map(({ family }) => family);
    return contents(openings)
      .filter(([family]) => families.includes(family))
      .flatMap(([family, map, elements]) => {
        const name = this.#map(family, map);
        const missing = new Map(elements.map((element) => [element.key.toString('hex'), element]));
        const wrong = mapElements(this.#socket, name).filter((found) => {
          const isRight = missing.get(found.key.toString('hex'))?.value.equals(found.value) ?? false;
          if (isRight) missing.delete(found.key.toString('hex'));
          return !isRight;
        });
        return [...dropElements(name, wrong), ...putElements(name, [...missing.values()])];
      });
  }

  get #socket(): Netlink {
    return (this.#opened ??= openNftables());
  }

  #fingerprint = (): string => this.#tables.map((table) => fingerprint(this.#socket, table) ?? '').join();
  #name = (family: Family): TableName => ({ family, table: this.table });
  #map = (family: Family, map: string): MapName => ({ family, table: this.table, map });

  #dropElement(name: MapName, element: MapElement): void {
    try {
      this.#commit(dropElements(name, [element]));
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  }
}

const isMissing = (error: unknown): boolean => error instanceof Errno && error.code === 'ENOENT';

function contents({ ports, dnsClients }: Openings): MapContents {
  const kernel = ports.filter((port) => port.via === 'kernel' && isIPv4(port.hostIp));
  const any = kernel.filter((port) => port.hostIp === '0.0.0.0');
  const one = kernel.filter((port) => port.hostIp !== '0.0.0.0');
  const setOf = (addresses: string[]): MapElement[] =>
    addresses.map((address) => ({ key: addressBytes(address), value: Buffer.alloc(0) }));
  return [
    ['ip', MAPS.any, any.map((port) => ({ key: portKey(port), value: target(port) }))],
    [
      'ip',
      MAPS.one,
      one.map((port) => ({ key: Buffer.concat([addressBytes(port.hostIp), portKey(port)]), value: target(port) })),
    ],
    ['ip', DNS_CLIENTS, setOf(dnsClients.filter(isIPv4))],
    ['ip6', DNS_CLIENTS, setOf(dnsClients.filter((address) => !isIPv4(address)))],
  ];
}

// Each field of a concatenation is padded to 4 bytes: inet_proto . inet_service, and ipv4_addr . inet_service.
const portKey = ({ protocol, hostPort }: PortSetup): Buffer =>
  Buffer.from([PROTOCOL_NUMBERS[protocol], 0, 0, 0, hostPort >> 8, hostPort & 0xff, 0, 0]);
const target = ({ address, port }: PortSetup): Buffer =>
  Buffer.concat([addressBytes(address), Buffer.from([port >> 8, port & 0xff, 0, 0])]);
