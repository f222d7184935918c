/** Links, addresses and routes. rtnetlink(7). */
import { attribute, attributes, nested, Netlink, NLM, type Request } from './netlink.ts';
import { addressBytes, addressText } from './inet.ts';
import { Errno, type Fd } from './libc.ts';

const RTM = {
  NEWLINK: 16,
  DELLINK: 17,
  GETLINK: 18,
  SETLINK: 19,
  NEWADDR: 20,
  DELADDR: 21,
  GETADDR: 22,
  NEWROUTE: 24,
  DELROUTE: 25,
  GETROUTE: 26,
} as const;
const IFLA = {
  ADDRESS: 1,
  IFNAME: 3,
  MTU: 4,
  MASTER: 10,
  PROTINFO: 12,
  LINKINFO: 18,
  IFALIAS: 20,
  NET_NS_FD: 28,
} as const;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const VETH_INFO_PEER = 1;
const IFLA_BRPORT_MODE = 4;
const IFLA_BRPORT_ISOLATED = 33;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_BROADCAST = 4;
const RTA_DST = 1;
const RTA_GATEWAY = 5;
const AF_INET = 2;
const AF_INET6 = 10;
const AF_BRIDGE = 7;
const IFF_UP = 1;
const RT_TABLE_MAIN = 254;
const RTPROT_BOOT = 3;
const RT_SCOPE_UNIVERSE = 0;
const RT_SCOPE_LINK = 253;
/**
 * Without duplicate address detection an IPv6 address can be used at once; nobody else could have it on a bridge of
 * ours.
 */
const IFA_F_NODAD = 2;
const RTN_UNICAST = 1;

const ADD = NLM.ACK | NLM.CREATE | NLM.EXCL;

/** A network interface. */
export interface Link {
  index: number;
  name: string;
  up: boolean;
  /** Index of the bridge it is a port of; 0 = none. */
  master: number;
  mac: string;
  mtu: number;
  /** Free text of whoever made it. */
  alias: string;
}

export interface VethPair {
  host: string;
  peer: { name: string; mac: string; /** Descriptor of the network namespace it is born in. */ netns: Fd };
  /** Index of the bridge that the host's end becomes a port of. */
  bridge: number;
  mtu: number;
}

/** undefined when there is no such link. */
export function findLink(socket: Netlink, name: string): Link | undefined {
  try {
    const [reply] = socket.ask({
      type: RTM.GETLINK,
      flags: NLM.ACK,
      body: Buffer.concat([linkHeader(), attribute(IFLA.IFNAME, name)]),
      what: `find link ${name}`,
    });
    return reply && link(reply.body);
  } catch (error) {
    if (error instanceof Errno && error.code === 'ENODEV') return undefined;
    throw error;
  }
}

export const allLinks = (socket: Netlink): Link[] =>
  socket
    .ask({ type: RTM.GETLINK, flags: NLM.DUMP, body: linkHeader(), what: 'list links' })
    .map((reply) => link(reply.body));

export const addBridge = (name: string, mac: string, mtu: number): Request => ({
  type: RTM.NEWLINK,
  flags: ADD,
  what: `make bridge ${name}`,
  body: Buffer.concat([
    linkHeader(),
    attribute(IFLA.IFNAME, name),
    attribute(IFLA.ADDRESS, macBytes(mac)),
    attribute(IFLA.MTU, mtu),
    nested(IFLA.LINKINFO, attribute(IFLA_INFO_KIND, Buffer.from('bridge'))),
  ]),
});

