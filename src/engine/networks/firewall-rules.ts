/** The rules of the firewall's tables, as a script for nft(8). Pure functions. */
import type { Family } from '../../sys/nftables.ts';
import type { Bridge } from './driver.ts';
import { cidr, masked } from './subnets.ts';

/** The ports published on all IPv4 addresses of the host, and those published on a single address. */
export const MAPS = { any: 'ports', one: 'addressed_ports' } as const;
/** The addresses that may ask the DNS servers of internal networks: `dnsClientsOf` in dns-policy.ts. */
export const DNS_CLIENTS = 'askers';
const DNS_PORT = 53;

interface Chain {
  name: string;
  hook: string;
  rules: string[];
}

/** One of a bridge's own addresses, with its subnet. */
interface BridgeSubnet {
  bridge: Bridge;
  /** The bridge's link, quoted for nft. */
  link: string;
  own: string;
  subnet: string;
}

const DNAT = [
  `dnat ip to ip daddr . meta l4proto . th dport map @${MAPS.one}`,
  `fib daddr type local dnat ip to meta l4proto . th dport map @${MAPS.any}`,
];

/**
 * A table for `nft -f`: one transaction, which leaves the maps' elements alone.
 * @param only if given, what is forwarded neither from nor to one of these links is dropped
 */
export function script(table: string, bridges: Bridge[], family: Family = 'ip', only?: readonly string[]): string {
  const subnets = bridges.flatMap((bridge) => subnetsOf(bridge, family));
  const chains = [
    guard(subnets, family),
    ...(family === 'ip' ? publishedPorts() : []),
    postrouting(subnets, family),
    forward(subnets, only),
  ];
  return [
    `table ${family} ${table} {`,
    ...(family === 'ip'
      ? [
          `  map ${MAPS.any} { type inet_proto . inet_service : ipv4_addr . inet_service; }`,
          `  map ${MAPS.one} { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }`,
        ]
      : []),
    `  set ${DNS_CLIENTS} { type ${family === 'ip' ? 'ipv4_addr' : 'ipv6_addr'}; }`,
    ...chains.map(({ name, hook }) => `  chain ${name} { ${hook}; policy accept; }`),
    '}',
    ...chains.flatMap(({ name, rules }) => [
      `flush chain ${family} ${table} ${name}`,
      ...rules.map((rule) => `add rule ${family} ${table} ${name} ${rule}`),
    ]),
    '',
  ].join('\n');
}

const subnetsOf = (bridge: Bridge, family: Family): BridgeSubnet[] =>
  bridge.addresses
    .filter((address) => cidr(address).family === (family === 'ip' ? 4 : 6))
    .map((address) => ({
      bridge,
      link: `"${bridge.link}"`,
      own: address.split('/')[0]!,
      subnet: masked(cidr(address)),
    }));

/** Whether the bridges have addresses of this family. */
export const carriesFamily = (bridges: Bridge[], family: Family): boolean =>
  bridges.some((bridge) => subnetsOf(bridge, family).length > 0);

/** Drops what must not reach the host itself. */
function guard(subnets: BridgeSubnet[], family: Family): Chain {
  const rules = subnets.flatMap(({ bridge: { internal, dns }, link, subnet, own }) => {
    const question = `${family} daddr ${own} meta l4proto { tcp, udp } th dport ${DNS_PORT}`;
    const reachable = family === 'ip' ? subnet : `{ ${subnet}, fe80::/10 }`;
    const found: string[] = [];
    // route_localnet lets replies to 127.0.0.1 in through the bridge; containers must not connect that way.
    if (family === 'ip') found.push(`iifname ${link} ip daddr 127.0.0.0/8 drop`);
    // The DNS server tells the names of a network to every address that reaches it, and forwards its questions.
    if (dns) found.push(`iifname != { ${link}, "lo" } ${question} drop`);
    // From an internal network the host is reachable at the bridge's address only: its other addresses lead to ports
    // published on them.
    if (internal) found.push(`iifname ${link} ${family} daddr != ${reachable} fib daddr type local drop`);
    // As the DNS server, which does not answer unknown addresses there.
    if (internal && dns) found.push(`iifname ${link} ${question} ${family} saddr != @${DNS_CLIENTS} drop`);
    return found;
  });
  return { name: 'guard', hook: 'type filter hook prerouting priority -300', rules };
}

const publishedPorts = (): Chain[] => [
  {
    name: 'prerouting',
    hook: 'type nat hook prerouting priority -105',
    // Packets from outside to 127.0.0.1 must not be translated, so that the kernel drops them as martian.
    rules: ['ip daddr 127.0.0.0/8 return', ...DNAT],
  },
  { name: 'output', hook: 'type nat hook output priority -105', rules: DNAT },
];

function postrouting(subnets: BridgeSubnet[], family: Family): Chain {
  const rules = subnets.flatMap(({ bridge: { internal, masquerade }, link, subnet }) => [
    ...(family === 'ip' ? [`ip saddr 127.0.0.0/8 oifname ${link} masquerade`] : []),
    // Hairpin: a container that connects to a published port of its own bridge must get the replies from the host.
    `${family} saddr ${subnet} oifname ${link} ct status dnat masquerade`,
    ...(masquerade && !internal ? [`${family} saddr ${subnet} oifname != ${link} masquerade`] : []),
  ]);
  return { name: 'postrouting', hook: 'type nat hook postrouting priority 95', rules };
}

/** From outside, which includes other bridges, only published ports and replies get in. */
function forward(subnets: BridgeSubnet[], only: readonly string[] | undefined): Chain {
  const isolation = subnets
    .filter(({ bridge }) => bridge.internal)
    .flatMap(({ link }) => [`iifname ${link} oifname != ${link} drop`, `iifname != ${link} oifname ${link} drop`]);
  const admission = subnets.flatMap(({ bridge: { icc }, link }) => [
    `oifname ${link} ct state established,related accept`,
    `oifname ${link} ct status dnat accept`,
    ...(icc ? [`iifname ${link} oifname ${link} accept`] : []),
    `oifname ${link} drop`,
  ]);
  const links = `{ ${(only ?? []).map((link) => `"${link}"`).join(', ')} }`;
  const others = only?.length ? [`iifname != ${links} oifname != ${links} drop`] : [];
  return {
    name: 'forward',
    hook: 'type filter hook forward priority -5',
    rules: [...isolation, ...admission, ...others],
  };
}
