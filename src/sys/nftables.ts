/** nf_tables over netlink: transactions, and what is in the kernel. linux/netfilter/nfnetlink.h, nf_tables.h. */
import { createHash } from 'node:crypto';
import { Errno } from './libc.ts';
import {
  attribute,
  attributeList,
  attributes,
  Netlink,
  NETLINK_NETFILTER,
  NLM,
  type Reply,
  type Request,
} from './netlink.ts';
import {
  ACCEPT,
  CHAIN,
  declareTables,
  ELEMENT,
  ELEMENTS,
  elementsOf,
  MESSAGE,
  message,
  RULE,
  SUBSYSTEM,
  TABLE,
  type MapElement,
  type MapName,
  type Table,
  type TableName,
} from './nft-messages.ts';

const BATCH_BEGIN = 16;
const BATCH_END = 17;
const GEN_ID = 1;
const DATA_VALUE = 1;
/** Do not delete what is in it: fail. */
const NLM_F_NONREC = 0x100;
/** struct nfgenmsg; its last two bytes are the generation of the rules. */
const GENMSG_BYTES = 4;

/** What an error means. ENOENT: each table is made in the same transaction as what is put into it. */
const HINTS: Partial<Record<string, string>> = {
  EPERM: 'that needs CAP_NET_ADMIN',
  ENOENT: 'the kernel lacks a module of nf_tables that this needs',
  EOPNOTSUPP: 'the kernel lacks nf_tables, or a part of it',
  EPROTONOSUPPORT: 'the kernel lacks nfnetlink',
};

/** A socket for the functions of this file. @throws Errno */
export const openNftables = (): Netlink => explained(() => Netlink.open(NETLINK_NETFILTER));

/**
 * Makes changes take effect together, or not at all.
 *
 * Only the last change is acknowledged, so that the acknowledgements of a long transaction do not overflow the receive
 * buffer. The kernel reports each change that fails anyhow, in their order, and then applies none; what fails as a
 * whole it reports for the first message. Other programs' transactions do not interfere: the kernel executes one after
 * the other, and none of ours depends on what was read before.
 *
 * @throws Errno of the first change that failed
 */
export function commit(socket: Netlink, changes: Request[]): void {
  if (changes.length > 0) socket.run(transaction(changes));
}

/**
 * Makes tables or replaces their rules, in one transaction with other changes. Rules for hundreds of bridges take the
 * kernel longer than the event loop can wait, so it works in a thread of the pool.
 * @param socket is used for nothing else meanwhile
 * @throws Errno with a hint
 */
export async function commitTables(socket: Netlink, tables: Table[], others: Request[] = []): Promise<void> {
  try {
    await socket.runAsync(transaction([...others, ...declareTables(tables)]));
  } catch (error) {
    throw explanation(error);
  }
}

/** Lets the kernel check the tables without making them: a transaction without an end is discarded. @throws Errno */
export const tryTables = (socket: Netlink, tables: Table[]): void =>
  explained(() => socket.run(opened(declareTables(tables))));

const transaction = (changes: Request[]): Request[] => [
  ...opened(changes),
  batchMessage(BATCH_END, 'nf_tables transaction'),
];

const opened = (changes: Request[]): Request[] => [
  batchMessage(BATCH_BEGIN, changes[0]!.what),
  ...changes.slice(0, -1),
  ...changes.slice(-1).map((last) => ({ ...last, flags: last.flags | NLM.ACK })),
];

const batchMessage = (type: number, what: string): Request => ({
  type,
  flags: 0,
  body: Buffer.from([0, 0, SUBSYSTEM >> 8, SUBSYSTEM & 0xff]),
  what,
});

function explained<T>(work: () => T, hints = HINTS): T {
  try {
    return work();
  } catch (error) {
    throw explanation(error, hints);
  }
}

function explanation(error: unknown, hints = HINTS): unknown {
  const hint = error instanceof Errno ? hints[error.code] : undefined;
  if (hint !== undefined) (error as Errno).message += `: ${hint}`;
  return error;
}

/** The generation of the rules in this network namespace: counts up with every change by any process. */
export function generation(socket: Netlink): number {
  const request = message(MESSAGE.GETGEN, NLM.ACK, 'read the generation of nf_tables', 'any');
  const [reply] = explained(() => socket.query(request), { ...HINTS, EINVAL: 'the kernel lacks nf_tables' });
  return reply ? contentOf(reply).get(GEN_ID)!.readUInt32BE() : 0;
}