/** Both ends at once, each where it belongs: the host's is up and a port of its bridge. veth(4). */
export const addVeth = ({ host, peer, bridge, mtu }: VethPair): Request => ({
  type: RTM.NEWLINK,
  flags: ADD,
  what: `make veth ${host}`,
  body: Buffer.concat([
    linkHeader(0, IFF_UP, IFF_UP),
    attribute(IFLA.IFNAME, host),
    attribute(IFLA.MTU, mtu),
    attribute(IFLA.MASTER, bridge),
    nested(
      IFLA.LINKINFO,
      attribute(IFLA_INFO_KIND, Buffer.from('veth')),
      nested(
        IFLA_INFO_DATA,
        nested(
          VETH_INFO_PEER,
          linkHeader(),
          attribute(IFLA.IFNAME, peer.name),
          attribute(IFLA.ADDRESS, macBytes(peer.mac)),
          attribute(IFLA.MTU, mtu),
          attribute(IFLA.NET_NS_FD, peer.netns),
        ),
      ),
    ),
  ]),
});

export const deleteLink = (index: number): Request => ({
  type: RTM.DELLINK,
  flags: NLM.ACK,
  body: linkHeader(index),
  what: `delete link ${index}`,
});

export const setUp = (index: number): Request => ({
  type: RTM.NEWLINK,
  flags: NLM.ACK,
  body: linkHeader(index, IFF_UP, IFF_UP),
  what: `set link ${index} up`,
});

export const setMaster = (index: number, bridge: number): Request => ({
  type: RTM.SETLINK,
  flags: NLM.ACK,
  body: Buffer.concat([linkHeader(index), attribute(IFLA.MASTER, bridge)]),
  what: `make link ${index} a port of ${bridge}`,
});

export const setAlias = (index: number, alias: string): Request => ({
  type: RTM.SETLINK,
  flags: NLM.ACK,
  body: Buffer.concat([linkHeader(index), attribute(IFLA.IFALIAS, alias)]),
  what: `name link ${index}`,
});

/** Lets a bridge send a frame back out of the port it came from. bridge(8), hairpin. */
export const setHairpin = (index: number): Request => ({
  type: RTM.SETLINK,
  flags: NLM.ACK,
  body: Buffer.concat([
    linkHeader(index, 0, 0, AF_BRIDGE),
    nested(IFLA.PROTINFO, attribute(IFLA_BRPORT_MODE, Buffer.from([1]))),
  ]),
  what: `hairpin on link ${index}`,
});

/** Keeps a bridge's port from talking to other isolated ones. bridge(8), isolated. */
export const setIsolated = (index: number): Request => ({
  type: RTM.SETLINK,
  flags: NLM.ACK,
  body: Buffer.concat([
    linkHeader(index, 0, 0, AF_BRIDGE),
    nested(IFLA.PROTINFO, attribute(IFLA_BRPORT_ISOLATED, Buffer.from([1]))),
  ]),
  what: `isolate link ${index}`,
});

/** @param cidr e.g. 10.88.0.2/16 or fd00::2/64 */
export function addAddress(index: number, cidr: string): Request {
  const { address, prefix, family } = split(cidr);
  const parts = [attribute(IFA_LOCAL, address), attribute(IFA_ADDRESS, address)];
  if (family === AF_INET) {
    const broadcast = Buffer.alloc(4);
    broadcast.writeUInt32BE((address.readUInt32BE() | (2 ** (32 - prefix) - 1)) >>> 0);
    parts.push(attribute(IFA_BROADCAST, broadcast));
  }
  return {
    type: RTM.NEWADDR,
    flags: ADD,
    body: Buffer.concat([addressHeader(index, prefix, family), ...parts]),
    what: `give ${cidr} to link ${index}`,
  };
}

export function deleteAddress(index: number, cidr: string): Request {
  const { address, prefix, family } = split(cidr);
  return {
    type: RTM.DELADDR,
    flags: NLM.ACK,
    body: Buffer.concat([
      addressHeader(index, prefix, family),
      attribute(IFA_LOCAL, address),
      attribute(IFA_ADDRESS, address),
    ]),
    what: `take ${cidr} from link ${index}`,
  };
}

