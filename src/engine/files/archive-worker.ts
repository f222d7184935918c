/**
 * The archive worker, a process of its own (bundled to dist/archiver.cjs): it enters a container's view of its files
 * and looks at, packs or
 * unpacks what is there. Everything after that is synchronous, in this thread: the others are not in the view.
 *
 *   node archiver.cjs PARENT-PID JOB  <archive (unpack)  >archive (pack)  3>reports, one JSON document a line  4<mount
 * namespace
 */
import { lstatSync, readlinkSync, readSync, writeSync, type Stats } from 'node:fs';
import { posix } from 'node:path';
import { dieWithParent } from '../../sys/jail.ts';
import { Packer } from '../images/pack.ts';
import { TarReader } from '../images/tar-reader.ts';
import { encodeHeader, newEntry, TRAILER } from '../images/tar-writer.ts';
import { PlaceTaken, Placer, type PlaceOptions } from './archive-place.ts';
import { enterView, type View } from './container-view.ts';

export type ArchiveJob = { view: View; /** As the client gave it. */ path: string } & (
  | { kind: 'stat' | 'pack' }
  | ({
      kind: 'unpack';
      /** Places and whether they may be written to; the deepest counts. */ access: {
        destination: string;
        readOnly: boolean;
      }[];
      readOnlyRoot: boolean;
    } & PlaceOptions)
);

/** Of a file, as Docker tells it. */
export interface PathStat {
  name: string;
  size: number;
  /** Go's os.FileMode. */
  mode: number;
  /** Nanoseconds since the epoch. */
  mtime: string;
  linkTarget: string;
}

export type ArchiveReport =
  { ok: true; stat?: PathStat } | { ok: false; fault: 'missing' | 'request' | 'host'; message: string };

const STDIN = 0;
const STDOUT = 1;
const REPORTS = 3;
const READ_SIZE = 1 << 20;
const FLUSH_AT = 1 << 18;
const MAX_LINKS = 255;

class Refusal extends Error {}
class Missing extends Error {}

function main([parent, text]: string[]): void {
  if (!dieWithParent(Number(parent))) return;
  process.umask(0);
  try {
    run(JSON.parse(text!) as ArchiveJob);
    report({ ok: true });
  } catch (error) {
    const { code, name } = error as NodeJS.ErrnoException;
    // Nobody is there any more who would read on.
    if (code === 'EPIPE') return;
    const fault =
      error instanceof Missing ? 'missing' : error instanceof Refusal || name === 'TarError' ? 'request' : 'host';
    report({
      ok: false,
      fault: error instanceof PlaceTaken ? 'host' : fault,
      message: wordsOf(error as NodeJS.ErrnoException),
    });
  }
}

/** What Go says of a failed call, and so Docker: `lstat /x/y: not a directory`. */
function wordsOf({ syscall, path, message }: NodeJS.ErrnoException): string {
  const reason = /^E\w+: ([^,]+), /.exec(message)?.[1];
  return syscall && path && reason ? `${syscall} ${path}: ${reason}` : message;
}

const report = (what: ArchiveReport): void => void writeSync(REPORTS, `${JSON.stringify(what)}\n`);

function run(job: ArchiveJob): void {
  enterView(job.view);
  const path = absolute(job.path);
  if (job.kind === 'unpack') return unpack(job, path);
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (!found) throw new Missing(path);
  report({ ok: true, stat: statOf(path, found) });
  if (job.kind === 'pack') pack(path, found);
}

/**
 * From the root, with a final `/` or `/.`, which both mean: what a link leads to (moby PreserveTrailingDotOrSeparator).
 */