/** Whether there is such a table. */
export const hasTable = (socket: Netlink, name: TableName): boolean => findTable(socket, name) !== undefined;

/**
 * A digest of a table as it is: its handle, its chains and their hooks, and their rules, but not the elements of maps.
 * undefined when the table or one of these chains is missing.
 */
export function fingerprint(socket: Netlink, { family, table, chains }: Table): string | undefined {
  const found = [
    findTable(socket, { family, table }),
    ...chains.map(({ name }) =>
      find(socket, MESSAGE.GETCHAIN, `find chain ${name}`, family, [
        attribute(CHAIN.TABLE, table),
        attribute(CHAIN.NAME, name),
      ]),
    ),
  ];
  const hash = createHash('sha256');
  for (const reply of found) {
    if (!reply) return undefined;
    hash.update(reply.body.subarray(GENMSG_BYTES));
  }
  for (const { body } of rulesOf(socket, { family, table })) hash.update(body.subarray(GENMSG_BYTES));
  return hash.digest('hex');
}

/** The elements of a map. @throws Errno ENOENT */
export function mapElements(socket: Netlink, name: MapName): MapElement[] {
  const { map, family } = name;
  const request = message(MESSAGE.GETSETELEM, NLM.DUMP, `list map ${map}`, family, ...elementsOf(name));
  return socket.query(request).flatMap((reply) => {
    const list = contentOf(reply).get(ELEMENTS.ELEMENTS);
    return list
      ? attributeList(list).map(([, element]) => ({
          key: dataOf(element, ELEMENT.KEY),
          value: dataOf(element, ELEMENT.DATA),
        }))
      : [];
  });
}

/** Deletes a table that contains nothing but empty chains with policy accept. Leaves any other alone. @throws Errno */
export function deleteUnusedTable(socket: Netlink, name: TableName): void {
  const { family, table } = name;
  const found = findTable(socket, name);
  if (!found) return;
  const chains = socket
    .query(message(MESSAGE.GETCHAIN, NLM.DUMP, 'list chains', family))
    .map(contentOf)
    .filter((chain) => textOf(chain.get(CHAIN.TABLE)) === table);
  const isUnused =
    contentOf(found).get(TABLE.USE)?.readUInt32BE() === chains.length &&
    chains.every((chain) => chain.get(CHAIN.POLICY)?.readUInt32BE() === ACCEPT) &&
    rulesOf(socket, name).length === 0;
  if (!isUnused) return;
  const nameOf = attribute(CHAIN.TABLE, table);
  // With this flag the transaction fails when a chain has got a rule meanwhile.
  commit(socket, [
    ...chains.map((chain) => {
      const chainName = textOf(chain.get(CHAIN.NAME));
      const content = [nameOf, attribute(CHAIN.NAME, chainName)];
      return message(MESSAGE.DELCHAIN, NLM_F_NONREC, `delete chain ${chainName}`, family, ...content);
    }),
    message(MESSAGE.DELTABLE, NLM_F_NONREC, `delete table ${table}`, family, attribute(TABLE.NAME, table)),
  ]);
}

const findTable = (socket: Netlink, { family, table }: TableName): Reply | undefined =>
  find(socket, MESSAGE.GETTABLE, `find table ${table}`, family, [attribute(TABLE.NAME, table)]);

const rulesOf = (socket: Netlink, { family, table }: TableName): Reply[] =>
  socket.query(message(MESSAGE.GETRULE, NLM.DUMP, `list rules of ${table}`, family, attribute(RULE.TABLE, table)));

function find(
  socket: Netlink,
  type: number,
  what: string,
  family: TableName['family'],
  names: Buffer[],
): Reply | undefined {
  try {
    return socket.query(message(type, NLM.ACK, what, family, ...names))[0];
  } catch (error) {
    if (error instanceof Errno && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

const contentOf = ({ body }: Reply): Map<number, Buffer> => attributes(body.subarray(GENMSG_BYTES));
const textOf = (value: Buffer | undefined): string => (value ? value.toString('utf8', 0, value.length - 1) : '');

function dataOf(element: Buffer, part: number): Buffer {
  const data = attributes(element).get(part);
  return data ? Buffer.from(attributes(data).get(DATA_VALUE) ?? []) : Buffer.alloc(0);
}
