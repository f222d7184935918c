/** Resolves a process's user and groups in the container's passwd and group files. passwd(5), group(5) */
import { readInRoot } from '../../sys/inroot.ts';

/** An unknown name or an id out of range. The caller decides which HTTP status that is. */
export class UnknownUser extends Error {}

export interface User {
  uid: number;
  gid: number;
  /** Starts with `gid`, so that a process cannot escape a negative group permission (CVE-2022-36109). */
  additionalGids: number[];
  home: string;
}

interface Account {
  name: string;
  uid: number;
  gid: number;
  home: string;
}
const MAX_ID = 2 ** 31 - 1;
/** Larger than any real passwd file. The container controls its size; what is beyond is not read. */
const MAX_BYTES = 1 << 20;
const COLON = 0x3a;
const NEWLINE = 0x0a;
const SPACE = 0x20;

/**
 * @param user `''`, `user`, `uid`, `user:group`, `uid:gid` …
 * @param groupAdd names or ids of additional groups
 * @throws UnknownUser `unable to find user x: no matching entries in passwd file`
 */
export function lookUpUser(rootfs: string, user: string, groupAdd: readonly string[]): User {
  const [userPart, groupPart = ''] = splitOnce(user);
  const groups = read(rootfs, '/etc/group');
  const byId = userPart === '' || isNumber(userPart);
  const account = findAccount(read(rootfs, '/etc/passwd'), userPart, byId);
  if (!account && !byId) throw new UnknownUser(`unable to find user ${userPart}: no matching entries in passwd file`);
  const uid = account?.uid ?? inRange(Number(userPart));
  const gid = groupPart ? lookUpGroup(groups, groupPart) : (account?.gid ?? 0);
  // A group in `user` replaces the user's supplementary groups.
  const supplementary = groupPart || !account ? [] : gidsWithMember(groups, account.name);
  const added = groupAdd.map((name) => lookUpGroup(groups, name));
  return { uid, gid, additionalGids: [...new Set([gid, ...supplementary, ...added])], home: account?.home || '/' };
}

function findAccount(passwd: Buffer, user: string, byId: boolean): Account | undefined {
  let account: Account | undefined;
  scan(passwd, byId ? withId(Number(user)) : withName(user), ([name = '', , id = '', gid = '', , home = '']) => {
    const uid = Number(id);
    if (byId ? uid === Number(user) : name === user) account = { name, uid, gid: Number(gid), home };
    return account !== undefined;
  });
  return account;
}

function lookUpGroup(groups: Buffer, wanted: string): number {
  const byId = isNumber(wanted);
  let found: number | undefined;
  scan(groups, byId ? withId(Number(wanted)) : withName(wanted), ([name = '', , id = '']) => {
    const gid = Number(id);
    if (byId ? gid === Number(wanted) : name === wanted) found = gid;
    return found !== undefined;
  });
  if (found !== undefined) return found;
  if (!byId) throw new UnknownUser(`unable to find group ${wanted}: no matching entries in group file`);
  return inRange(Number(wanted));
}

function gidsWithMember(groups: Buffer, user: string): number[] {
  const gids: number[] = [];
  scan(groups, withMember(groups, user), ([, , gid = '', members = '']) => {
    if (members.split(',').some((member) => member.trim() === user)) gids.push(Number(gid));
    return false;
  });
  return gids;
}

function inRange(id: number): number {
  if (id < 0 || id > MAX_ID) throw new UnknownUser(`uids and gids must be in range 0-${MAX_ID}`);
  return id;
}

/** The file's complete lines, within the limit; empty when there is no such file. */
function read(rootfs: string, path: string): Buffer {
  const bytes = readInRoot(rootfs, path, MAX_BYTES + 1) ?? Buffer.alloc(0);
  return bytes.length > MAX_BYTES ? bytes.subarray(0, bytes.lastIndexOf(NEWLINE, MAX_BYTES) + 1) : bytes;
}

/** A line of a file: where it starts and ends, and the first three colons in it; the last may be missing: `end`. */
interface Line {
  start: number;
  end: number;
  colons: [number, number, number];
}
/** Whether a line may be one that is wanted: a cheap look, as there can be a hundred thousand lines. */
type Filter = (bytes: Buffer, line: Line) => boolean;

/**
 * Calls `visit` with the fields of the valid lines (those with an id in the third field) that pass the filter, until it
 * returns true.
 */
function scan(bytes: Buffer, filter: Filter, visit: (fields: string[]) => boolean): void {
  const line: Line = { start: 0, end: 0, colons: [0, 0, 0] };
  let colons = 0;
  for (let at = 0; at <= bytes.length; at++) {
    const byte = at < bytes.length ? bytes[at] : NEWLINE;
    if (byte === COLON && colons < 3) line.colons[colons++] = at;
    if (byte !== NEWLINE) continue;
    line.end = at;
    if (colons === 2) line.colons[2] = at;
    if (colons >= 2 && filter(bytes, line)) {
      const text = bytes.toString('utf8', line.start, line.end).trim();
      const fields = text.startsWith('#') ? [] : text.split(':', 6);
      if (isNumber(fields[2] ?? '') && visit(fields)) return;
    }
    line.start = at + 1;
    colons = 0;
  }
}

/** The first field ends with the name. */
function withName(name: string): Filter {
  const wanted = Buffer.from(name);
  return (bytes, { start, colons }) => endsWith(bytes, start, colons[0], wanted);
}

/** The third field ends with the digits. */
function withId(id: number): Filter {
  const digits = Buffer.from(String(Math.abs(id)));
  return (bytes, { colons: [, before, after] }) => {
    let end = after;
    while (end > before && bytes[end - 1]! <= SPACE) end--;
    return endsWith(bytes, before + 1, end, digits);
  };
}

/** The name is somewhere in the fourth field. For one scan. */
function withMember(file: Buffer, name: string): Filter {
  const wanted = Buffer.from(name);
  let next = -1;
  return (_, { end, colons }) => {
    if (next < colons[2]) next = file.indexOf(wanted, colons[2]);
    if (next < 0) next = Infinity;
    return next < end;
  };
}

function endsWith(bytes: Buffer, start: number, end: number, wanted: Buffer): boolean {
  const from = end - wanted.length;
  if (from < start) return false;
  for (let i = 0; i < wanted.length; i++) if (bytes[from + i] !== wanted[i]) return false;
  return true;
}

/** Go's strconv.Atoi, which accepts signs: negative ids are out of range, not names. */
const isNumber = (word: string): boolean => /^[+-]?\d+$/.test(word);

function splitOnce(user: string): [string, string?] {
  const colon = user.indexOf(':');
  return colon < 0 ? [user] : [user.slice(0, colon), user.slice(colon + 1)];
}
