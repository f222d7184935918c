/**
 * The daemon's own nf_tables tables: published ports, masquerading, isolation, access to DNS. Their rules depend on the
 * bridges only; starting or stopping a container changes elements of a few maps, which takes microseconds.
 */
import { isIPv4 } from 'node:net';
import { Errno } from '../../sys/libc.ts';
import { Netlink, NETLINK_NETFILTER } from '../../sys/netlink.ts';
import { addressBytes } from '../../sys/inet.ts';
import {
  countRules,
  dropElements,
  generation,
  mapElements,
  putElements,
  tableHandle,
  transaction,
  type Family,
  type MapElement,
  type MapName,
} from '../../sys/nftables.ts';
import { run } from './command.ts';
import type { Bridge, PortSetup } from './driver.ts';
import type { OnlyLinks } from './forwarding.ts';
import { carriesFamily, DNS_CLIENTS, MAPS, script } from './firewall-rules.ts';

/** What is opened for containers: the elements of the maps. */
export interface Openings {
  ports: PortSetup[];
  /** Addresses on internal networks. */
  dnsClients: string[];
}
type MapContents = [family: Family, map: string, elements: MapElement[]][];

const PROTOCOL_NUMBERS = { tcp: 6, udp: 17, sctp: 132 } as const;

export class Firewall {
  readonly #socket = Netlink.open(NETLINK_NETFILTER);
  /** The fingerprint after `declare`: any other means that the tables were changed. */
  #declared: string | undefined;
  #families: Family[] = ['ip'];

  constructor(readonly table: string) {}

  /** Creates the tables or replaces their rules, in one transaction without a gap. The maps' elements stay. */
  async declare(bridges: Bridge[], only: OnlyLinks): Promise<void> {
    const carriesIPv6 = carriesFamily(bridges, 'ip6') || only.ip6 !== undefined;
    this.#families = carriesIPv6 ? ['ip', 'ip6'] : ['ip'];
    const isStale = !carriesIPv6 && tableHandle(this.#socket, this.table, 'ip6') !== undefined;
    await this.#nft([
      ...this.#families.map((family) => script(this.table, bridges, family, only[family])),
      ...(isStale ? [`delete table ip6 ${this.table}\n`] : []),
    ]);
    this.#declared = this.#fingerprint();
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
      .map(([family, map, elements]) => putElements(this.#map(family, map), elements));
    if (changes.length > 0) this.#socket.run(transaction(changes));
  }

  /** Closes openings; missing ones are ignored. */
  drop(openings: Openings): void {
    for (const [family, map, elements] of contents(openings))
      for (const element of elements) this.#dropElement(this.#map(family, map), element);
  }

  /** Replaces all openings; those that are right already are not touched. */
  sync(openings: Openings): void {
    for (const [family, map, elements] of contents(openings).filter(([each]) => this.#families.includes(each))) {
      const name = this.#map(family, map);
      const missing = new Map(elements.map((element) => [element.key.toString('hex'), element]));
      for (const found of mapElements(this.#socket, name)) {
        const wanted = missing.get(found.key.toString('hex'));
        if (wanted?.value.equals(found.value)) missing.delete(found.key.toString('hex'));
        else this.#dropElement(name, found);
      }
      if (missing.size > 0) this.#socket.run(transaction([putElements(name, [...missing.values()])]));
    }
  }

  /** Deletes the tables. */
  async remove(): Promise<void> {
    this.#declared = undefined;
    // Declaring a table first makes its deletion succeed even when it is missing.
    await this.#nft(
      this.#families.map((family) => `table ${family} ${this.table}\ndelete table ${family} ${this.table}\n`),
    );
  }

  async #nft(scripts: string[]): Promise<void> {
    await run('nft', ['-f', '-'], scripts.join(''));
  }

  /** The handle of each table, which is new after a deletion, and the number of its rules. */
  #fingerprint(): string {
    return this.#families
      .map((family) => {
        const handle = tableHandle(this.#socket, this.table, family);
        return handle === undefined ? '' : `${handle} ${countRules(this.#socket, this.table, family)}`;
      })
      .join();
  }

  #map = (family: Family, map: string): MapName => ({ family, table: this.table, map });

  #dropElement(name: MapName, element: MapElement): void {
    try {
      this.#socket.run(transaction([dropElements(name, [element])]));
    } catch (error) {
      if (!(error instanceof Errno && error.code === 'ENOENT')) throw error;
    }
  }
}

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
