/** Network links over rtnetlink: bridges and veth pairs. rtnetlink(7), linux/if_link.h. */
import { attribute, attributes, CREATE_NEW, nested, NLM, type Netlink, type Request } from './netlink.ts';
import { Errno, type Fd } from './libc.ts';

const RTM = { NEWLINK: 16, DELLINK: 17, GETLINK: 18, SETLINK: 19 } as const;
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
const AF_BRIDGE = 7;
const IFF_UP = 1;

/** A network interface. */
export interface Link {
  index: number;
  name: string;
  up: boolean;
  /** Index of the bridge it is attached to; 0 = none. */
  master: number;
  mac: string;
  mtu: number;
  /** Free text. */
  alias: string;
  /** bridge, veth, dummy …; '' for a device of hardware. */
  kind: string;
}

export interface VethPair {
  host: string;
  peer: { name: string; mac: string; /** Descriptor of the network namespace it is created in. */ netns: Fd };
  /** Index of the bridge that the host's end is attached to. */
  bridge: number;
  mtu: number;
}

/** undefined when there is no such link. */
export function findLink(socket: Netlink, name: string): Link | undefined {
  try {
    const [reply] = socket.query({
      type: RTM.GETLINK,
      flags: NLM.ACK,
      body: Buffer.concat([linkHeader(), attribute(IFLA.IFNAME, name)]),
      what: `find link ${name}`,
    });
    return reply && parseLink(reply.body);
  } catch (error) {
    if (error instanceof Errno && error.code === 'ENODEV') return undefined;
    throw error;
  }
}

export const allLinks = (socket: Netlink): Link[] =>
  socket
    .query({ type: RTM.GETLINK, flags: NLM.DUMP, body: linkHeader(), what: 'list links' })
    .map((reply) => parseLink(reply.body));

export const addBridge = (name: string, mac: string, mtu: number): Request => ({
  type: RTM.NEWLINK,
  flags: CREATE_NEW,
  what: `create bridge ${name}`,
  body: Buffer.concat([
    linkHeader(),
    attribute(IFLA.IFNAME, name),
    attribute(IFLA.ADDRESS, macBytes(mac)),
    attribute(IFLA.MTU, mtu),
    nested(IFLA.LINKINFO, attribute(IFLA_INFO_KIND, Buffer.from('bridge'))),
  ]),
});

/** Creates both ends: the host's up and attached to its bridge, the peer in its namespace. veth(4). */
export const addVeth = ({ host, peer, bridge, mtu }: VethPair): Request => ({
  type: RTM.NEWLINK,
  flags: CREATE_NEW,
  what: `create veth ${host}`,
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
  what: `attach link ${index} to bridge ${bridge}`,
});

export const setAlias = (index: number, alias: string): Request => ({
  type: RTM.SETLINK,
  flags: NLM.ACK,
  body: Buffer.concat([linkHeader(index), attribute(IFLA.IFALIAS, alias)]),
  what: `set the alias of link ${index}`,
});

/** Lets the bridge send a frame back through the port it came from. bridge(8), hairpin. */
export const setHairpin = (index: number): Request => ({
  type: RTM.SETLINK,
  flags: NLM.ACK,
  body: Buffer.concat([
    linkHeader(index, 0, 0, AF_BRIDGE),
    nested(IFLA.PROTINFO, attribute(IFLA_BRPORT_MODE, Buffer.from([1]))),
  ]),
  what: `set hairpin on link ${index}`,
});

/** Keeps a port of a bridge from reaching other isolated ports. bridge(8), isolated. */
export const setIsolated = (index: number): Request => ({
  type: RTM.SETLINK,
  flags: NLM.ACK,
  body: Buffer.concat([
    linkHeader(index, 0, 0, AF_BRIDGE),
    nested(IFLA.PROTINFO, attribute(IFLA_BRPORT_ISOLATED, Buffer.from([1]))),
  ]),
  what: `isolate link ${index}`,
});

const macBytes = (mac: string): Buffer => Buffer.from(mac.replaceAll(':', ''), 'hex');

// struct ifinfomsg
function linkHeader(index = 0, flags = 0, change = 0, family = 0): Buffer {
  const header = Buffer.alloc(16);
  header[0] = family;
  header.writeInt32LE(index, 4);
  header.writeUInt32LE(flags, 8);
  header.writeUInt32LE(change, 12);
  return header;
}

function parseLink(body: Buffer): Link {
  const found = attributes(body.subarray(16));
  const text = (value: Buffer | undefined): string => (value ? value.toString('utf8', 0, value.length - 1) : '');
  return {
    index: body.readInt32LE(4),
    up: (body.readUInt32LE(8) & IFF_UP) !== 0,
    name: text(found.get(IFLA.IFNAME)),
    master: found.get(IFLA.MASTER)?.readUInt32LE() ?? 0,
    mtu: found.get(IFLA.MTU)?.readUInt32LE() ?? 0,
    alias: text(found.get(IFLA.IFALIAS)),
    kind: text(attributes(found.get(IFLA.LINKINFO) ?? Buffer.alloc(0)).get(IFLA_INFO_KIND)),
    mac: (found.get(IFLA.ADDRESS)?.toString('hex').match(/../g) ?? []).join(':'),
  };
}
