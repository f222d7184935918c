/** Who a process runs as: names are looked up in the container's own passwd and group. passwd(5), group(5) */
import { readInRoot } from '../../sys/inroot.ts';

/** A mistake in the user's words: unknown name, id out of range. The caller says whose fault it is. */
export class UnknownUser extends Error {}

export interface User {
  uid: number;
  gid: number;
  /** Starts with `gid`, so that dropping groups can take nothing away (moby CVE-2022-36109). */
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
/** More than any real passwd; a container may write what it likes there. */
const MAX_BYTES = 4 << 20;

/** `''`, `user`, `uid`, `user:group`, `uid:gid` … and names or numbers of further groups.
 *  @throws UnknownUser `unable to find user x: no matching entries in passwd file` */
export function lookUpUser(rootfs: string, who: string, groupAdd: readonly string[]): User {
  const [userPart = '', groupPart = ''] = splitOnce(who);
  const groups = readGroups(rootfs);
  const account = readAccounts(rootfs).find((candidate) =>
    userPart === ''
      ? candidate.uid === 0
      : isNumber(userPart)
        ? candidate.uid === Number(userPart)
        : candidate.name === userPart,
  );
  if (!account && userPart !== '' && !isNumber(userPart))
    throw new UnknownUser(`unable to find user ${userPart}: no matching entries in passwd file`);
  const uid = account?.uid ?? inRange(Number(userPart || 0));
  const gid = groupPart ? lookUpGroup(groups, groupPart) : (account?.gid ?? 0);
  // Supplementary groups come with the user only where no group was asked for.
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

/** Lines with a name and a number in the third field; others are no entries. */
function entries(rootfs: string, path: string): string[][] {
  const text = readInRoot(rootfs, path, MAX_BYTES)?.toString('utf8') ?? '';
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(':'))
    .filter((fields) => isNumber(fields[2] ?? ''));
}

/** As Go's strconv.Atoi: a number below zero is one too, and out of range. */
const isNumber = (word: string): boolean => /^[+-]?\d+$/.test(word);

function splitOnce(who: string): [string, string?] {
  const colon = who.indexOf(':');
  return colon < 0 ? [who] : [who.slice(0, colon), who.slice(colon + 1)];
}
