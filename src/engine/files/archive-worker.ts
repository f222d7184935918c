/**
 * The archive worker, a separate process (bundled to dist/archiver.cjs). It confines itself to a container's files
 * (container-view.ts) and then stats, packs or unpacks a path. All of that is synchronous: only the main thread has
 * the container's root.
 *
 *   node archiver.cjs PARENT-PID JOB
 *
 * stdin: the archive to unpack. stdout: the packed archive. fd 3: reports, one JSON document per line. fd 4: the
 * container's mount namespace, if it runs.
 */
import { lstatSync, readlinkSync, readSync, writeSync, type Stats } from 'node:fs';
import { posix } from 'node:path';
import { dieWithParent } from '../../sys/jail.ts';
import { setSendBuffer } from '../../sys/socket.ts';
import { Packer } from '../images/pack.ts';
import { TarReader } from '../images/tar-reader.ts';
import { TarError } from '../images/tar.ts';
import { encodeHeader, newEntry, TRAILER } from '../images/tar-writer.ts';
import { Placer, type PlaceOptions } from './archive-place.ts';
import { enterView, type View } from './container-view.ts';

interface JobBase {
  view: View;
  /** As the client sent it. */
  path: string;
}

interface ReadJob extends JobBase {
  kind: 'stat' | 'pack';
}

interface UnpackJob extends JobBase, PlaceOptions {
  kind: 'unpack';
  /** Mounts; the deepest one that contains the target decides. */
  access: { destination: string; readOnly: boolean }[];
  readOnlyRoot: boolean;
}

export type ArchiveJob = ReadJob | UnpackJob;

/** The X-Docker-Container-Path-Stat of Docker's API. */
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
/** On a busy host, each time that one side waits for the other costs milliseconds. */
const SEND_BUFFER = 4 << 20;
const MAX_LINKS = 255;

class BadRequest extends Error {}
class Missing extends Error {}

function main([parent, text]: string[]): void {
  if (!dieWithParent(Number(parent))) return;
  process.umask(0);
  try {
    run(JSON.parse(text!) as ArchiveJob);
    report({ ok: true });
  } catch (error) {
    const failure = error as NodeJS.ErrnoException;
    // The daemon has stopped reading.
    if (failure.code === 'EPIPE') return;
    report({ ok: false, fault: faultOf(failure), message: errorText(failure) });
  }
}

function faultOf(error: Error): 'missing' | 'request' | 'host' {
  if (error instanceof Missing) return 'missing';
  return error instanceof BadRequest || error instanceof TarError ? 'request' : 'host';
}

/** The error text of Go, and so of Docker: `lstat /x/y: not a directory`. */
function errorText({ syscall, path, message }: NodeJS.ErrnoException): string {
  const reason = /^E\w+: ([^,]+), /.exec(message)?.[1];
  return syscall && path && reason ? `${syscall} ${path}: ${reason}` : message;
}

function report(what: ArchiveReport): void {
  writeSync(REPORTS, `${JSON.stringify(what)}\n`);
}

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
 * The path from the root, cleaned but with its final `/` or `/.`: both make lstat(2) follow a symbolic link (moby
 * PreserveTrailingDotOrSeparator).
 */
export function absolute(path: string): string {
  const cleaned = posix.join('/', path).replace(/(.)\/$/, '$1');
  if (/(^|\/)\.\/*$/.test(path)) return cleaned === '/' ? '/.' : `${cleaned}/.`;
  return path.endsWith('/') && cleaned !== '/' ? `${cleaned}/` : cleaned;
}

/** Go's filepath.Base. */
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

/** The path with all symbolic links resolved; missing components are kept as they are. */
function follow(path: string): string {
  const pending = path.split('/').filter((part) => part !== '');
  let at = '';
  for (let links = 0; pending.length > 0;) {
    const part = pending.shift()!;
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
    pending.unshift(...target.split('/').filter((each) => each !== ''));
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
  setSendBuffer(STDOUT, SEND_BUFFER);
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
    // docker cp replaces the leading slash by a name of its own.
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

function unpack(job: UnpackJob, path: string): void {
  try {
    process.chdir(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOTDIR') throw new BadRequest('extraction point is not a directory');
    if (code === 'ENOENT') throw new Missing(path);
    throw error;
  }
  const target = process.cwd();
  const [mount] = job.access
    .filter(({ destination }) => target === destination || target.startsWith(`${destination}/`))
    .sort((a, b) => b.destination.length - a.destination.length);
  if (mount?.readOnly) throw new BadRequest('mounted volume is marked read-only');
  if (!mount && job.readOnlyRoot) throw new BadRequest('container rootfs is marked read-only');
  const placer = new Placer(target, job);
  const reader = new TarReader({
    entry: (entry) => placer.begin(entry),
    data: (bytes) => placer.write(bytes),
    end: () => placer.end(),
    meta: () => undefined,
  });
  const chunk = Buffer.allocUnsafe(READ_SIZE);
  for (;;) {
    const length = readSync(STDIN, chunk, 0, READ_SIZE, null);
    if (length === 0) break;
    reader.push(chunk.subarray(0, length));
  }
  reader.end();
  placer.finish();
}

main(process.argv.slice(2));