/** Addresses of a link, as a.b.c.d/n and x::y/n; without the link-local ones, which the kernel gives. */
export function addressesOf(socket: Netlink, index: number): string[] {
  const replies = socket.ask({ type: RTM.GETADDR, flags: NLM.DUMP, body: Buffer.alloc(8), what: 'list addresses' });
  return replies
    .filter(({ body }) => body.readUInt32LE(4) === index && body[3] !== RT_SCOPE_LINK)
    .flatMap(({ body }) => {
      const found = attributes(body.subarray(8));
      const address = found.get(IFA_LOCAL) ?? found.get(IFA_ADDRESS);
      return address && [AF_INET, AF_INET6].includes(body[0]!) ? [`${addressText(address)}/${body[1]}`] : [];
    });
}

/** The default route of the gateway's family; one that is there already gives way. */
export const setDefaultRoute = (gateway: string): Request => ({
  type: RTM.NEWROUTE,
  flags: NLM.ACK | NLM.CREATE | NLM.REPLACE,
  what: `route by ${gateway}`,
  body: Buffer.concat([routeHeader(familyOf(gateway)), attribute(RTA_GATEWAY, addressBytes(gateway))]),
});

/** In the kernel ESRCH when there is none. */
export const deleteDefaultRoute = (gateway: string): Request => ({
  type: RTM.DELROUTE,
  flags: NLM.ACK,
  what: `end the route by ${gateway}`,
  body: Buffer.concat([routeHeader(familyOf(gateway)), attribute(RTA_GATEWAY, addressBytes(gateway))]),
});

/** Where this host has routes to, but for the default ones: a.b.c.d/n and x::y/n. */
export function destinations(socket: Netlink): string[] {
  return [AF_INET, AF_INET6].flatMap((family) => {
    const replies = socket.ask({
      type: RTM.GETROUTE,
      flags: NLM.DUMP,
      body: Buffer.from([family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
      what: 'list routes',
    });
    return replies.flatMap(({ body }) => {
      const to = attributes(body.subarray(12)).get(RTA_DST);
      return to && body[1] !== 0 && body[7] === RTN_UNICAST ? [`${addressText(to)}/${body[1]}`] : [];
    });
  });
}

export const ipv4Bytes = (address: string): Buffer => Buffer.from(address.split('.').map(Number));

const macBytes = (mac: string): Buffer => Buffer.from(mac.replaceAll(':', ''), 'hex');

const familyOf = (address: string): number => (address.includes(':') ? AF_INET6 : AF_INET);

function split(cidr: string): { address: Buffer; prefix: number; family: number } {
  const [address, prefix] = cidr.split('/');
  return { address: addressBytes(address!), prefix: Number(prefix), family: familyOf(address!) };
}

// struct rtmsg
const routeHeader = (family: number): Buffer =>
  Buffer.from([family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0, 0, 0, 0]);

// struct ifinfomsg
function linkHeader(index = 0, flags = 0, change = 0, family = 0): Buffer {
  const header = Buffer.alloc(16);
  header[0] = family;
  header.writeInt32LE(index, 4);
  header.writeUInt32LE(flags, 8);
  header.writeUInt32LE(change, 12);
  return header;
}

// struct ifaddrmsg
function addressHeader(index: number, prefix: number, family: number): Buffer {
  const header = Buffer.alloc(8);
  header[0] = family;
  header[1] = prefix;
  header[2] = family === AF_INET6 ? IFA_F_NODAD : 0;
  header.writeUInt32LE(index, 4);
  return header;
}

function link(body: Buffer): Link {
  const found = attributes(body.subarray(16));
  const text = (value: Buffer | undefined): string => (value ? value.toString('utf8', 0, value.length - 1) : '');
  return {
    index: body.readInt32LE(4),
    up: (body.readUInt32LE(8) & IFF_UP) !== 0,
    name: text(found.get(IFLA.IFNAME)),
    master: found.get(IFLA.MASTER)?.readUInt32LE() ?? 0,
    mtu: found.get(IFLA.MTU)?.readUInt32LE() ?? 0,
    alias: text(found.get(IFLA.IFALIAS)),
    mac: (found.get(IFLA.ADDRESS)?.toString('hex').match(/../g) ?? []).join(':'),
  };
}
