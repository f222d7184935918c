/**
 * The daemon's own nf_tables table: published ports, masquerading, isolation.
 * Chains are static, so a container's start and end only touch elements of two maps: microseconds, and never another container's.
 */
import { isIPv4 } from 'node:net';
import { Errno } from '../../sys/libc.ts';
import { Netlink, NETLINK_NETFILTER } from '../../sys/netlink.ts';
import { countRules, dropElements, generation, mapElements, putElements, tableHandle, transaction, type Family, type MapElement } from '../../sys/nftables.ts';
import { ipv4Bytes } from '../../sys/rtnetlink.ts';
import { run } from './command.ts';
import type { Bridge, PortSetup } from './driver.ts';
import { cidr, masked } from './subnets.ts';

/** Ports published on every IPv4 address of the host, and on one of them. */
const MAPS = { any: 'ports', one: 'addressed_ports' } as const;
type MapName = (typeof MAPS)[keyof typeof MAPS];

const PROTOCOL_NUMBERS = { tcp: 6, udp: 17, sctp: 132 } as const;

export class Firewall {
  readonly #socket = Netlink.open(NETLINK_NETFILTER);
  /** What `declare` made: while it is the same, nobody has wiped it. */
  #made: string | undefined;
  #families: Family[] = ['ip'];

  constructor(readonly table: string) {}

  /** Makes the tables, or brings their chains up to date in one transaction: at no moment is there a gap. Elements stay. */
  async declare(bridges: Bridge[]): Promise<void> {
    this.#families = bridges.some((bridge) => subnetsOf(bridge, 'ip6').length > 0) ? ['ip', 'ip6'] : ['ip'];
    const stale = !this.#families.includes('ip6') && tableHandle(this.#socket, this.table, 'ip6') !== undefined ? `delete table ip6 ${this.table}\n` : '';
    await run('nft', ['-f', '-'], `${this.#families.map((family) => script(this.table, bridges, family)).join('')}${stale}`);
    this.#made = this.#look();
  }

  isIntact(): boolean {
    return this.#made !== undefined && this.#look() === this.#made;
  }

  /** Counts up with every change of rules on this host. */
  generation = (): number => generation(this.#socket);

  /** Publishes ports. All or none. @throws Errno ENOENT when the table was wiped */
  put(ports: PortSetup[]): void {
    const changes = byMap(ports).map(([map, elements]) => putElements(this.table, map, elements));
    if (changes.length > 0) this.#socket.run(transaction(changes));
  }

  /** Ends the publication of ports; one that is not published is no fault. */
  drop(ports: PortSetup[]): void {
    for (const [map, elements] of byMap(ports)) for (const element of elements) this.#dropOne(map, element);
  }

  /** Makes exactly these ports published, and touches none that is right already. */
  sync(ports: PortSetup[]): void {
    const wanted = new Map(byMap(ports));
    for (const map of Object.values(MAPS)) {
      const right = new Map((wanted.get(map) ?? []).map((element) => [element.key.toString('hex'), element]));
      for (const found of mapElements(this.#socket, this.table, map)) {
        const want = right.get(found.key.toString('hex'));
        if (want?.value.equals(found.value)) right.delete(found.key.toString('hex'));
        else this.#dropOne(map, found);
      }
      if (right.size > 0) this.#socket.run(transaction([putElements(this.table, map, [...right.values()])]));
    }
  }

  async remove(): Promise<void> {
    this.#made = undefined;
    // Made empty first: then its removal cannot fail for want of it.
    await run('nft', ['-f', '-'], this.#families.map((family) => `table ${family} ${this.table}\ndelete table ${family} ${this.table}\n`).join(''));
  }

  close(): void {
    this.#socket.close();
  }

  // Identity of each table and the number of its rules.
  #look(): string {
    return this.#families.map((family) => {
      const handle = tableHandle(this.#socket, this.table, family);
      return handle === undefined ? '' : `${handle} ${countRules(this.#socket, this.table, family)}`;
    }).join();
  }

  #dropOne(map: MapName, element: MapElement): void {
    try {
      this.#socket.run(transaction([dropElements(this.table, map, [element])]));
    } catch (error) {
      if (!(error instanceof Errno && error.code === 'ENOENT')) throw error;
    }
  }
}

