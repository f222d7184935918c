/** nf_tables over netlink, for changes too frequent to spawn nft(8). linux/netfilter/nf_tables.h. */
import { attribute, attributeList, attributes, nested, type Netlink, NLM, type Request } from './netlink.ts';
import { Errno } from './libc.ts';

const SUBSYSTEM = 10;
const BATCH_BEGIN = 16;
const BATCH_END = 17;
const NFT = { GETTABLE: 1, GETRULE: 7, NEWSETELEM: 12, GETSETELEM: 13, DELSETELEM: 14, GETGEN: 16 } as const;
const NFTA_TABLE_NAME = 1;
const NFTA_TABLE_HANDLE = 4;
const NFTA_RULE_TABLE = 1;
const NFTA_GEN_ID = 1;
const NFTA_SET_ELEM_LIST = { TABLE: 1, SET: 2, ELEMENTS: 3 } as const;
const NFTA_LIST_ELEM = 1;
const NFTA_SET_ELEM_KEY = 1;
const NFTA_SET_ELEM_DATA = 2;
const NFTA_DATA_VALUE = 1;
const NFPROTO_IPV4 = 2;
const NFPROTO_IPV6 = 10;
const FAMILIES = { ip: NFPROTO_IPV4, ip6: NFPROTO_IPV6 } as const;

/** The IP family of a table. */
export type Family = keyof typeof FAMILIES;

const NFPROTO_UNSPEC = 0;

/**
 * An element of a map, in the kernel's encoding: each field of a concatenation is padded to 4 bytes. The elements of a
 * set have an empty value.
 */
export interface MapElement {
  key: Buffer;
  value: Buffer;
}

/** Names a map or set. */
export interface MapName {
  family: Family;
  table: string;
  map: string;
}

/** The generation of the rules in this network namespace: counts up with every change by any process. */
export function generation(socket: Netlink): number {
  const [reply] = socket.query(message(NFT.GETGEN, NLM.ACK, 'read the generation', NFPROTO_UNSPEC));
  return reply ? attributes(reply.body.subarray(4)).get(NFTA_GEN_ID)!.readUInt32BE() : 0;
}

/** The handle of a table, which changes when the table is deleted and recreated; undefined when there is none. */
export function tableHandle(socket: Netlink, table: string, family: Family = 'ip'): string | undefined {
  try {
    const [reply] = socket.query(
      message(NFT.GETTABLE, NLM.ACK, `find table ${table}`, FAMILIES[family], attribute(NFTA_TABLE_NAME, table)),
    );
    return reply && attributes(reply.body.subarray(4)).get(NFTA_TABLE_HANDLE)?.toString('hex');
  } catch (error) {
    if (error instanceof Errno && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

/** The number of rules in a table. */
export const countRules = (socket: Netlink, table: string, family: Family = 'ip'): number =>
  socket.query(
    message(NFT.GETRULE, NLM.DUMP, `list rules of ${table}`, FAMILIES[family], attribute(NFTA_RULE_TABLE, table)),
  ).length;

/** The elements of a map. @throws Errno ENOENT */
export function mapElements(socket: Netlink, name: MapName): MapElement[] {
  const replies = socket.query(
    message(NFT.GETSETELEM, NLM.DUMP, `list map ${name.map}`, FAMILIES[name.family], ...nameAttributes(name)),
  );
  return replies.flatMap(({ body }) => {
    const list = attributes(body.subarray(4)).get(NFTA_SET_ELEM_LIST.ELEMENTS);
    return list
      ? attributeList(list).map(([, element]) => ({
          key: dataOf(element, NFTA_SET_ELEM_KEY),
          value: dataOf(element, NFTA_SET_ELEM_DATA),
        }))
      : [];
  });
}

/** Adds elements to a map; one that exists with the same value is not an error. */
export const putElements = (name: MapName, elements: MapElement[]): Request =>
  message(
    NFT.NEWSETELEM,
    NLM.ACK | NLM.CREATE,
    `put into map ${name.map}`,
    FAMILIES[name.family],
    elementList(name, elements, ({ key, value }) => [
      nested(NFTA_SET_ELEM_KEY, attribute(NFTA_DATA_VALUE, key)),
      ...(value.length > 0 ? [nested(NFTA_SET_ELEM_DATA, attribute(NFTA_DATA_VALUE, value))] : []),
    ]),
  );

/** Deletes elements from a map; fails with ENOENT when one is missing. */
export const dropElements = (name: MapName, elements: MapElement[]): Request =>
  message(
    NFT.DELSETELEM,
    NLM.ACK,
    `drop from map ${name.map}`,
    FAMILIES[name.family],
    elementList(name, elements, ({ key }) => [nested(NFTA_SET_ELEM_KEY, attribute(NFTA_DATA_VALUE, key))]),
  );

/** Makes changes take effect together, or not at all. */
export const transaction = (changes: Request[]): Request[] => [
  batchMessage(BATCH_BEGIN),
  ...changes,
  batchMessage(BATCH_END),
];

const batchMessage = (type: number): Request => ({
  type,
  flags: 0,
  body: Buffer.from([0, 0, SUBSYSTEM >> 8, SUBSYSTEM & 0xff]),
  what: 'nf_tables transaction',
});

const message = (type: number, flags: number, what: string, family: number, ...content: Buffer[]): Request => ({
  type: (SUBSYSTEM << 8) | type,
  flags,
  body: Buffer.concat([Buffer.from([family, 0, 0, 0]), ...content]),
  what,
});

const nameAttributes = ({ table, map }: MapName): Buffer[] => [
  attribute(NFTA_SET_ELEM_LIST.TABLE, table),
  attribute(NFTA_SET_ELEM_LIST.SET, map),
];

const elementList = (name: MapName, elements: MapElement[], content: (element: MapElement) => Buffer[]): Buffer =>
  Buffer.concat([
    ...nameAttributes(name),
    nested(NFTA_SET_ELEM_LIST.ELEMENTS, ...elements.map((element) => nested(NFTA_LIST_ELEM, ...content(element)))),
  ]);

function dataOf(element: Buffer, part: number): Buffer {
  const data = attributes(element).get(part);
  return data ? Buffer.from(attributes(data).get(NFTA_DATA_VALUE) ?? []) : Buffer.alloc(0);
}
