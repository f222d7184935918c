/** The firewall's tables, with rules in the words of nft(8). Pure functions. */
import type { Chain, Family, Table } from '../../sys/nft-messages.ts';
import {
  accept,
  ctState,
  ctStatus,
  dnatBy,
  dport,
  drop,
  iifname,
  ip,
  ip6,
  l4proto,
  leave,
  masquerade,
  oifname,
  rule,
  toThisHost,
} from '../../sys/nft-rule.ts';
import type { Bridge } from './driver.ts';
import { cidr, masked } from './subnets.ts';

/** The ports published on all IPv4 addresses of the host, and those published on a single address. */
export const MAPS = { any: 'ports', one: 'addressed_ports' } as const;
/** The addresses that may ask the DNS servers of internal networks: `dnsClientsOf` in dns-policy.ts. */
export const DNS_CLIENTS = 'askers';
const DNS_PORT = 53;
const LOOPBACK = '127.0.0.0/8';
const LINK_LOCAL = 'fe80::/10';

/** One of a bridge's own addresses, with its subnet. */
interface BridgeSubnet {
  bridge: Bridge;
  link: string;
  own: string;
  subnet: string;
}

/**
 * The table of a family.
 * @param only if given, what is forwarded neither from nor to one of these links is dropped
 */
export function tableOf(table: string, bridges: Bridge[], family: Family, only?: readonly string[]): Table {
  const subnets = bridges.flatMap((bridge) => subnetsOf(bridge, family));
  return {
    family,
    table,
    sets:
      family === 'ip'
        ? [
            { name: MAPS.any, key: ['inet_proto', 'inet_service'], value: ['ipv4_addr', 'inet_service'] },
            { name: MAPS.one, key: ['ipv4_addr', 'inet_proto', 'inet_service'], value: ['ipv4_addr', 'inet_service'] },
            { name: DNS_CLIENTS, key: ['ipv4_addr'] },
          ]
        : [{ name: DNS_CLIENTS, key: ['ipv6_addr'] }],
    chains: [
      guard(subnets, family),
      ...(family === 'ip' ? publishedPorts() : []),
      postrouting(subnets, family),
      forward(subnets, only),
    ],
  };
}

const subnetsOf = (bridge: Bridge, family: Family): BridgeSubnet[] =>
  bridge.addresses
    .filter((address) => cidr(address).family === (family === 'ip' ? 4 : 6))
    .map((address) => ({
      bridge,
      link: bridge.link,
      own: address.split('/')[0]!,
      subnet: masked(cidr(address)),
    }));

/** Whether the bridges have addresses of this family. */
export const carriesFamily = (bridges: Bridge[], family: Family): boolean =>
  bridges.some((bridge) => subnetsOf(bridge, family).length > 0);

/** Drops what must not reach the host itself. */
function guard(subnets: BridgeSubnet[], family: Family): Chain {
  const { saddr, daddr } = family === 'ip' ? ip : ip6;
  const rules = subnets.flatMap(({ bridge: { internal, dns }, link, subnet, own }) => {
    const question = rule(daddr.is(own), l4proto.is('tcp', 'udp'), dport.is(DNS_PORT));
    const reachable = family === 'ip' ? [subnet] : [subnet, LINK_LOCAL];
    const found = [];
    // route_localnet lets replies to 127.0.0.1 in through the bridge; containers must not connect that way.
    if (family === 'ip') found.push(rule(iifname.is(link), ip.daddr.is(LOOPBACK), drop));
    // The DNS server tells the names of a network to every address that reaches it, and forwards its questions.
    if (dns) found.push(rule(iifname.isNot(link, 'lo'), question, drop));
    // From an internal network the host is reachable at the bridge's address only: its other addresses lead to ports
    // published on them.
    if (internal) found.push(rule(iifname.is(link), daddr.isNot(...reachable), toThisHost, drop));
    // As the DNS server, which does not answer unknown addresses there.
    if (internal && dns) found.push(rule(iifname.is(link), question, saddr.isNotIn(DNS_CLIENTS), drop));
    return found;
  });
  return { name: 'guard', type: 'filter', hook: 'prerouting', priority: -300, rules };
}

function publishedPorts(): Chain[] {
  const dnat = [rule(dnatBy(MAPS.one, ip.daddr, l4proto, dport)), rule(toThisHost, dnatBy(MAPS.any, l4proto, dport))];
  return [
    {
      name: 'prerouting',
      type: 'nat',
      hook: 'prerouting',
      priority: -105,
      // Packets from outside to 127.0.0.1 must not be translated, so that the kernel drops them as martian.
      rules: [rule(ip.daddr.is(LOOPBACK), leave), ...dnat],
    },
    { name: 'output', type: 'nat', hook: 'output', priority: -105, rules: dnat },
  ];
}

function postrouting(subnets: BridgeSubnet[], family: Family): Chain {
  const { saddr } = family === 'ip' ? ip : ip6;
  const rules = subnets.flatMap(({ bridge: { internal, masquerade: isMasqueraded }, link, subnet }) => [
    ...(family === 'ip' ? [rule(ip.saddr.is(LOOPBACK), oifname.is(link), masquerade)] : []),
    // Hairpin: a container that connects to a published port of its own bridge must get the replies from the host.
    rule(saddr.is(subnet), oifname.is(link), ctStatus('dnat'), masquerade),
    ...(isMasqueraded && !internal ? [rule(saddr.is(subnet), oifname.isNot(link), masquerade)] : []),
  ]);
  return { name: 'postrouting', type: 'nat', hook: 'postrouting', priority: 95, rules };
}

/** From outside, which includes other bridges, only published ports and replies get in. */
function forward(subnets: BridgeSubnet[], only: readonly string[] = []): Chain {
  const isolation = subnets
    .filter(({ bridge }) => bridge.internal)
    .flatMap(({ link }) => [
      rule(iifname.is(link), oifname.isNot(link), drop),
      rule(iifname.isNot(link), oifname.is(link), drop),
    ]);
  const admission = subnets.flatMap(({ bridge: { icc }, link }) => [
    rule(oifname.is(link), ctState('established', 'related'), accept),
    rule(oifname.is(link), ctStatus('dnat'), accept),
    ...(icc ? [rule(iifname.is(link), oifname.is(link), accept)] : []),
    rule(oifname.is(link), drop),
  ]);
  const others = only.length > 0 ? [rule(iifname.isNot(...only), oifname.isNot(...only), drop)] : [];
  return {
    name: 'forward',
    type: 'filter',
    hook: 'forward',
    priority: -5,
    rules: [...isolation, ...admission, ...others],
  };
}
