/**
 * Blobs on their way here. Each is a file named by its digest; a transfer that breaks off, this process's death
 * included, leaves what
 * came, and the next one asks for the rest. Whoever wants a blob that is already coming waits for the same transfer.
 */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, rm, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { faultPoint } from '../../sys/fault.ts';
import { SystemFault } from '../../model/errors.ts';
import { isFinal, type Part } from './registry/repository.ts';
import { goText, MalformedResponse, RegistryRefusal, RegistryUnreachable } from './registry/failure.ts';

/** What is to be had, and how. */
export interface Wanted {
  digest: string;
  size: number;
  open(offset: number, signal: AbortSignal): Promise<Part>;
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
const STALE_MS = 24 * 3600 * 1000;
const MAX_PAUSE_SECONDS = 16;

export class Downloads {
  readonly #transfers = new Map<string, Transfer>();
  /** How many pulls have use for a blob's file. */
  readonly #leases = new Map<string, number>();
  readonly #queue: (() => void)[] = [];
  #running = 0;

  constructor(
    private readonly directory: string,
    private readonly limits: { concurrent: number; attempts: number },
  ) {}

  file = (digest: string): string => join(this.directory, digest.slice(digest.indexOf(':') + 1));

  /**
   * Keeps these blobs' files, once they have come, until the lease ends; `finished` says that they are not needed any
   * more.
   */
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

  /** Resolves when the blob's file is whole and verified. It stops when the last who waits for it is gone. */
  async fetch(wanted: Wanted, watcher: Watcher, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    let transfer = this.#transfers.get(wanted.digest);
    // One that is being given up is no use to a newcomer.
    while (transfer?.abort.signal.aborted) {
      await transfer.done.catch(() => undefined);
      signal.throwIfAborted();
      transfer = this.#transfers.get(wanted.digest);
    }
    transfer ??= this.#start(wanted);
    transfer.watchers.add(watcher);
    watcher(transfer.stage);
    const leave = (): void => {
      transfer.watchers.delete(watcher);
      if (transfer.watchers.size === 0) transfer.abort.abort();
    };
    const gone = new Promise<never>((_, reject) =>
      signal.addEventListener(
        'abort',
        () => {
          leave();
          reject(signal.reason as Error);
        },
        { once: true },
      ),
    );
    gone.catch(() => undefined);
    await Promise.race([transfer.done, gone]);
    transfer.watchers.delete(watcher);
  }

  /**
   * Takes away what nobody came back for, and what is `known` to have become a layer: a daemon died before it could.
   */
  async sweep(known: (digest: string) => boolean = () => false): Promise<void> {
    for (const name of await readdir(this.directory).catch(() => [] as string[])) {
      const path = join(this.directory, name);
      const found = await stat(path).catch(() => undefined);
      const isUsed = this.#leases.has(`sha256:${name}`) || this.#transfers.has(`sha256:${name}`);
      if (found && !isUsed && (Date.now() - found.mtimeMs > STALE_MS || known(`sha256:${name}`)))
        await rm(path, { recursive: true, force: true });
    }
  }

  #start(wanted: Wanted): Transfer {
    const abort = new AbortController();
    const transfer: Transfer = {
      done: Promise.resolve(),
      watchers: new Set(),
      stage: { kind: this.#running < this.limits.concurrent ? 'downloading' : 'waiting', current: 0 },
      abort,
    };
    const tell = (stage: Stage): void => {
      transfer.stage = stage;
      for (const watcher of transfer.watchers) watcher(stage);
    };
    this.#transfers.set(wanted.digest, transfer);
    transfer.done = this.#inTurn(abort.signal, () => this.#download(wanted, tell, abort.signal)).finally(() =>
      this.#transfers.delete(wanted.digest),
    );
    transfer.done.catch(() => undefined);
    return transfer;
  }

