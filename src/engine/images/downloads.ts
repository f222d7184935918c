/**
 * Blob downloads. Each goes to a file named by its digest; after an interruption, also of this process, the next
 * download resumes there. Concurrent requests for a blob share one transfer.
 */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, rm, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { faultPoint } from '../../sys/fault.ts';
import { SystemFault } from '../../model/errors.ts';
import { isFinal, type BlobRange } from './registry/repository.ts';
import { goText, MalformedResponse, RegistryRefusal, RegistryUnreachable } from './registry/failure.ts';

/** A blob to download. */
export interface WantedBlob {
  digest: string;
  /** Bytes. */
  size: number;
  open(offset: number, signal: AbortSignal): Promise<BlobRange>;
}

export type Stage =
  | { kind: 'waiting' | 'verifying' | 'complete' }
  | { kind: 'downloading'; current: number }
  | { kind: 'retrying'; seconds: number };
export type Watcher = (stage: Stage) => void;

interface Transfer {
  done: Promise<void>;
  watchers: Set<Watcher>;
  stage: Stage;
  abort: AbortController;
}

const FLUSH_AT = 512 * 1024;
/** Age at which an unused partial download is deleted. */
const STALE_MS = 24 * 3600 * 1000;
const MAX_PAUSE_SECONDS = 16;

export class Downloads {
  readonly #transfers = new Map<string, Transfer>();
  /** Number of pulls that need a blob's file. */
  readonly #leases = new Map<string, number>();
  readonly #waitingForSlot: (() => void)[] = [];
  #running = 0;

  /**
   * @param limits.concurrent transfers at a time
   * @param limits.attempts failures in a row after which a transfer fails
   */
  constructor(
    private readonly directory: string,
    private readonly limits: { concurrent: number; attempts: number },
  ) {}

  /** The path of a blob's file. */
  file = (digest: string): string => join(this.directory, digest.slice(digest.indexOf(':') + 1));

  /** Keeps blobs' files until the lease ends; with `finished`, it then deletes those that no other pull needs. */
  lease(digests: string[]): { end: (options: { finished: boolean }) => Promise<void> } {
    for (const digest of digests) this.#leases.set(digest, (this.#leases.get(digest) ?? 0) + 1);
    return {
      end: async ({ finished }) => {
        for (const digest of digests) {
          const left = this.#leases.get(digest)! - 1;
          if (left > 0) this.#leases.set(digest, left);
          else this.#leases.delete(digest);
          if (left === 0 && finished && !this.#transfers.has(digest)) await rm(this.file(digest), { force: true });
        }
      },
    };
  }

  /**
   * Resolves when the blob's file is complete and verified. Aborting `signal` ends the transfer unless another caller
   * waits for it.
   * @throws MalformedResponse, RegistryRefusal, RegistryUnreachable, SystemFault
   */
  async fetch(wanted: WantedBlob, watcher: Watcher, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    // An aborted transfer must end before another may write to the file.
    for (let aborted = this.#abortedTransfer(wanted); aborted; aborted = this.#abortedTransfer(wanted)) {
      await aborted.done.catch(() => undefined);
      signal.throwIfAborted();
    }
    const transfer = this.#transfers.get(wanted.digest) ?? this.#start(wanted);
    transfer.watchers.add(watcher);
    watcher(transfer.stage);
    const left = new Promise<never>((_, reject) => {
      const leave = (): void => {
        transfer.watchers.delete(watcher);
        if (transfer.watchers.size === 0) transfer.abort.abort();
        reject(signal.reason as Error);
      };
      signal.addEventListener('abort', leave, { once: true });
    });
    left.catch(() => undefined);
    await Promise.race([transfer.done, left]);
    transfer.watchers.delete(watcher);
  }

  #abortedTransfer({ digest }: WantedBlob): Transfer | undefined {
    const transfer = this.#transfers.get(digest);
    return transfer?.abort.signal.aborted ? transfer : undefined;
  }

  /**
   * Deletes unused files that are stale, or whose layer exists already: a daemon may have died before deleting them.
   * @param known whether a blob's layer exists
   */
  async sweep(known: (digest: string) => boolean = () => false): Promise<void> {
    for (const name of await readdir(this.directory).catch(() => [] as string[])) {
      const path = join(this.directory, name);
      const found = await stat(path).catch(() => undefined);
      const digest = `sha256:${name}`;
      const isUsed = this.#leases.has(digest) || this.#transfers.has(digest);
      if (found && !isUsed && (Date.now() - found.mtimeMs > STALE_MS || known(digest)))
        await rm(path, { recursive: true, force: true });
    }
  }

