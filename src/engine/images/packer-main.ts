/**
 * The packer process (bundled to dist/packer.cjs), the unpacker's counterpart: jails itself in the files to read,
 * writes an archive (or changes as JSON lines) to stdout, and one JSON report to descriptor 3, which says whether the
 * output is complete.
 *
 *   node packer.cjs PARENT-PID JOB  >output  3>report  4<INPUT 5<INPUT
 *
 * Inputs depend on the job: a directory, or tar-split metadata and replaced bodies. A job's mounts are in its own mount
 * namespace and disappear with the process (mount_namespaces(7)). Writes block, so a slow reader throttles it.
 */
import { createHash } from 'node:crypto';
import { closeSync, createReadStream, mkdirSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { dieWithParent, jailProcess } from '../../sys/jail.ts';
import { mount, MS, unshareMounts } from '../../sys/mount.ts';
import { diffUpper } from './upper-diff.ts';
import { decompress } from './compression.ts';
import { overlay } from './overlay.ts';
import { openPlain, Packer } from './pack.ts';
import { readTarSplit, replacedBodies } from './tar-split.ts';
import { TRAILER } from './tar-writer.ts';

/** `scratch` is an empty directory as a mount point; layers are topmost first. */
export type Job =
  /** Packs a directory as it is. */
  | { kind: 'tree'; root: string }
  /** Packs layers mounted over each other, as one tree. */
  | { kind: 'stack'; layers: string[]; scratch: string }
  /** Packs an overlay's upper directory as a layer, with whiteouts. */
  | { kind: 'upper'; root: string }
  /** Lists what an upper directory changes in the layers below it, one `Change` per line. */
  | { kind: 'changes'; upper: string; lower: string[]; scratch: string }
  /** Rebuilds a layer's original archive from its tar-split metadata. */
  | { kind: 'recipe'; root: string };

export type Report =
  /** Digest and length of the output. */
  { ok: true; digest: string; size: number } | { ok: false; message: string };

const STDOUT = 1;
const REPORT = 3;
const TAR_SPLIT = 4;
const REPLACED = 5;
const FLUSH_AT = 1 << 20;

/** Buffers stdout: copying a small piece is cheaper than a write(2) of its own. */
class Output {
  readonly #hash = createHash('sha256');
  readonly #buffer = Buffer.allocUnsafe(FLUSH_AT);
  #filled = 0;
  size = 0;

  write = (bytes: Buffer): void => {
    this.size += bytes.length;
    if (this.#filled + bytes.length > FLUSH_AT) this.#flush();
    if (bytes.length >= FLUSH_AT) return this.#send(bytes);
    this.#filled += bytes.copy(this.#buffer, this.#filled);
  };

  finish(): string {
    this.#flush();
    return `sha256:${this.#hash.digest('hex')}`;
  }

  #flush(): void {
    this.#send(this.#buffer.subarray(0, this.#filled));
    this.#filled = 0;
  }

  #send(bytes: Buffer): void {
    this.#hash.update(bytes);
    for (let at = 0; at < bytes.length;) at += writeSync(STDOUT, bytes, at);
  }
}

async function main([parent, text]: string[]): Promise<void> {
  if (!dieWithParent(Number(parent))) return;
  process.umask(0);
  let report: Report;
  try {
    const output = new Output();
    await run(JSON.parse(text!) as Job, output);
    report = { ok: true, digest: output.finish(), size: output.size };
  } catch (error) {
    // The reader has gone.
    if ((error as NodeJS.ErrnoException).code === 'EPIPE') return;
    report = { ok: false, message: (error as Error).message };
  }
  writeSync(REPORT, JSON.stringify(report));
}

async function run(job: Job, output: Output): Promise<void> {
  switch (job.kind) {
    case 'tree':
    case 'upper':
      jailProcess(job.root);
      packRoot(output, job.kind === 'upper');
      return;
    case 'stack':
      unshareMounts();
      overlay(job.scratch, job.layers);
      jailProcess(job.scratch);
      packRoot(output, false);
      return;
    case 'changes':
      listChanges(job, output);
      return;
    case 'recipe':
      jailProcess(job.root);
      return rebuildArchive(output);
  }
}

function packRoot(output: Output, whiteouts: boolean): void {
  new Packer(output.write, { whiteouts }).children('/', '');
  output.write(TRAILER);
}

function listChanges({ upper, lower, scratch }: Extract<Job, { kind: 'changes' }>, output: Output): void {
  unshareMounts();
  mount('tmpfs', scratch, 'tmpfs', 0, 'mode=700');
  const upperMount = join(scratch, 'upper');
  const lowerMount = join(scratch, 'lower');
  mkdirSync(upperMount);
  mkdirSync(lowerMount);
  mount(upper, upperMount, null, MS.BIND);
  overlay(lowerMount, lower);
  jailProcess(scratch);
  for (const change of diffUpper('/upper', '/lower')) output.write(Buffer.from(`${JSON.stringify(change)}\n`));
}

async function rebuildArchive(output: Output): Promise<void> {
  const replaced = replacedBodies(REPLACED);
  const metadata = createReadStream('', { fd: TAR_SPLIT, autoClose: false });
  let files = 0;
  for await (const record of readTarSplit(decompress(metadata, 'gzip'))) {
    if ('bytes' in record) {
      output.write(record.bytes);
      continue;
    }
    const { path, size } = record;
    const offset = replaced.get(files++);
    const missing = offset === undefined ? copyFile(path, size, output) : copyBody(REPLACED, offset, size, output);
    if (missing > 0) throw new Error(`${JSON.stringify(path)} has lost ${missing} of its ${size} bytes`);
  }
}

function copyFile(path: string, size: number, output: Output): number {
  const fd = openPlain(path);
  if (fd === undefined) throw new Error(`${JSON.stringify(path)} is no longer a regular file`);
  try {
    return copyBody(fd, 0, size, output);
  } finally {
    closeSync(fd);
  }
}

const CHUNK = Buffer.allocUnsafe(FLUSH_AT);

// Returns how many of the `size` bytes are missing.
function copyBody(fd: number, offset: number, size: number, output: Output): number {
  let copied = 0;
  while (copied < size) {
    const n = readSync(fd, CHUNK, 0, Math.min(size - copied, FLUSH_AT), offset + copied);
    if (n === 0) break;
    output.write(CHUNK.subarray(0, n));
    copied += n;
  }
  return size - copied;
}

void main(process.argv.slice(2));
