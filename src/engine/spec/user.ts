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
interface Group {
  name: string;
  gid: number;
  members: string[];
}

const MAX_ID = 2 ** 31 - 1;
/** Larger than any real passwd file; the container controls its size. */
const MAX_BYTES = 4 << 20;

/**
 * @param user `''`, `user`, `uid`, `user:group`, `uid:gid` …
 * @param groupAdd names or ids of additional groups
 * @throws UnknownUser `unable to find user x: no matching entries in passwd file`
 */
export function lookUpUser(rootfs: string, user: string, groupAdd: readonly string[]): User {
  const [userPart, groupPart = ''] = splitOnce(user);
  const groups = readGroups(rootfs);
  const byId = userPart === '' || isNumber(userPart);
  const account = readAccounts(rootfs).find(({ uid, name }) => (byId ? uid === Number(userPart) : name === userPart));
  if (!account && !byId) throw new UnknownUser(`unable to find user ${userPart}: no matching entries in passwd file`);
  const uid = account?.uid ?? inRange(Number(userPart));
  const gid = groupPart ? lookUpGroup(groups, groupPart) : (account?.gid ?? 0);
  // A group in `user` replaces the user's supplementary groups.
  const supplementary =
    groupPart || !account
      ? []
      : groups.filter((group) => group.members.includes(account.name)).map((group) => group.gid);
  const added = groupAdd.map((name) => lookUpGroup(groups, name));
  return { uid, gid, additionalGids: [...new Set([gid, ...supplementary, ...added])], home: account?.home || '/' };
}

function lookUpGroup(groups: Group[], name: string): number {
  const found = groups.find((group) => (isNumber(name) ? group.gid === Number(name) : group.name === name));
  if (found) return found.gid;
  if (!isNumber(name)) throw new UnknownUser(`unable to find group ${name}: no matching entries in group file`);
  return inRange(Number(name));
}

function inRange(id: number): number {
  if (id < 0 || id > MAX_ID) throw new UnknownUser(`uids and gids must be in range 0-${MAX_ID}`);
  return id;
}

function readAccounts(rootfs: string): Account[] {
  return entries(rootfs, '/etc/passwd').map(([name = '', , uid = '', gid = '', , home = '']) => ({
    name,
    uid: Number(uid),
    gid: Number(gid),
    home,
  }));
}

function readGroups(rootfs: string): Group[] {
  return entries(rootfs, '/etc/group').map(([name = '', , gid = '', members = '']) => ({
    name,
    gid: Number(gid),
    members: members.split(',').map((member) => member.trim()),
  }));
}

/** The fields of the valid lines: those with an id in the third field. */
function entries(rootfs: string, path: string): string[][] {
  const text = readInRoot(rootfs, path, MAX_BYTES)?.toString('utf8') ?? '';
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(':'))
    .filter((fields) => isNumber(fields[2] ?? ''));
}

/** Go's strconv.Atoi, which accepts signs: negative ids are out of range, not names. */
const isNumber = (word: string): boolean => /^[+-]?\d+$/.test(word);

function splitOnce(user: string): [string, string?] {
  const colon = user.indexOf(':');
  return colon < 0 ? [user] : [user.slice(0, colon), user.slice(colon + 1)];
}