function byMap(ports: PortSetup[]): [MapName, MapElement[]][] {
  const kernel = ports.filter((port) => port.via === 'kernel' && isIPv4(port.hostIp));
  const any = kernel.filter((port) => port.hostIp === '0.0.0.0');
  const one = kernel.filter((port) => port.hostIp !== '0.0.0.0');
  const lists: [MapName, MapElement[]][] = [
    [MAPS.any, any.map((port) => ({ key: portKey(port), value: target(port) }))],
    [MAPS.one, one.map((port) => ({ key: Buffer.concat([ipv4Bytes(port.hostIp), portKey(port)]), value: target(port) }))],
  ];
  return lists.filter(([, elements]) => elements.length > 0);
}

const portKey = ({ protocol, hostPort }: PortSetup): Buffer => Buffer.from([PROTOCOL_NUMBERS[protocol], 0, 0, 0, hostPort >> 8, hostPort & 0xff, 0, 0]);
const target = ({ address, port }: PortSetup): Buffer => Buffer.concat([ipv4Bytes(address), Buffer.from([port >> 8, port & 0xff, 0, 0])]);

/** What a bridge's containers have addresses in. */
const subnetsOf = ({ addresses }: Bridge, family: Family): string[] =>
  addresses.map((address) => cidr(address)).filter((subnet) => subnet.family === (family === 'ip' ? 4 : 6)).map(masked);

/** A table for nft -f: one transaction that leaves the maps' elements alone. */
export function script(table: string, bridges: Bridge[], family: Family = 'ip'): string {
  const carried = bridges.filter((bridge) => subnetsOf(bridge, family).length > 0);
  const dnat = [
    `dnat ip to ip daddr . meta l4proto . th dport map @${MAPS.one}`,
    `fib daddr type local dnat ip to meta l4proto . th dport map @${MAPS.any}`,
  ];
  const each = (rules: (link: string, subnet: string, bridge: Bridge) => string[]): string[] => carried.flatMap((bridge) => rules(`"${bridge.link}"`, subnetsOf(bridge, family)[0]!, bridge));
  const four: Chain[] = [
    // route_localnet lets replies to 127.0.0.1 in by the bridge; a container must not come in the same way by itself.
    ['guard', 'type filter hook prerouting priority -300', each((link) => [`iifname ${link} ip daddr 127.0.0.0/8 drop`])],
    // What comes from outside for 127.0.0.1 is no business of a port published there: it goes on, and the kernel drops it as martian.
    ['prerouting', 'type nat hook prerouting priority -105', ['ip daddr 127.0.0.0/8 return', ...dnat]],
    ['output', 'type nat hook output priority -105', dnat],
  ];
  const chains: Chain[] = [
    ...(family === 'ip' ? four : []),
    // The second: a container that comes back to the bridge by a published port must see the answer come from there (hairpin).
    ['postrouting', 'type nat hook postrouting priority 95', each((link, subnet, { internal, masquerade }) => [
      ...(family === 'ip' ? [`ip saddr 127.0.0.0/8 oifname ${link} masquerade`] : []),
      `${family} saddr ${subnet} oifname ${link} ct status dnat masquerade`,
      ...(masquerade && !internal ? [`${family} saddr ${subnet} oifname != ${link} masquerade`] : []),
    ])],
    // From outside only published ports and answers get in; other bridges are outside.
    ['forward', 'type filter hook forward priority -5', [
      ...each((link, _, { internal }) => (internal ? [`iifname ${link} oifname != ${link} drop`, `iifname != ${link} oifname ${link} drop`] : [])),
      ...each((link, _, { icc }) => [
        `oifname ${link} ct state established,related accept`,
        `oifname ${link} ct status dnat accept`,
        ...(icc ? [`iifname ${link} oifname ${link} accept`] : []),
        `oifname ${link} drop`,
      ]),
    ]],
  ];
  return [
    `table ${family} ${table} {`,
    ...(family === 'ip' ? [
      `  map ${MAPS.any} { type inet_proto . inet_service : ipv4_addr . inet_service; }`,
      `  map ${MAPS.one} { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }`,
    ] : []),
    ...chains.map(([name, hook]) => `  chain ${name} { ${hook}; policy accept; }`),
    '}',
    ...chains.flatMap(([name, , rules]) => [`flush chain ${family} ${table} ${name}`, ...rules.map((rule) => `add rule ${family} ${table} ${name} ${rule}`)]),
    '',
  ].join('\n');
}

type Chain = [name: string, hook: string, rules: string[]];
