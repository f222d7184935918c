/**
 * The archive's bytes in memory that two threads share: one reads the archive and makes its files, the other computes
 * the digest and
 * writes the files' bodies. For a small archive a second thread is not worth its start, and the one does it all.
 *
 * A slab is a piece of the archive, with a list of what is to be done with parts of it. Slabs go round in a ring:
 * `control` says how
 * many were handed over and how many are done. Nothing here may need a file that is outside of the jail.
 */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, futimesSync, readFileSync, writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { quote, type TarEntry } from './tar.ts';

/** The host cannot take the layer: no room, a failing disk. */
export class HostError extends Error {}

const SLAB = 1 << 20;
const SLABS = 6;
/** Files of one slab that wait to be closed, and as many of all slabs before it: a thousand may be open on any host. */
const MAX_OPEN = 400;
/**
 * A file that does not begin in the slab before, and does not go on in the next one, takes a kilobyte of it or more.
 */
const MAX_JOBS = (2 * SLAB) / 1024 + 4;
/** Numbers of a job: a descriptor, what is to be done with it, and two that depend on that. */
const JOB = 4;
const WRITE = 0;
const CLOSE = 1;
/** Numbers before the jobs: the slab's length (negative: no more will come), and how many jobs there are. */
const JOBS_HEAD = 2;
const JOBS = JOBS_HEAD + JOB * MAX_JOBS;

/** Places in `control`. */
const READY = 0;
const POSTED = 1;
const DONE = 2;
const FAILED = 3;
const FAILED_SLAB = 4;
const FAILED_JOB = 5;
const CONTROL = 6;
const MAX_START_MS = 10_000;
const MAX_WORDS = 1000;

export interface Shared {
  control: Int32Array;
  slabs: SharedArrayBuffer;
  jobs: Float64Array;
  /** What the other thread says at its end: the digest, or why it failed. */
  words: Uint8Array;
}

export class Bodies {
  readonly #shared: Shared;
  readonly #slabs: Slab[];
  readonly #hash = createHash('sha256');
  #threaded = false;
  #posted = 0;
  /** How many files are closed, and whose jobs they are, for each slab. */
  readonly #closes: number[] = Array.from({ length: SLABS }, () => 0);
  readonly #entries: TarEntry[][] = Array.from({ length: SLABS }, () => []);

