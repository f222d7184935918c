/**
 * A ring of archive slabs in memory that the unpacker's two threads share. The main thread reads the archive into
 * slabs, creates its files and queues jobs (writes and closes) on each slab; the writer thread hashes the slabs and
 * does the jobs. For a small archive the second thread is not worth its start: the main thread does everything.
 *
 * The ring is lock-free: `control` counts the slabs posted and done, and both threads wait on it with futexes
 * (Atomics.wait). Code here must not need a file outside the jail.
 */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, futimesSync, readFileSync, writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { quote, type TarEntry } from './tar.ts';

/** The host cannot take the layer: the disk is full or failing. */
export class HostError extends Error {}

const SLAB_BYTES = 1 << 20;
const SLABS = 6;
/** Limit of files waiting for their close, per slab and for all slabs before it; 1024 is the usual RLIMIT_NOFILE. */
const MAX_OPEN = 400;
/** Every file that lies within a slab occupies at least 1 KiB of it (header and one block) and has two jobs. */
const MAX_JOBS = (2 * SLAB_BYTES) / 1024 + 4;

/** Layout of a job: descriptor, kind, and two operands (WRITE: start and end in the slab; CLOSE: mtime in seconds). */
const JOB_FD = 0;
const JOB_KIND = 1;
const JOB_A = 2;
const JOB_B = 3;
const JOB_NUMBERS = 4;
const WRITE = 0;
const CLOSE = 1;

/** Layout of a slab's job list: the slab's length in bytes (END_OF_ARCHIVE: none will follow), job count, jobs. */
const LIST_LENGTH = 0;
const LIST_COUNT = 1;
const LIST_JOBS = 2;
const LIST_NUMBERS = LIST_JOBS + JOB_NUMBERS * MAX_JOBS;
const END_OF_ARCHIVE = -1;

/** Indexes into `control`. */
const WRITER = 0;
const POSTED = 1;
const DONE = 2;
const FAILED = 3;
const FAILED_SLAB = 4;
const FAILED_JOB = 5;
const CONTROL_NUMBERS = 6;

/** Values of control[WRITER]: which thread does the jobs. The first to replace UNDECIDED does all of them. */
const UNDECIDED = 0;
const THREAD = 1;
const MAIN = 2;

/** How long the main thread waits for the other one to start before it does the jobs itself. */
const MAX_START_MS = 3_000;
const MAX_RESULT_BYTES = 1000;

/** The memory that both threads share. */
export interface SharedRing {
  control: Int32Array;
  slabs: SharedArrayBuffer;
  jobs: Float64Array;
  /** UTF-8, NUL-padded: the digest, or the error message. */
  result: Uint8Array;
}

interface Slab {
  bytes: Buffer;
  jobs: Float64Array;
}

/** The main thread's side. */
export class FileWriteRing {
  readonly #shared: SharedRing;
  readonly #slabs: Slab[];
  readonly #hash = createHash('sha256');
  #threaded = false;
  #posted = 0;
  /** Per slab: the number of its close jobs, and each job's entry for error messages. */
  readonly #closes: number[] = Array.from({ length: SLABS }, () => 0);
  readonly #entries: TarEntry[][] = Array.from({ length: SLABS }, () => []);

