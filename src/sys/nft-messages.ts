/** The messages of nf_tables by which tables are made, changed and deleted. linux/netfilter/nf_tables.h. */
import { attribute, nested, NLM, type Request } from './netlink.ts';
import {
  dataAttribute,
  hostNumber,
  numeric,
  setReference,
  TYPES,
  type AnonymousSet,
  type DataType,
  type Expression,
} from './nft-expressions.ts';
import { concatenation, type Rule } from './nft-rule.ts';

export const SUBSYSTEM = 10;
export const MESSAGE = {
  NEWTABLE: 0,
  GETTABLE: 1,
  DELTABLE: 2,
  NEWCHAIN: 3,
  GETCHAIN: 4,
  DELCHAIN: 5,
  NEWRULE: 6,
  GETRULE: 7,
  DELRULE: 8,
  NEWSET: 9,
  NEWSETELEM: 12,
  GETSETELEM: 13,
  DELSETELEM: 14,
  GETGEN: 16,
} as const;
export const TABLE = { NAME: 1, FLAGS: 2, USE: 3, HANDLE: 4 } as const;
export const CHAIN = { TABLE: 1, NAME: 3, HOOK: 4, POLICY: 5, TYPE: 7 } as const;
const HOOK = { HOOKNUM: 1, PRIORITY: 2 } as const;
const HOOKS = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 } as const;
/** The policy of a chain: accept. */
export const ACCEPT = 1;
export const RULE = { TABLE: 1, CHAIN: 2, EXPRESSIONS: 4 } as const;
const SET = {
  TABLE: 1,
  NAME: 2,
  FLAGS: 3,
  KEY_TYPE: 4,
  KEY_LEN: 5,
  DATA_TYPE: 6,
  DATA_LEN: 7,
  DESC: 9,
  ID: 10,
  USERDATA: 13,
} as const;
const SET_FLAGS = { ANONYMOUS: 1, CONSTANT: 2, INTERVAL: 4, MAP: 8 } as const;
const SET_DESC_SIZE = 1;
/** Begins the user data by which nft(8) knows the byte order of a set's elements. */
const USERDATA_KEY_ORDER = [0, 4];
export const ELEMENTS = { TABLE: 1, SET: 2, ELEMENTS: 3, SET_ID: 4 } as const;
export const ELEMENT = { KEY: 1, DATA: 2, FLAGS: 3 } as const;
const ELEMENT_INTERVAL_END = 1;
const LIST_ELEMENT = 1;
const EXPRESSION = { NAME: 1, DATA: 2 } as const;
/** The kernel gives such a set a name of its own. */
const ANONYMOUS_NAME = '__set%d';
const FAMILIES = { ip: 2, ip6: 10 } as const;
/** So many elements are in one message: the length of an attribute has 16 bits. */
const ELEMENTS_PER_MESSAGE = 500;

/** The IP family of a table. */
export type Family = keyof typeof FAMILIES;

export interface TableName {
  family: Family;
  table: string;
}

export interface Table extends TableName {
  sets: NamedSet[];
  chains: Chain[];
}

/** A set or, with a type of its values, a map. More than one type is a concatenation. */
export interface NamedSet {
  name: string;
  key: DataType[];
  value?: DataType[];
}

/** A chain that the kernel calls, with policy accept. */
export interface Chain {
  name: string;
  type: 'filter' | 'nat';
  hook: keyof typeof HOOKS;
  priority: number;
  rules: Rule[];
}

/** Names a map or set. */
export interface MapName extends TableName {
  map: string;
}

/**
 * An element of a map, in the kernel's encoding: each field of a concatenation is padded to 4 bytes. The elements of a
 * set have an empty value.
 */
export interface MapElement {
  key: Buffer;
  value: Buffer;
}

/** A message to nf_tables. */
export const message = (
  type: number,
  flags: number,
  what: string,
  family: Family | 'any',
  ...content: Buffer[]
): Request => ({
  type: (SUBSYSTEM << 8) | type,
  flags,
  body: Buffer.concat([Buffer.from([family === 'any' ? 0 : FAMILIES[family], 0, 0, 0]), ...content]),
  what,
});

const named = ({ family, table }: TableName): string => `table ${family} ${table}`;

/** Makes tables, or replaces the rules of those that exist. The elements of their maps and sets stay. */
export function declareTables(tables: Table[]): Request[] {
  let ids = 0;
  return tables.flatMap((table) => [
    createTable(table),
    ...table.sets.map((set) => createSet(table, set, ++ids)),
    ...table.chains.map((chain) => createChain(table, chain)),
    ...table.chains.map((chain) => flushChain(table, chain)),
    ...table.chains.flatMap((chain) => chain.rules.flatMap((rule) => addRule(table, chain, rule, () => ++ids))),
  ]);
}

/** Deletes a table, if there is one. */
export const deleteTable = (name: TableName): Request[] => [
  createTable(name),
  message(MESSAGE.DELTABLE, 0, `delete ${named(name)}`, name.family, attribute(TABLE.NAME, name.table)),
];

const createTable = (name: TableName): Request =>
  message(
    MESSAGE.NEWTABLE,
    NLM.CREATE,
    `create ${named(name)}`,
    name.family,
    attribute(TABLE.NAME, name.table),
    numeric(TABLE.FLAGS, 0),
  );

const createChain = (table: TableName, { name, type, hook, priority }: Chain): Request =>
  message(
    MESSAGE.NEWCHAIN,
    NLM.CREATE,
    `create chain ${name} in ${named(table)}`,
    table.family,
    attribute(CHAIN.TABLE, table.table),
    attribute(CHAIN.NAME, name),
    nested(CHAIN.HOOK, numeric(HOOK.HOOKNUM, HOOKS[hook]), numeric(HOOK.PRIORITY, priority)),
    numeric(CHAIN.POLICY, ACCEPT),
    attribute(CHAIN.TYPE, type),
  );