  /** `script` is what file-writer-thread.ts was bundled to; undefined for no second thread. */
  constructor(script?: string) {
    this.#shared = {
      control: new Int32Array(new SharedArrayBuffer(4 * CONTROL)),
      slabs: new SharedArrayBuffer(SLABS * SLAB),
      jobs: new Float64Array(new SharedArrayBuffer(8 * SLABS * JOBS)),
      words: new Uint8Array(new SharedArrayBuffer(MAX_WORDS)),
    };
    this.#slabs = slabsOf(this.#shared);
    if (script === undefined) return;
    // As text: while it starts, a tenth of a second, this thread jails both and begins. The descriptors that it closes
    // are opened here.
    new Worker(readFileSync(script, 'utf8'), { eval: true, workerData: this.#shared, trackUnmanagedFds: false });
    this.#threaded = true;
  }

  /** Memory for the next bytes of the archive. @throws HostError when the bodies before could not be written */
  slab = (): Buffer => this.#free(this.#posted);

  /** Memory for the bytes behind those. */
  nextSlab = (): Buffer => this.#free(this.#posted + 1);

  /** `bytes` are of the present slab. */
  write(fd: number, bytes: Buffer, entry: TarEntry): void {
    const start = bytes.byteOffset - this.#slab.bytes.byteOffset;
    this.#add(fd, WRITE, start, start + bytes.length, entry);
  }

  /** Closes a file whose body was written, and sets its times. */
  close(fd: number, seconds: number, entry: TarEntry): void {
    this.#add(fd, CLOSE, seconds, 0, entry);
    if (++this.#closes[this.#posted % SLABS]! > MAX_OPEN) this.settle();
  }

  /** The present slab's first `length` bytes are the archive's next, and all that is to be done with them was told. */
  post(length: number): void {
    this.#slab.jobs[0] = length;
    this.#posted++;
    if (this.#threaded) {
      Atomics.store(this.#shared.control, POSTED, this.#posted);
      Atomics.notify(this.#shared.control, POSTED);
    } else {
      take(this.#shared, this.#slabs[(this.#posted - 1) % SLABS]!, this.#posted - 1, this.#hash);
      this.#check();
    }
  }

  /** All that was told is done. @throws HostError */
  settle(): void {
    this.#await(this.#posted);
    doJobs(this.#shared, this.#slab, this.#posted);
    this.#check();
    this.#forget(this.#posted);
  }

  /** The digest of all bytes, in hex. @throws HostError */
  finish(): string {
    if (!this.#threaded) return this.#hash.digest('hex');
    this.slab();
    this.post(-1);
    this.#await(this.#posted);
    return wordsOf(this.#shared);
  }

  // The n-th slab of all.
  #free(n: number): Buffer {
    let needed = n - SLABS + 1;
    for (let at = n - 1, open = 0; at >= needed; at--)
      if ((open += this.#closes[at % SLABS]!) > MAX_OPEN) needed = Math.min(at + 1, this.#posted);
    this.#await(needed);
    this.#forget(n);
    return this.#slabs[n % SLABS]!.bytes;
  }

  get #slab(): Slab {
    return this.#slabs[this.#posted % SLABS]!;
  }

  // What was done with the n-th slab, or with what was there before it.
  #forget(n: number): void {
    this.#closes[n % SLABS] = 0;
    this.#entries[n % SLABS] = [];
  }

  #add(fd: number, kind: number, a: number, b: number, entry: TarEntry): void {
    const { jobs } = this.#slab;
    const count = jobs[1]!++;
    const at = JOBS_HEAD + JOB * count;
    jobs[at] = fd;
    jobs[at + 1] = kind;
    jobs[at + 2] = a;
    jobs[at + 3] = b;
    this.#entries[this.#posted % SLABS]!.push(entry);
  }

  // Until so many slabs are done.
  #await(count: number): void {
    const { control } = this.#shared;
    if (this.#threaded && count > 0) {
      if (Atomics.wait(control, READY, 0, MAX_START_MS) === 'timed-out')
        throw new HostError('the thread that writes files does not start');
      for (let done; (done = Atomics.load(control, DONE)) < count;) Atomics.wait(control, DONE, done);
    }
    this.#check();
  }

  #check(): void {
    const { control } = this.#shared;
    if (Atomics.load(control, FAILED) === 0) return;
    const entry = this.#entries[control[FAILED_SLAB]!]![control[FAILED_JOB]!];
    throw new HostError(`${entry ? `${quote(entry.path)}: ` : ''}${wordsOf(this.#shared)}`);
  }
}

/** The other thread's work. */
export function writeBodies(shared: Shared): void {
  const { control } = shared;
  const slabs = slabsOf(shared);
  const hash = createHash('sha256');
  Atomics.store(control, READY, 1);
  Atomics.notify(control, READY);
  for (let n = 0; ; n++) {
    while (Atomics.load(control, POSTED) === n) Atomics.wait(control, POSTED, n);
    const slab = slabs[n % SLABS]!;
    const isLast = slab.jobs[0]! < 0;
    if (isLast) say(shared, hash.digest('hex'));
    else take(shared, slab, n, hash);
    Atomics.store(control, DONE, n + 1);
    Atomics.notify(control, DONE);
    if (isLast) return;
  }
}

interface Slab {
  bytes: Buffer;
  jobs: Float64Array;
}

const slabsOf = ({ slabs, jobs }: Shared): Slab[] =>
  Array.from({ length: SLABS }, (_, i) => ({
    bytes: Buffer.from(slabs, i * SLAB, SLAB),
    jobs: jobs.subarray(i * JOBS, (i + 1) * JOBS),
  }));

function take(shared: Shared, slab: Slab, n: number, hash: Hash): void {
  hash.update(slab.bytes.subarray(0, slab.jobs[0]));
  doJobs(shared, slab, n);
}

// After a failure nothing more is written: this process is about to end.
function doJobs(shared: Shared, { bytes, jobs }: Slab, n: number): void {
  const { control } = shared;
  for (let i = 0; i < jobs[1]! && control[FAILED] === 0; i++) {
    try {
      doJob(bytes, jobs, JOBS_HEAD + JOB * i);
    } catch (error) {
      say(shared, (error as Error).message);
      control[FAILED_SLAB] = n % SLABS;
      control[FAILED_JOB] = i;
      Atomics.store(control, FAILED, 1);
    }
  }
  jobs[1] = 0;
}

function doJob(bytes: Buffer, jobs: Float64Array, at: number): void {
  const fd = jobs[at]!;
  if (jobs[at + 1] === CLOSE) {
    futimesSync(fd, jobs[at + 2]!, jobs[at + 2]!);
    closeSync(fd);
    return;
  }
  for (let from = jobs[at + 2]!; from < jobs[at + 3]!;) from += writeSync(fd, bytes, from, jobs[at + 3]! - from);
}

function say({ words }: Shared, text: string): void {
  words.fill(0);
  words.set(Buffer.from(text).subarray(0, MAX_WORDS));
}

const wordsOf = ({ words }: Shared): string => Buffer.from(words).toString().replace(/\0+$/, '');
