/** The kernel's connection tracking table. linux/netfilter/nfnetlink_conntrack.h. */
import { attributes, nested, Netlink, NETLINK_NETFILTER, NLM } from './netlink.ts';
import { Errno } from './libc.ts';

const SUBSYSTEM = 1;
const IPCTNL_MSG_CT_GET = 1;
const IPCTNL_MSG_CT_DELETE = 2;
const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_PROTO_NUM = 1;
const CTA_PROTO_DST_PORT = 3;
const AF_INET = 2;
const PROTOCOLS = { tcp: 6, udp: 17 } as const;

/**
 * Deletes the IPv4 flows whose original destination is one of these ports, so that their next packet passes the NAT
 * rules again. Returns how many there were.
 */
export function deleteFlows(protocol: keyof typeof PROTOCOLS, ports: ReadonlySet<number>): number {
  const socket = Netlink.open(NETLINK_NETFILTER);
  try {
    const flows = socket
      .query({ type: (SUBSYSTEM << 8) | IPCTNL_MSG_CT_GET, flags: NLM.DUMP, body: header(), what: 'list flows' })
      .map(({ body }) => attributes(body.subarray(4)).get(CTA_TUPLE_ORIG))
      .filter((tuple): tuple is Buffer => tuple !== undefined && matches(tuple, PROTOCOLS[protocol], ports));
    for (const tuple of flows) deleteFlow(socket, tuple);
    return flows.length;
  } finally {
    socket.close();
  }
}

function matches(tuple: Buffer, protocol: number, ports: ReadonlySet<number>): boolean {
  const found = attributes(attributes(tuple).get(CTA_TUPLE_PROTO) ?? Buffer.alloc(0));
  return found.get(CTA_PROTO_NUM)?.[0] === protocol && ports.has(found.get(CTA_PROTO_DST_PORT)?.readUInt16BE() ?? 0);
}

function deleteFlow(socket: Netlink, tuple: Buffer): void {
  try {
    socket.run([
      {
        type: (SUBSYSTEM << 8) | IPCTNL_MSG_CT_DELETE,
        flags: NLM.ACK,
        body: Buffer.concat([header(), nested(CTA_TUPLE_ORIG, tuple)]),
        what: 'delete a flow',
      },
    ]);
  } catch (error) {
    if (!(error instanceof Errno && error.code === 'ENOENT')) throw error;
  }
}

const header = (): Buffer => Buffer.from([AF_INET, 0, 0, 0]);
