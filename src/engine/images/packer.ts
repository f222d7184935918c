/**
 * The packer, a process of its own (bundled to dist/packer.cjs): the unpacker's other direction. It jails itself in the
 * files that it is to read,
 * writes an archive (or the changes, as JSON lines) to stdout, and tells on descriptor 3, as one JSON document, whether
 * that is all of it.
 *
 *   node packer.cjs PARENT-PID JOB  >archive  3>report  4<… 5<what the job reads by descriptors: a directory, a recipe
 * and what was replaced
 *
 * Mounts that a job needs are its own (mount_namespaces(7)): they go with it, however it ends. Writing blocks: who
 * reads slowly slows it.
 */
import { createHash } from 'node:crypto';
import { closeSync, createReadStream, mkdirSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { dieWithParent, jailProcess } from '../../sys/jail.ts';
import { mount, MS, unshareMounts } from '../../sys/mount.ts';
import { compare } from './compare.ts';
import { decompress } from './compression.ts';
import { overlay } from './overlay.ts';
import { openPlain, Packer } from './pack.ts';
import { replacedBodies, steps } from './tar-split.ts';
import { TRAILER } from './tar-writer.ts';

/** `scratch` is an empty directory, for the job's own mounts; layers are told topmost first. */
export type Job =
  /** A directory as it is. */
  | { kind: 'tree'; root: string }
  /** Layers over each other, as one tree. */
  | { kind: 'stack'; layers: string[]; scratch: string }
  /** An overlay's upper directory as a layer, with whiteouts. */
  | { kind: 'upper'; root: string }
  /** What an upper directory changes of the layers below it: a Change a line. */
  | { kind: 'changes'; upper: string; lower: string[]; scratch: string }
  /** A layer's archive, byte for byte as it came, by its recipe. */
  | { kind: 'recipe'; root: string };

export type Report =
  | { ok: true; /** Of an archive: its digest and length. */ digest: string; size: number }
  | { ok: false; message: string };

const STDOUT = 1;
const REPORT = 3;
const RECIPE = 4;
const REPLACED = 5;
const FLUSH_AT = 1 << 20;

/** Collects small pieces: a write costs more than a copy. */
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
    // Nobody is there any more who would read on.
    if ((error as NodeJS.ErrnoException).code === 'EPIPE') return;
    report = { ok: false, message: (error as Error).message };
  }
  writeSync(REPORT, JSON.stringify(report));
}

async function run(job: Job, output: Output): Promise<void> {
  switch (job.kind) {
    case 'tree':
    case 'upper': {
      jailProcess(job.root);
      return void archive(output, job.kind === 'upper');
    }
    case 'stack':
      unshareMounts();
      overlay(job.scratch, job.layers);
      jailProcess(job.scratch);
      return void archive(output, false);
    case 'changes':
      return void changes(job, output);
    case 'recipe':
      jailProcess(job.root);
      return follow(output);
  }
}

function archive(output: Output, whiteouts: boolean): void {
  new Packer(output.write, { whiteouts }).children('/', '');
  output.write(TRAILER);
}

function changes({ upper, lower, scratch }: { upper: string; lower: string[]; scratch: string }, output: Output): void {
  unshareMounts();
  mount('tmpfs', scratch, 'tmpfs', 0, 'mode=700');
  const [up, low] = [join(scratch, 'upper'), join(scratch, 'lower')];
  mkdirSync(up);
  mkdirSync(low);
  mount(upper, up, null, MS.BIND);
  overlay(low, lower);
  jailProcess(scratch);
  for (const change of compare('/upper', '/lower')) output.write(Buffer.from(`${JSON.stringify(change)}\n`));
}

async function follow(output: Output): Promise<void> {
  const replaced = replacedBodies(REPLACED);
  let files = 0;
  for await (const step of steps(decompress(createReadStream('', { fd: RECIPE, autoClose: false }), 'gzip'))) {
    if ('bytes' in step) {
      output.write(step.bytes);
      continue;
    }
    const { path, size } = step;
    const offset = replaced.get(files++);
    const left = offset === undefined ? file(path, size, output) : body(REPLACED, offset, size, output);
    if (left > 0) throw new Error(`${JSON.stringify(path)} has lost ${left} of its ${size} bytes`);
  }
}

function file(path: string, size: number, output: Output): number {
  const fd = openPlain(path);
  if (fd === undefined) throw new Error(`${JSON.stringify(path)} is no file any more`);
  try {
    return body(fd, null, size, output);
  } finally {
    closeSync(fd);
  }
}

const CHUNK = Buffer.allocUnsafe(FLUSH_AT);

// Returns how many bytes are missing.
function body(fd: number, offset: number | null, size: number, output: Output): number {
  let left = size;
  for (
    let n;
    left > 0 &&
    (n = readSync(fd, CHUNK, 0, Math.min(left, FLUSH_AT), offset === null ? null : offset + size - left)) > 0;
    left -= n
  )
    output.write(CHUNK.subarray(0, n));
  return left;
}

void main(process.argv.slice(2));
