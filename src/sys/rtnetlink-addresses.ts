/** IP addresses and routes over rtnetlink. rtnetlink(7). */
import { addressBytes, addressText } from './inet.ts';
import { attribute, attributes, CREATE_NEW, NLM, type Netlink, type Request } from './netlink.ts';

const RTM = { NEWADDR: 20, DELADDR: 21, GETADDR: 22, NEWROUTE: 24, DELROUTE: 25, GETROUTE: 26 } as const;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_BROADCAST = 4;
/**
 * Without duplicate address detection an IPv6 address can be used at once. It would be in vain on our bridges: this
 * daemon gives out all of their addresses.
 */
const IFA_F_NODAD = 2;
const RTA_DST = 1;
const RTA_GATEWAY = 5;
const AF_INET = 2;
const AF_INET6 = 10;
const RT_TABLE_MAIN = 254;
const RTPROT_BOOT = 3;
const RT_SCOPE_UNIVERSE = 0;
const RT_SCOPE_LINK = 253;
const RTN_UNICAST = 1;

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
    flags: CREATE_NEW,
    body: Buffer.concat([addressHeader(index, prefix, family), ...parts]),
    what: `add ${cidr} to link ${index}`,
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
    what: `delete ${cidr} from link ${index}`,
  };
}

/** The addresses of a link in CIDR notation, without the link-local ones that the kernel assigns. */
export function addressesOf(socket: Netlink, index: number): string[] {
  const replies = socket.query({ type: RTM.GETADDR, flags: NLM.DUMP, body: Buffer.alloc(8), what: 'list addresses' });
  return replies
    .filter(({ body }) => body.readUInt32LE(4) === index && body[3] !== RT_SCOPE_LINK)
    .flatMap(({ body }) => {
      const found = attributes(body.subarray(8));
      const address = found.get(IFA_LOCAL) ?? found.get(IFA_ADDRESS);
      return address && [AF_INET, AF_INET6].includes(body[0]!) ? [`${addressText(address)}/${body[1]}`] : [];
    });
}

/** Sets or replaces the default route of the gateway's family. */
export const setDefaultRoute = (gateway: string): Request => ({
  type: RTM.NEWROUTE,
  flags: NLM.ACK | NLM.CREATE | NLM.REPLACE,
  what: `set the default route via ${gateway}`,
  body: Buffer.concat([routeHeader(familyOf(gateway)), attribute(RTA_GATEWAY, addressBytes(gateway))]),
});

/** Fails with ESRCH when there is none. */
export const deleteDefaultRoute = (gateway: string): Request => ({
  type: RTM.DELROUTE,
  flags: NLM.ACK,
  what: `delete the default route via ${gateway}`,
  body: Buffer.concat([routeHeader(familyOf(gateway)), attribute(RTA_GATEWAY, addressBytes(gateway))]),
});

/** The destinations of this network namespace's unicast routes in CIDR notation, without default routes. */
export function destinations(socket: Netlink): string[] {
  return [AF_INET, AF_INET6].flatMap((family) => {
    const replies = socket.query({
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

const familyOf = (address: string): number => (address.includes(':') ? AF_INET6 : AF_INET);

function split(cidr: string): { address: Buffer; prefix: number; family: number } {
  const [address, prefix] = cidr.split('/');
  return { address: addressBytes(address!), prefix: Number(prefix), family: familyOf(address!) };
}

// struct rtmsg
const routeHeader = (family: number): Buffer =>
  Buffer.from([family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0, 0, 0, 0]);

// struct ifaddrmsg
function addressHeader(index: number, prefix: number, family: number): Buffer {
  const header = Buffer.alloc(8);
  header[0] = family;
  header[1] = prefix;
  header[2] = family === AF_INET6 ? IFA_F_NODAD : 0;
  header.writeUInt32LE(index, 4);
  return header;
}