  /** @param script the bundled file-writer-thread.ts; undefined to work without a second thread */
  constructor(
    script?: string,
    private readonly maxStartMs = MAX_START_MS,
  ) {
    this.#shared = {
      control: new Int32Array(new SharedArrayBuffer(4 * CONTROL_NUMBERS)),
      slabs: new SharedArrayBuffer(SLABS * SLAB_BYTES),
      jobs: new Float64Array(new SharedArrayBuffer(8 * SLABS * LIST_NUMBERS)),
      result: new Uint8Array(new SharedArrayBuffer(MAX_RESULT_BYTES)),
    };
    this.#slabs = slabsOf(this.#shared);
    if (script === undefined) return;
    // As source text: the worker takes 100 ms to start, and by then this thread has jailed the process.
    // trackUnmanagedFds: the worker closes descriptors that this thread opened.
    new Worker(readFileSync(script, 'utf8'), { eval: true, workerData: this.#shared, trackUnmanagedFds: false });
    this.#threaded = true;
  }

  /** Waits for the current slab to be free and returns its memory. @throws HostError when an earlier job failed */
  currentSlab = (): Buffer => this.#acquire(this.#posted);

  /** The same for the slab after the current one. @throws HostError */
  nextSlab = (): Buffer => this.#acquire(this.#posted + 1);

  /** Queues the write of `bytes`, a view of the current slab. */
  queueWrite(fd: number, bytes: Buffer, entry: TarEntry): void {
    const start = bytes.byteOffset - this.#current.bytes.byteOffset;
    this.#queue(fd, WRITE, start, start + bytes.length, entry);
  }

  /** Queues setting a file's times and closing it. */
  queueClose(fd: number, mtimeSeconds: number, entry: TarEntry): void {
    this.#queue(fd, CLOSE, mtimeSeconds, 0, entry);
    if (++this.#closes[this.#posted % SLABS]! > MAX_OPEN) this.settle();
  }

  /** Hands over the current slab: its first `length` bytes are the archive's next, and its jobs are complete. */
  post(length: number): void {
    this.#current.jobs[LIST_LENGTH] = length;
    this.#posted++;
    if (this.#threaded) {
      Atomics.store(this.#shared.control, POSTED, this.#posted);
      Atomics.notify(this.#shared.control, POSTED);
    } else {
      this.#process(this.#posted - 1);
      this.#throwIfFailed();
    }
  }

  /** Completes all queued jobs, the current slab's included. @throws HostError */
  settle(): void {
    this.#waitUntilDone(this.#posted);
    doJobs(this.#shared, this.#current, this.#posted);
    this.#throwIfFailed();
    this.#clear(this.#posted);
  }

  /** Ends the archive and returns the digest of all its bytes, in hex. @throws HostError */
  finish(): string {
    if (this.#threaded) {
      this.currentSlab();
      this.post(END_OF_ARCHIVE);
      this.#waitUntilDone(this.#posted);
    }
    // The wait may have shown that there is no second thread.
    return this.#threaded ? resultOf(this.#shared) : this.#hash.digest('hex');
  }

  // Waits until the memory of slab n is free, and until the slabs in flight before it leave few files open.
  #acquire(n: number): Buffer {
    let needed = n - SLABS + 1;
    let open = 0;
    for (let at = n - 1; at >= needed; at--) {
      open += this.#closes[at % SLABS]!;
      if (open > MAX_OPEN) needed = Math.min(at + 1, this.#posted);
    }
    this.#waitUntilDone(needed);
    this.#clear(n);
    return this.#slabs[n % SLABS]!.bytes;
  }

  get #current(): Slab {
    return this.#slabs[this.#posted % SLABS]!;
  }

  #clear(n: number): void {
    this.#closes[n % SLABS] = 0;
    this.#entries[n % SLABS] = [];
  }

  #queue(fd: number, kind: number, a: number, b: number, entry: TarEntry): void {
    const { jobs } = this.#current;
    const count = jobs[LIST_COUNT]!++;
    const at = LIST_JOBS + JOB_NUMBERS * count;
    jobs[at + JOB_FD] = fd;
    jobs[at + JOB_KIND] = kind;
    jobs[at + JOB_A] = a;
    jobs[at + JOB_B] = b;
    this.#entries[this.#posted % SLABS]!.push(entry);
  }

  #waitUntilDone(count: number): void {
    const { control } = this.#shared;
    if (this.#threaded && count > 0 && this.#threadStarts()) {
      let done = Atomics.load(control, DONE);
      while (done < count) {
        Atomics.wait(control, DONE, done);
        done = Atomics.load(control, DONE);
      }
    }
    this.#throwIfFailed();
  }

  // On a busy host the thread may take long to start, or have no memory to start with. It does nothing once this thread
  // has taken the jobs over.
  #threadStarts(): boolean {
    const { control } = this.#shared;
    Atomics.wait(control, WRITER, UNDECIDED, this.maxStartMs);
    if (Atomics.compareExchange(control, WRITER, UNDECIDED, MAIN) === THREAD) return true;
    this.#threaded = false;
    for (let n = 0; n < this.#posted; n++) this.#process(n);
    return false;
  }

  #process(n: number): void {
    const slab = this.#slabs[n % SLABS]!;
    if (slab.jobs[LIST_LENGTH] !== END_OF_ARCHIVE) hashAndDoJobs(this.#shared, slab, n, this.#hash);
  }

  #throwIfFailed(): void {
    const { control } = this.#shared;
    if (Atomics.load(control, FAILED) === 0) return;
    const entry = this.#entries[control[FAILED_SLAB]!]![control[FAILED_JOB]!];
    throw new HostError(`${entry ? `${quote(entry.path)}: ` : ''}${resultOf(this.#shared)}`);
  }
}

