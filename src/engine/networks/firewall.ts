/**
 * The daemon's own nf_tables table: published ports, masquerading, isolation, who may ask for names.
 * Chains are static, so a container's start and end only touch elements of a few maps: microseconds, and never another
 * container's.
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
  type MapPlace,
} from '../../sys/nftables.ts';
import { ipv4Bytes } from '../../sys/rtnetlink.ts';
import { run } from './command.ts';
import type { Bridge, PortSetup } from './driver.ts';
import { cidr, masked } from './subnets.ts';

/** Ports published on every IPv4 address of the host, and on one of them. */
const MAPS = { any: 'ports', one: 'addressed_ports' } as const;
/**
 * Who may ask for names on an internal network: whoever else has no servers of his own in the tables of names, and
 * would be answered from the host's.
 */
const ASKERS = 'askers';
const DNS_PORT = 53;

/** What the maps of the table hold: for containers' starts and ends. */
export interface Openings {
  ports: PortSetup[];
  /** Addresses of containers on internal networks. */
  askers: string[];
}
type Contents = [family: Family, map: string, elements: MapElement[]][];

const PROTOCOL_NUMBERS = { tcp: 6, udp: 17, sctp: 132 } as const;

export class Firewall {
  readonly #socket = Netlink.open(NETLINK_NETFILTER);
  /** What `declare` made: while it is the same, nobody has wiped it. */
  #made: string | undefined;
  #families: Family[] = ['ip'];

  constructor(readonly table: string) {}

  /**
   * Makes the tables, or brings their chains up to date in one transaction: at no moment is there a gap. Elements stay.
   */
  async declare(bridges: Bridge[]): Promise<void> {
    this.#families = bridges.some((bridge) => spacesOf(bridge, 'ip6').length > 0) ? ['ip', 'ip6'] : ['ip'];
    const stale =
      !this.#families.includes('ip6') && tableHandle(this.#socket, this.table, 'ip6') !== undefined
        ? `delete table ip6 ${this.table}\n`
        : '';
    await run(
      'nft',
      ['-f', '-'],
      `${this.#families.map((family) => script(this.table, bridges, family)).join('')}${stale}`,
    );
    this.#made = this.#look();
  }

  isIntact(): boolean {
    return this.#made !== undefined && this.#look() === this.#made;
  }

