/** The mount table of this process: /proc/self/mountinfo. proc_pid_mountinfo(5). */
import { readFileSync } from 'node:fs';

/** How a mount takes part in propagation; numbers are peer groups. mount_namespaces(7). */
export interface Propagation {
  /** Sends and receives mount events. */
  shared?: number;
  /** Receives the events of this group. */
  master?: number;
  /** The closest group it receives from that is visible below this process's root. */
  propagateFrom?: number;
  unbindable?: true;
}

export interface Mount {
  id: number;
  /** Id of the mount it is attached to. */
  parent: number;
  /** Major and minor number: `0:42`. */
  device: string;
  /** The directory of the file system that is mounted; `/` except for bind mounts. */
  root: string;
  /** Where it is mounted, below this process's root. */
  point: string;
  options: string[];
  propagation: Propagation;
  type: string;
  source: string;
  superOptions: string[];
}

/** `latin1` keeps one character per byte, for mount points that need not be valid UTF-8. */
export type PathEncoding = 'utf8' | 'latin1';

const POINT_FIELD = 4;
const FIRST_OPTIONAL_FIELD = 6;

/** One character per byte. */
export const readMountTable = (): string => readFileSync('/proc/self/mountinfo', 'latin1');

/** All fields of all mounts, in the order of mounting. */
export const parseMounts = (table: string, encoding: PathEncoding = 'utf8'): Mount[] =>
  linesOf(table).map((line) => parseMount(line, encoding));

/** The mounts whose file system type begins with `prefix`; other lines are skipped without parsing them. */
export const mountsOfType = (prefix: string, table = readMountTable()): Mount[] =>
  linesOf(table)
    .filter((line) => line.includes(` - ${prefix}`))
    .map((line) => parseMount(line))
    .filter(({ type }) => type.startsWith(prefix));

/** Mount points at or below `directory`, deepest first. Parses nothing but mount points: removals call it. */
export function mountsUnder(directory: string, table = readMountTable()): string[] {
  const top = bytesOf(directory);
  return linesOf(table)
    .map(pointOf)
    .filter((point) => point === top || point.startsWith(`${top}/`))
    .sort((a, b) => b.length - a.length)
    .map((point) => decode(point, 'utf8'));
}

/** Whether something is mounted exactly at `path`. */
export function isMountPoint(path: string, table = readMountTable()): boolean {
  const wanted = bytesOf(path);
  return linesOf(table).some((line) => pointOf(line) === wanted);
}

/**
 * The mount that `path` (absolute, without symbolic links) lies on; undefined when it is outside all mounts of the
 * table, as in a chroot.
 */
export function mountContaining(path: string, table = readMountTable()): Mount | undefined {
  const wanted = bytesOf(path);
  let found: { line: string; length: number } | undefined;
  for (const line of linesOf(table)) {
    const point = pointOf(line);
    const contains = point === '/' || wanted === point || wanted.startsWith(`${point}/`);
    // Of mounts on the same point the last one is on top.
    if (contains && point.length >= (found?.length ?? 0)) found = { line, length: point.length };
  }
  return found && parseMount(found.line);
}

function parseMount(line: string, encoding: PathEncoding = 'utf8'): Mount {
  const fields = line.split(' ');
  const text = (index: number): string => decode(unescape(fields[index] ?? ''), encoding);
  const separator = fields.indexOf('-', FIRST_OPTIONAL_FIELD);
  return {
    id: Number(fields[0]),
    parent: Number(fields[1]),
    device: text(2),
    root: text(3),
    point: text(POINT_FIELD),
    options: text(5).split(','),
    propagation: parsePropagation(fields.slice(FIRST_OPTIONAL_FIELD, separator)),
    type: text(separator + 1),
    source: text(separator + 2),
    superOptions: text(separator + 3).split(','),
  };
}

function parsePropagation(tags: string[]): Propagation {
  const propagation: Propagation = {};
  for (const tag of tags) {
    const [name, group] = tag.split(':');
    if (name === 'shared') propagation.shared = Number(group);
    else if (name === 'master') propagation.master = Number(group);
    else if (name === 'propagate_from') propagation.propagateFrom = Number(group);
    else if (name === 'unbindable') propagation.unbindable = true;
  }
  return propagation;
}

/** The mount point of a line, one character per byte. */
function pointOf(line: string): string {
  let start = 0;
  for (let field = 0; field < POINT_FIELD; field++) start = line.indexOf(' ', start) + 1;
  return unescape(line.slice(start, line.indexOf(' ', start)));
}

const linesOf = (table: string): string[] => table.split('\n').filter((line) => line !== '');

/** The kernel writes space, tab, newline and backslash as three octal digits. */
const unescape = (field: string): string =>
  field.includes('\\')
    ? field.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)))
    : field;

const bytesOf = (path: string): string => Buffer.from(path).toString('latin1');

const decode = (bytes: string, encoding: PathEncoding): string =>
  encoding === 'utf8' ? Buffer.from(bytes, 'latin1').toString() : bytes;
