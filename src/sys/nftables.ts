/** nf_tables by netlink: what changes too often to spawn nft(8) for it. linux/netfilter/nf_tables.h. */
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

/** Of a table: what packets it sees. */
export type Family = keyof typeof FAMILIES;

const NFPROTO_UNSPEC = 0;

/**
 * An entry of a map: key and value as the kernel holds them, each field of a concatenation padded to 4 bytes. One of a
 * set has no value.
 */
export interface MapElement {
  key: Buffer;
  value: Buffer;
}

/** A map, or a set, of a table. */
export interface MapPlace {
  family: Family;
  table: string;
  map: string;
}

/** Counts up with each change that anybody makes to the rules of this network namespace. */
export function generation(socket: Netlink): number {
  const [reply] = socket.ask(message(NFT.GETGEN, NLM.ACK, 'read the generation', NFPROTO_UNSPEC));
  return reply ? attributes(reply.body.subarray(4)).get(NFTA_GEN_ID)!.readUInt32BE() : 0;
}

/** Identity of a table, new each time that one of this name is made; undefined when there is none. */
export function tableHandle(socket: Netlink, table: string, family: Family = 'ip'): string | undefined {
  try {
    const [reply] = socket.ask(
      message(NFT.GETTABLE, NLM.ACK, `find table ${table}`, FAMILIES[family], attribute(NFTA_TABLE_NAME, table)),
    );
    return reply && attributes(reply.body.subarray(4)).get(NFTA_TABLE_HANDLE)?.toString('hex');
  } catch (error) {
    if (error instanceof Errno && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Number of rules in a table. */
export const countRules = (socket: Netlink, table: string, family: Family = 'ip'): number =>
  socket.ask(
    message(NFT.GETRULE, NLM.DUMP, `list rules of ${table}`, FAMILIES[family], attribute(NFTA_RULE_TABLE, table)),
  ).length;

/** The entries of a map. @throws Errno ENOENT */
export function mapElements(socket: Netlink, place: MapPlace): MapElement[] {
  const replies = socket.ask(
    message(NFT.GETSETELEM, NLM.DUMP, `list map ${place.map}`, FAMILIES[place.family], ...named(place)),
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

/** Puts entries into a map; one that is there already with the same value is no fault. */
export const putElements = (place: MapPlace, elements: MapElement[]): Request =>
  message(
    NFT.NEWSETELEM,
    NLM.ACK | NLM.CREATE,
    `put into map ${place.map}`,
    FAMILIES[place.family],
    elementList(place, elements, ({ key, value }) => [
      nested(NFTA_SET_ELEM_KEY, attribute(NFTA_DATA_VALUE, key)),
      ...(value.length > 0 ? [nested(NFTA_SET_ELEM_DATA, attribute(NFTA_DATA_VALUE, value))] : []),
    ]),
  );

/** Takes entries out of a map. In the kernel ENOENT when one is not there. */
export const dropElements = (place: MapPlace, elements: MapElement[]): Request =>
  message(
    NFT.DELSETELEM,
    NLM.ACK,
    `drop from map ${place.map}`,
    FAMILIES[place.family],
    elementList(place, elements, ({ key }) => [nested(NFTA_SET_ELEM_KEY, attribute(NFTA_DATA_VALUE, key))]),
  );

/** Makes changes take effect together, or not at all. */
export const transaction = (changes: Request[]): Request[] => [edge(BATCH_BEGIN), ...changes, edge(BATCH_END)];

const edge = (type: number): Request => ({
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

const named = ({ table, map }: MapPlace): Buffer[] => [
  attribute(NFTA_SET_ELEM_LIST.TABLE, table),
  attribute(NFTA_SET_ELEM_LIST.SET, map),
];

const elementList = (place: MapPlace, elements: MapElement[], content: (element: MapElement) => Buffer[]): Buffer =>
  Buffer.concat([
    ...named(place),
    nested(NFTA_SET_ELEM_LIST.ELEMENTS, ...elements.map((element) => nested(NFTA_LIST_ELEM, ...content(element)))),
  ]);

function dataOf(element: Buffer, part: number): Buffer {
  const data = attributes(element).get(part);
  return data ? Buffer.from(attributes(data).get(NFTA_DATA_VALUE) ?? []) : Buffer.alloc(0);
}