  #start(wanted: WantedBlob): Transfer {
    const abort = new AbortController();
    const transfer: Transfer = {
      done: Promise.resolve(),
      watchers: new Set(),
      stage: { kind: this.#running < this.limits.concurrent ? 'downloading' : 'waiting', current: 0 },
      abort,
    };
    const report = (stage: Stage): void => {
      transfer.stage = stage;
      for (const watcher of transfer.watchers) watcher(stage);
    };
    this.#transfers.set(wanted.digest, transfer);
    transfer.done = this.#inSlot(abort.signal, () => this.#download(wanted, report, abort.signal)).finally(() =>
      this.#transfers.delete(wanted.digest),
    );
    transfer.done.catch(() => undefined);
    return transfer;
  }

  // Runs at most `limits.concurrent` transfers at a time; a finished one hands its slot to the next.
  async #inSlot(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    if (this.#running >= this.limits.concurrent)
      await new Promise<void>((resolve) => this.#waitingForSlot.push(resolve));
    else this.#running++;
    try {
      signal.throwIfAborted();
      await work();
    } finally {
      const next = this.#waitingForSlot.shift();
      if (next) next();
      else this.#running--;
    }
  }

  async #download(wanted: WantedBlob, report: Watcher, signal: AbortSignal): Promise<void> {
    await mkdir(this.directory, { recursive: true, mode: 0o700 });
    const path = this.file(wanted.digest);
    let mayBeCorrupt = true;
    let failures = 0;
    for (;;) {
      const before = await lengthOf(path);
      try {
        await this.#attempt(wanted, report, signal);
        return;
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof NoSpace || error instanceof Mismatch) await rm(path, { force: true });
        if (error instanceof Mismatch && mayBeCorrupt && before > 0) {
          // A host crash may have corrupted what an earlier daemon left: start once from zero.
          mayBeCorrupt = false;
          continue;
        }
        if (!isTransient(error)) throw error;
        // Only failures without progress count.
        failures = (await lengthOf(path)) > before ? 1 : failures + 1;
        if (failures >= this.limits.attempts) throw error;
        await pauseBeforeRetry(failures, report, signal);
      }
    }
  }

  async #attempt(wanted: WantedBlob, report: Watcher, signal: AbortSignal): Promise<void> {
    const { digest, size } = wanted;
    const path = this.file(digest);
    const file = await open(path, 'a+', 0o600);
    try {
      faultPoint('download.file');
      let { hash, length } = await hashFile(path, signal);
      if (length > size) throw new Mismatch(digest, `has more than the ${size} bytes that were announced`);
      report({ kind: 'downloading', current: length });
      if (length < size) {
        const range = await wanted.open(length, signal);
        if (range.offset !== length) {
          await file.truncate(range.offset);
          hash = createHash('sha256');
          length = 0;
        }
        length = await receive(range.bytes, { file, hash, length, wanted, report, signal });
      }
      if (length < size) throw new RegistryUnreachable('GET', digest, 'unexpected EOF');
      report({ kind: 'verifying' });
      if (`sha256:${hash.digest('hex')}` !== digest) throw new Mismatch(digest, '');
      faultPoint('download.complete');
    } finally {
      await file.close();
    }
    report({ kind: 'complete' });
  }
}

async function pauseBeforeRetry(failures: number, report: Watcher, signal: AbortSignal): Promise<void> {
  for (let seconds = Math.min(2 ** (failures - 1), MAX_PAUSE_SECONDS); seconds > 0; seconds--) {
    report({ kind: 'retrying', seconds });
    await sleep(1000, undefined, { signal });
  }
}

/** What `receive` continues. */
interface Reception {
  file: FileHandle;
  hash: Hash;
  /** Bytes in the file. */
  length: number;
  wanted: WantedBlob;
  report: Watcher;
  signal: AbortSignal;
}

// Appends to the file in large writes. Returns the file's new length.
async function receive(
  bytes: AsyncIterable<Buffer>,
  { file, hash, length, wanted: { digest, size }, report, signal }: Reception,
): Promise<number> {
  let received = length;
  let pending: Buffer[] = [];
  let pendingBytes = 0;
  const flush = async (): Promise<void> => {
    if (pendingBytes === 0) return;
    const chunk = pending.length === 1 ? pending[0]! : Buffer.concat(pending, pendingBytes);
    pending = [];
    pendingBytes = 0;
    try {
      await file.appendFile(chunk);
    } catch (error) {
      throw new NoSpace(digest, error as Error);
    }
    faultPoint('download.chunk');
  };
  try {
    for await (const chunk of bytes) {
      if (received + chunk.length > size)
        throw new Mismatch(digest, `is longer than the ${size} bytes that were announced`);
      hash.update(chunk);
      pending.push(chunk);
      pendingBytes += chunk.length;
      received += chunk.length;
      if (pendingBytes >= FLUSH_AT) {
        await flush();
        report({ kind: 'downloading', current: received });
      }
    }
  } catch (error) {
    if (error instanceof Mismatch || error instanceof NoSpace || signal.aborted) throw error;
    throw new RegistryUnreachable('GET', digest, goText(error, new URL('http://registry')), { cause: error });
  } finally {
    await flush();
  }
  report({ kind: 'downloading', current: received });
  return received;
}

/** The content does not match the digest or size. */
class Mismatch extends MalformedResponse {
  constructor(digest: string, why: string) {
    super(why ? `blob ${digest} ${why}` : `filesystem layer verification failed for digest ${digest}`);
  }
}

/** The file cannot be written. Its partial content is deleted: keeping it would occupy the space that is missing. */
class NoSpace extends SystemFault {
  readonly code: string | undefined;
  constructor(digest: string, cause: NodeJS.ErrnoException) {
    super(`failed to write blob ${digest}: ${cause.message}`, { cause });
    this.code = cause.code;
  }
}

const isTransient = (error: unknown): boolean =>
  error instanceof RegistryUnreachable ||
  (error instanceof RegistryRefusal &&
    !isFinal(error) &&
    (error.status >= 500 || error.status === 429 || error.status === 408));

async function hashFile(path: string, signal: AbortSignal): Promise<{ hash: Hash; length: number }> {
  const hash = createHash('sha256');
  let length = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: FLUSH_AT, signal }) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    length += chunk.length;
  }
  return { hash, length };
}

const lengthOf = async (path: string): Promise<number> => (await stat(path).catch(() => undefined))?.size ?? 0;