  async #inTurn(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    if (this.#running >= this.limits.concurrent) await new Promise<void>((resolve) => this.#queue.push(resolve));
    else this.#running++;
    try {
      signal.throwIfAborted();
      await work();
    } finally {
      const next = this.#queue.shift();
      if (next) next();
      else this.#running--;
    }
  }

  async #download(wanted: Wanted, tell: Watcher, signal: AbortSignal): Promise<void> {
    await mkdir(this.directory, { recursive: true, mode: 0o700 });
    let mayBeStale = true;
    for (let failures = 0; ;) {
      const before = await lengthOf(this.file(wanted.digest));
      try {
        await this.#attempt(wanted, tell, signal);
        return;
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof NoRoom) await rm(this.file(wanted.digest), { force: true });
        if (error instanceof Mismatch) {
          await rm(this.file(wanted.digest), { force: true });
          // What an earlier daemon left may have been spoilt by a crash of the host.
          if (!mayBeStale || before === 0) throw error;
          mayBeStale = false;
          continue;
        }
        if (!isTransient(error)) throw error;
        // As long as bytes come, it goes on.
        failures = (await lengthOf(this.file(wanted.digest))) > before ? 1 : failures + 1;
        if (failures >= this.limits.attempts) throw error;
        for (let seconds = Math.min(2 ** (failures - 1), MAX_PAUSE_SECONDS); seconds > 0; seconds--) {
          tell({ kind: 'retrying', seconds });
          await sleep(1000, undefined, { signal });
        }
      }
    }
  }

  async #attempt(wanted: Wanted, tell: Watcher, signal: AbortSignal): Promise<void> {
    const { digest, size } = wanted;
    const file = await open(this.file(digest), 'a+', 0o600);
    try {
      faultPoint('download.file');
      let { hash, length } = await hashed(this.file(digest), signal);
      if (length > size) throw new Mismatch(digest, `has more than the ${size} bytes that were announced`);
      tell({ kind: 'downloading', current: length });
      if (length < size) {
        const part = await wanted.open(length, signal);
        if (part.offset !== length) {
          await file.truncate(part.offset);
          ({ hash, length } = { hash: createHash('sha256'), length: 0 });
        }
        length = await receive(file, part.bytes, { hash, length, wanted, tell, signal });
      }
      if (length < size) throw new RegistryUnreachable('GET', digest, 'unexpected EOF');
      tell({ kind: 'verifying' });
      if (`sha256:${hash.digest('hex')}` !== digest) throw new Mismatch(digest, '');
      faultPoint('download.complete');
    } finally {
      await file.close();
    }
    tell({ kind: 'complete' });
  }
}

interface Receiving {
  hash: Hash;
  length: number;
  wanted: Wanted;
  tell: Watcher;
  signal: AbortSignal;
}

async function receive(
  file: FileHandle,
  bytes: AsyncIterable<Buffer>,
  { hash, length, wanted: { digest, size }, tell, signal }: Receiving,
): Promise<number> {
  let pending: Buffer[] = [];
  let waiting = 0;
  let at = length;
  const flush = async (): Promise<void> => {
    if (waiting === 0) return;
    const chunk = pending.length === 1 ? pending[0]! : Buffer.concat(pending, waiting);
    [pending, waiting] = [[], 0];
    try {
      await file.appendFile(chunk);
    } catch (error) {
      throw new NoRoom(digest, error as Error);
    }
    faultPoint('download.chunk');
  };
  try {
    for await (const chunk of bytes) {
      if (at + chunk.length > size) throw new Mismatch(digest, `is longer than the ${size} bytes that were announced`);
      hash.update(chunk);
      pending.push(chunk);
      waiting += chunk.length;
      at += chunk.length;
      if (waiting >= FLUSH_AT) {
        await flush();
        tell({ kind: 'downloading', current: at });
      }
    }
  } catch (error) {
    if (error instanceof Mismatch || error instanceof NoRoom || signal.aborted) throw error;
    throw new RegistryUnreachable('GET', digest, goText(error, new URL('http://registry')), { cause: error });
  } finally {
    await flush();
  }
  tell({ kind: 'downloading', current: at });
  return at;
}

/** The bytes are not those that the digest names. */
class Mismatch extends MalformedResponse {
  constructor(digest: string, why: string) {
    super(why ? `blob ${digest} ${why}` : `filesystem layer verification failed for digest ${digest}`);
  }
}

/** This host cannot keep it. What came is taken away: whoever waits for room must not find it taken by that. */
class NoRoom extends SystemFault {
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

async function hashed(path: string, signal: AbortSignal): Promise<{ hash: Hash; length: number }> {
  const hash = createHash('sha256');
  let length = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: FLUSH_AT, signal }) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    length += chunk.length;
  }
  return { hash, length };
}

const lengthOf = async (path: string): Promise<number> => (await stat(path).catch(() => undefined))?.size ?? 0;