export function absolute(path: string): string {
  const cleaned = posix.join('/', path).replace(/(.)\/$/, '$1');
  if (/(^|\/)\.\/*$/.test(path)) return cleaned === '/' ? '/.' : `${cleaned}/.`;
  return path.endsWith('/') && cleaned !== '/' ? `${cleaned}/` : cleaned;
}

// As Go's filepath.Base.
const baseOf = (path: string): string => path.replace(/\/+$/, '').split('/').at(-1) || '/';

function statOf(path: string, found: Stats): PathStat {
  const { mtimeNs } = lstatSync(path, { bigint: true });
  return {
    name: baseOf(path),
    size: found.size,
    mode: goMode(found),
    mtime: String(mtimeNs),
    linkTarget: found.isSymbolicLink() ? follow(path) : '',
  };
}

const bit = (n: number): number => 2 ** n;

/** Go's os.FileMode of a file. */
const goMode = (found: Stats): number => goType(found) + goSetBits(found.mode) + (found.mode & 0o777);

function goType(found: Stats): number {
  if (found.isDirectory()) return bit(31);
  if (found.isSymbolicLink()) return bit(27);
  if (found.isBlockDevice()) return bit(26);
  if (found.isCharacterDevice()) return bit(26) + bit(21);
  if (found.isFIFO()) return bit(25);
  return found.isSocket() ? bit(24) : 0;
}

/** setuid, setgid and the sticky bit. */
const goSetBits = (mode: number): number =>
  (mode & 0o4000 ? bit(23) : 0) + (mode & 0o2000 ? bit(22) : 0) + (mode & 0o1000 ? bit(20) : 0);

/** Where a link leads in the end; as far as can be told where it leads to nothing. */
function follow(path: string): string {
  const left = path.split('/').filter((part) => part !== '');
  let at = '';
  for (let links = 0; left.length > 0;) {
    const part = left.shift()!;
    if (part === '.') continue;
    if (part === '..') {
      at = at.slice(0, at.lastIndexOf('/'));
      continue;
    }
    const next = `${at}/${part}`;
    if (!isLink(next)) {
      at = next;
      continue;
    }
    if (++links > MAX_LINKS) throw new Error(`evalSymlinksInScope: too many links in ${path}`);
    const target = readlinkSync(next);
    if (target.startsWith('/')) at = '';
    left.unshift(...target.split('/').filter((each) => each !== ''));
  }
  return at || '/';
}

function isLink(path: string): boolean {
  try {
    return lstatSync(path).isSymbolicLink();
  } catch {
    return false;
  }
}

function pack(path: string, found: Stats): void {
  const buffer = Buffer.allocUnsafe(FLUSH_AT);
  let filled = 0;
  const send = (bytes: Buffer): void => {
    for (let at = 0; at < bytes.length;) at += writeSync(STDOUT, bytes, at);
  };
  const out = (bytes: Buffer): void => {
    if (filled + bytes.length > FLUSH_AT) {
      send(buffer.subarray(0, filled));
      filled = 0;
    }
    if (bytes.length > FLUSH_AT) send(bytes);
    else filled += bytes.copy(buffer, filled);
  };
  const packer = new Packer(out);
  const latin = Buffer.from(path).toString('latin1');
  const name = baseOf(latin);
  if (name === '/') {
    // The client puts a name of its own before the slash.
    out(
      encodeHeader(
        newEntry('directory', '/', {
          mode: found.mode & 0o7777,
          uid: found.uid,
          gid: found.gid,
          mtime: BigInt(Math.floor(found.mtimeMs / 1000)) * 1_000_000_000n,
        }),
      ),
    );
    packer.rooted();
  } else {
    packer.add(latin, name);
  }
  out(TRAILER);
  send(buffer.subarray(0, filled));
}

function unpack(job: Extract<ArchiveJob, { kind: 'unpack' }>, path: string): void {
  try {
    process.chdir(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw code === 'ENOTDIR'
      ? new Refusal('extraction point is not a directory')
      : code === 'ENOENT'
        ? new Missing(path)
        : error;
  }
  const target = process.cwd();
  const inside = job.access
    .filter(({ destination }) => target === destination || target.startsWith(`${destination}/`))
    .sort((a, b) => b.destination.length - a.destination.length)[0];
  if (inside?.readOnly) throw new Refusal('mounted volume is marked read-only');
  if (!inside && job.readOnlyRoot) throw new Refusal('container rootfs is marked read-only');
  const placer = new Placer(target, job);
  const reader = new TarReader({
    entry: (entry) => placer.begin(entry),
    data: (bytes) => placer.write(bytes),
    end: () => placer.end(),
    meta: () => undefined,
  });
  const chunk = Buffer.allocUnsafe(READ_SIZE);
  for (let n; (n = readSync(STDIN, chunk, 0, READ_SIZE, null)) > 0;) reader.push(chunk.subarray(0, n));
  reader.end();
  placer.finish();
}

main(process.argv.slice(2));