const flushChain = (table: TableName, { name }: Chain): Request =>
  message(
    MESSAGE.DELRULE,
    0,
    `flush chain ${name} of ${named(table)}`,
    table.family,
    attribute(RULE.TABLE, table.table),
    attribute(RULE.CHAIN, name),
  );

function createSet(table: TableName, { name, key, value }: NamedSet, id: number): Request {
  const [keys, values] = [concatenation(key), value && concatenation(value)];
  return message(
    MESSAGE.NEWSET,
    NLM.CREATE,
    `create ${values ? 'map' : 'set'} ${name} in ${named(table)}`,
    table.family,
    attribute(SET.TABLE, table.table),
    attribute(SET.NAME, name),
    numeric(SET.FLAGS, values ? SET_FLAGS.MAP : 0),
    numeric(SET.KEY_TYPE, keys.number),
    numeric(SET.KEY_LEN, keys.bytes),
    ...(values ? [numeric(SET.DATA_TYPE, values.number), numeric(SET.DATA_LEN, values.bytes)] : []),
    numeric(SET.ID, id),
  );
}

function addRule(table: TableName, chain: Chain, rule: Rule, nextId: () => number): Request[] {
  const where = `to chain ${chain.name} of ${named(table)}`;
  const sets: Request[] = [];
  const list = rule.expressions.map(({ name, attributes, set }) => {
    if (!set) return encoded({ name, attributes });
    const id = nextId();
    sets.push(...createAnonymousSet(table, set, id, `add a set of rule \`${rule.text}\` ${where}`));
    return encoded({ name, attributes: [...attributes, ...setReference(ANONYMOUS_NAME, id)] });
  });
  return [
    ...sets,
    message(
      MESSAGE.NEWRULE,
      NLM.CREATE | NLM.APPEND,
      `add rule \`${rule.text}\` ${where}`,
      table.family,
      attribute(RULE.TABLE, table.table),
      attribute(RULE.CHAIN, chain.name),
      nested(RULE.EXPRESSIONS, ...list),
    ),
  ];
}

const encoded = ({ name, attributes }: Expression): Buffer =>
  nested(LIST_ELEMENT, attribute(EXPRESSION.NAME, name), nested(EXPRESSION.DATA, ...attributes));

function createAnonymousSet({ family, table }: TableName, set: AnonymousSet, id: number, what: string): Request[] {
  const { number, bytes, order } = TYPES[set.type];
  const flags = SET_FLAGS.ANONYMOUS | SET_FLAGS.CONSTANT | (set.hasIntervals ? SET_FLAGS.INTERVAL : 0);
  const elements = set.elements.map(({ key, isEnd }) =>
    nested(
      LIST_ELEMENT,
      ...(isEnd ? [numeric(ELEMENT.FLAGS, ELEMENT_INTERVAL_END)] : []),
      dataAttribute(ELEMENT.KEY, key),
    ),
  );
  return [
    message(
      MESSAGE.NEWSET,
      NLM.CREATE,
      what,
      family,
      attribute(SET.TABLE, table),
      attribute(SET.NAME, ANONYMOUS_NAME),
      numeric(SET.FLAGS, flags),
      numeric(SET.KEY_TYPE, number),
      numeric(SET.KEY_LEN, bytes),
      nested(SET.DESC, numeric(SET_DESC_SIZE, elements.length)),
      numeric(SET.ID, id),
      attribute(SET.USERDATA, Buffer.concat([Buffer.from(USERDATA_KEY_ORDER), hostNumber(order)])),
    ),
    message(
      MESSAGE.NEWSETELEM,
      NLM.CREATE,
      what,
      family,
      attribute(ELEMENTS.TABLE, table),
      attribute(ELEMENTS.SET, ANONYMOUS_NAME),
      numeric(ELEMENTS.SET_ID, id),
      nested(ELEMENTS.ELEMENTS, ...elements),
    ),
  ];
}

/** Adds elements to a map; one that exists with the same value is not an error. */
export const putElements = (name: MapName, elements: MapElement[]): Request[] =>
  changeElements(MESSAGE.NEWSETELEM, NLM.CREATE, `put into map ${name.map} of ${named(name)}`, name, elements);

/** Deletes elements from a map; fails with ENOENT when one is missing. */
export const dropElements = (name: MapName, elements: MapElement[]): Request[] =>
  changeElements(
    MESSAGE.DELSETELEM,
    0,
    `drop from map ${name.map} of ${named(name)}`,
    name,
    elements.map(({ key }) => ({ key, value: Buffer.alloc(0) })),
  );

function changeElements(type: number, flags: number, what: string, name: MapName, elements: MapElement[]): Request[] {
  const requests: Request[] = [];
  for (let at = 0; at < elements.length; at += ELEMENTS_PER_MESSAGE) {
    const list = elements
      .slice(at, at + ELEMENTS_PER_MESSAGE)
      .map(({ key, value }) =>
        nested(
          LIST_ELEMENT,
          dataAttribute(ELEMENT.KEY, key),
          ...(value.length > 0 ? [dataAttribute(ELEMENT.DATA, value)] : []),
        ),
      );
    requests.push(message(type, flags, what, name.family, ...elementsOf(name), nested(ELEMENTS.ELEMENTS, ...list)));
  }
  return requests;
}

/** The attributes that name a map whose elements are listed or changed. */
export const elementsOf = ({ table, map }: MapName): Buffer[] => [
  attribute(ELEMENTS.TABLE, table),
  attribute(ELEMENTS.SET, map),
];