  /** Counts up with every change of rules on this host. */
  generation = (): number => generation(this.#socket);

  /** Publishes ports, lets askers ask. All or none. @throws Errno ENOENT when a table was wiped */
  put(openings: Openings): void {
    const changes = contents(openings)
      .filter(([, , elements]) => elements.length > 0)
      .map(([family, map, elements]) => putElements(this.#place(family, map), elements));
    if (changes.length > 0) this.#socket.run(transaction(changes));
  }

  /** Takes them back; what is not there is no fault. */
  drop(openings: Openings): void {
    for (const [family, map, elements] of contents(openings))
      for (const element of elements) this.#dropOne(this.#place(family, map), element);
  }

  /** Makes exactly these openings, and touches none that is right already. */
  sync(openings: Openings): void {
    for (const [family, map, elements] of contents(openings).filter(([each]) => this.#families.includes(each))) {
      const place = this.#place(family, map);
      const right = new Map(elements.map((element) => [element.key.toString('hex'), element]));
      for (const found of mapElements(this.#socket, place)) {
        const want = right.get(found.key.toString('hex'));
        if (want?.value.equals(found.value)) right.delete(found.key.toString('hex'));
        else this.#dropOne(place, found);
      }
      if (right.size > 0) this.#socket.run(transaction([putElements(place, [...right.values()])]));
    }
  }

  async remove(): Promise<void> {
    this.#made = undefined;
    // Made empty first: then its removal cannot fail for want of it.
    await run(
      'nft',
      ['-f', '-'],
      this.#families.map((family) => `table ${family} ${this.table}\ndelete table ${family} ${this.table}\n`).join(''),
    );
  }

  close(): void {
    this.#socket.close();
  }

  // Identity of each table and the number of its rules.
  #look(): string {
    return this.#families
      .map((family) => {
        const handle = tableHandle(this.#socket, this.table, family);
        return handle === undefined ? '' : `${handle} ${countRules(this.#socket, this.table, family)}`;
      })
      .join();
  }

  #place = (family: Family, map: string): MapPlace => ({ family, table: this.table, map });

  #dropOne(place: MapPlace, element: MapElement): void {
    try {
      this.#socket.run(transaction([dropElements(place, [element])]));
    } catch (error) {
      if (!(error instanceof Errno && error.code === 'ENOENT')) throw error;
    }
  }
}

function contents({ ports, askers }: Openings): Contents {
  const kernel = ports.filter((port) => port.via === 'kernel' && isIPv4(port.hostIp));
  const any = kernel.filter((port) => port.hostIp === '0.0.0.0');
  const one = kernel.filter((port) => port.hostIp !== '0.0.0.0');
  const asking = (addresses: string[]): MapElement[] =>
    addresses.map((address) => ({ key: addressBytes(address), value: Buffer.alloc(0) }));
  return [
    ['ip', MAPS.any, any.map((port) => ({ key: portKey(port), value: target(port) }))],
    [
      'ip',
      MAPS.one,
      one.map((port) => ({ key: Buffer.concat([ipv4Bytes(port.hostIp), portKey(port)]), value: target(port) })),
    ],
    ['ip', ASKERS, asking(askers.filter(isIPv4))],
    ['ip6', ASKERS, asking(askers.filter((address) => !isIPv4(address)))],
  ];
}

const portKey = ({ protocol, hostPort }: PortSetup): Buffer =>
  Buffer.from([PROTOCOL_NUMBERS[protocol], 0, 0, 0, hostPort >> 8, hostPort & 0xff, 0, 0]);
const target = ({ address, port }: PortSetup): Buffer =>
  Buffer.concat([ipv4Bytes(address), Buffer.from([port >> 8, port & 0xff, 0, 0])]);

/** A bridge's own addresses, with what its containers have theirs in. */
const spacesOf = ({ addresses }: Bridge, family: Family): { own: string; subnet: string }[] =>
  addresses
    .filter((address) => cidr(address).family === (family === 'ip' ? 4 : 6))
    .map((address) => ({ own: address.split('/')[0]!, subnet: masked(cidr(address)) }));

/** A table for nft -f: one transaction that leaves the maps' elements alone. */
export function script(table: string, bridges: Bridge[], family: Family = 'ip'): string {
  const carried = bridges.flatMap((bridge) => spacesOf(bridge, family).map((space) => ({ bridge, ...space })));
  const dnat = [
    `dnat ip to ip daddr . meta l4proto . th dport map @${MAPS.one}`,
    `fib daddr type local dnat ip to meta l4proto . th dport map @${MAPS.any}`,
  ];
  const each = (rules: (link: string, subnet: string, bridge: Bridge, own: string) => string[]): string[] =>
    carried.flatMap(({ bridge, subnet, own }) => rules(`"${bridge.link}"`, subnet, bridge, own));
  const four: Chain[] = [
    // What comes from outside for 127.0.0.1 is no business of a port published there: it goes on, and the kernel drops
    // it as martian.
    ['prerouting', 'type nat hook prerouting priority -105', ['ip daddr 127.0.0.0/8 return', ...dnat]],
    ['output', 'type nat hook output priority -105', dnat],
  ];
  const chains: Chain[] = [
    [
      'guard',
      'type filter hook prerouting priority -300',
      each((link, subnet, { internal, names }, own) => {
        const asks = `${family} daddr ${own} meta l4proto { tcp, udp } th dport ${DNS_PORT}`;
        return [
          // route_localnet lets replies to 127.0.0.1 in by the bridge; a container must not come in the same way by
          // itself.
          ...(family === 'ip' ? [`iifname ${link} ip daddr 127.0.0.0/8 drop`] : []),
          // The server of names tells whoever asks it on a bridge's address of the containers there: they alone may.
          ...(names ? [`iifname != { ${link}, "lo" } ${asks} drop`] : []),
          // The host is there under the bridge's address alone: its others lead elsewhere, to ports that others publish
          // for one.
          ...(internal
            ? [
                `iifname ${link} ${family} daddr != ${family === 'ip' ? subnet : `{ ${subnet}, fe80::/10 }`} fib daddr type local drop`,
              ]
            : []),
          ...(internal && names ? [`iifname ${link} ${asks} ${family} saddr != @${ASKERS} drop`] : []),
        ];
      }),
    ],
    ...(family === 'ip' ? four : []),
    // The second: a container that comes back to the bridge by a published port must see the answer come from there
    // (hairpin).
    [
      'postrouting',
      'type nat hook postrouting priority 95',
      each((link, subnet, { internal, masquerade }) => [
        ...(family === 'ip' ? [`ip saddr 127.0.0.0/8 oifname ${link} masquerade`] : []),
        `${family} saddr ${subnet} oifname ${link} ct status dnat masquerade`,
        ...(masquerade && !internal ? [`${family} saddr ${subnet} oifname != ${link} masquerade`] : []),
      ]),
    ],
    // From outside only published ports and answers get in; other bridges are outside.
    [
      'forward',
      'type filter hook forward priority -5',
      [
        ...each((link, _, { internal }) =>
          internal ? [`iifname ${link} oifname != ${link} drop`, `iifname != ${link} oifname ${link} drop`] : [],
        ),
        ...each((link, _, { icc }) => [
          `oifname ${link} ct state established,related accept`,
          `oifname ${link} ct status dnat accept`,
          ...(icc ? [`iifname ${link} oifname ${link} accept`] : []),
          `oifname ${link} drop`,
        ]),
      ],
    ],
  ];
  return [
    `table ${family} ${table} {`,
    ...(family === 'ip'
      ? [
          `  map ${MAPS.any} { type inet_proto . inet_service : ipv4_addr . inet_service; }`,
          `  map ${MAPS.one} { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }`,
        ]
      : []),
    `  set ${ASKERS} { type ${family === 'ip' ? 'ipv4_addr' : 'ipv6_addr'}; }`,
    ...chains.map(([name, hook]) => `  chain ${name} { ${hook}; policy accept; }`),
    '}',
    ...chains.flatMap(([name, , rules]) => [
      `flush chain ${family} ${table} ${name}`,
      ...rules.map((rule) => `add rule ${family} ${table} ${name} ${rule}`),
    ]),
    '',
  ].join('\n');
}

type Chain = [name: string, hook: string, rules: string[]];