/** The writer thread: processes slabs in order until the archive's end. */
export function runFileWriter(shared: SharedRing): void {
  const { control } = shared;
  const slabs = slabsOf(shared);
  const hash = createHash('sha256');
  if (Atomics.compareExchange(control, WRITER, UNDECIDED, THREAD) !== UNDECIDED) return;
  Atomics.notify(control, WRITER);
  for (let n = 0; ; n++) {
    while (Atomics.load(control, POSTED) === n) Atomics.wait(control, POSTED, n);
    const slab = slabs[n % SLABS]!;
    const isEnd = slab.jobs[LIST_LENGTH] === END_OF_ARCHIVE;
    if (isEnd) setResult(shared, hash.digest('hex'));
    else hashAndDoJobs(shared, slab, n, hash);
    Atomics.store(control, DONE, n + 1);
    Atomics.notify(control, DONE);
    if (isEnd) return;
  }
}

const slabsOf = ({ slabs, jobs }: SharedRing): Slab[] =>
  Array.from({ length: SLABS }, (_, i) => ({
    bytes: Buffer.from(slabs, i * SLAB_BYTES, SLAB_BYTES),
    jobs: jobs.subarray(i * LIST_NUMBERS, (i + 1) * LIST_NUMBERS),
  }));

function hashAndDoJobs(shared: SharedRing, slab: Slab, n: number, hash: Hash): void {
  hash.update(slab.bytes.subarray(0, slab.jobs[LIST_LENGTH]));
  doJobs(shared, slab, n);
}

// After a failure the remaining jobs are skipped: the process is about to exit.
function doJobs(shared: SharedRing, { bytes, jobs }: Slab, n: number): void {
  const { control } = shared;
  for (let i = 0; i < jobs[LIST_COUNT]! && control[FAILED] === 0; i++) {
    try {
      doJob(bytes, jobs, LIST_JOBS + JOB_NUMBERS * i);
    } catch (error) {
      setResult(shared, (error as Error).message);
      control[FAILED_SLAB] = n % SLABS;
      control[FAILED_JOB] = i;
      Atomics.store(control, FAILED, 1);
    }
  }
  jobs[LIST_COUNT] = 0;
}

function doJob(bytes: Buffer, jobs: Float64Array, at: number): void {
  const fd = jobs[at + JOB_FD]!;
  const a = jobs[at + JOB_A]!;
  if (jobs[at + JOB_KIND] === CLOSE) {
    futimesSync(fd, a, a);
    closeSync(fd);
    return;
  }
  const end = jobs[at + JOB_B]!;
  for (let from = a; from < end;) from += writeSync(fd, bytes, from, end - from);
}

function setResult({ result }: SharedRing, text: string): void {
  result.fill(0);
  result.set(Buffer.from(text).subarray(0, MAX_RESULT_BYTES));
}

const resultOf = ({ result }: SharedRing): string => Buffer.from(result).toString().replace(/\0+$/, '');
