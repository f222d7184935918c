/** Unpacks a layer in a jailed process (unpacker.ts). */
import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { closeSync, createReadStream, openSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { Fd } from '../../sys/libc.ts';
import { InvalidParameter, SystemFault } from '../../model/errors.ts';
import { decodesHere, decompress, feed, type Compression } from './compression.ts';
import { RECIPE, REPLACED } from './tar-split.ts';
import type { Report } from './unpacker.ts';

export type Unpacked = Extract<Report, { ok: true }>;

/** Where a layer's files go, and beside them what belongs to them. */
interface Place {
  directory: string;
  home: string;
  signal?: AbortSignal | undefined;
}

const MAX_STDERR = 2000;
/** What it makes is soon garbage: rarely collected, and by the thread that made it, this costs half as much. */
const FLAGS = ['--max-semi-space-size=8', '--single-threaded-gc'];

export class Unpacker {
  /** `script` is the bundled unpacker. */
  constructor(private readonly script: string) {}

  /**
   * Unpacks `archive` into the empty directory `directory`; all of it is on disk afterwards, and in `home` its recipe.
   * A stream that turns out bad is still read to its end, behind the caller's back: its sender may listen for the
   * answer only then.
   * @throws InvalidParameter when the archive is broken or tries to get out, SystemFault when the host fails or
   * `signal` ends it: nobody writes then any more
   */
  async unpack(
    archive: AsyncIterable<Buffer> | Fd,
    compression: Compression,
    { directory, home, signal }: Place,
  ): Promise<Unpacked> {
    // What this Node cannot decode itself is decoded before the jail: its programs are outside.
    const inside = compression === 'none' || decodesHere(compression);
    if (typeof archive === 'number' && inside)
      return outcome(await this.#report(this.#spawn(archive, directory, compression, home), signal));
    // By a descriptor of its own: that one is the caller's to close.
    const file = typeof archive === 'number' ? createReadStream(`/proc/self/fd/${archive}`) : undefined;
    const stream = file ?? (archive as AsyncIterable<Buffer>);
    const child = this.#spawn('pipe', directory, inside ? compression : 'none', home);
    let fault: unknown;
    feed(inside ? stream : decompress(stream, compression), child.stdin!).catch((error: unknown) => {
      fault = error;
      // Cut off, not complete: the unpacker must not take it for an archive that ends here.
      child.kill('SIGKILL');
    });
    try {
      return outcome(await this.#report(child, signal));
    } catch (error) {
      throw fault ?? error;
    } finally {
      // Nobody sends it: the rest need not be read.
      file?.destroy();
    }
  }

  #spawn(stdin: 'pipe' | Fd, directory: string, compression: Compression, home: string): ChildProcess {
    const files = [RECIPE, REPLACED].map((name) => openSync(join(home, name), 'wx', 0o600));
    try {
      const stdio: StdioOptions = [stdin, 'ignore', 'pipe', 'pipe', ...files];
      // A clean environment: NODE_OPTIONS and NODE_EXTRA_CA_CERTS are the daemon's, and the latter costs 50 ms.
      return spawn(process.execPath, [...FLAGS, this.script, directory, compression, String(process.pid)], {
        stdio,
        env: {},
      });
    } finally {
      files.forEach((fd) => closeSync(fd));
    }
  }

  async #report(child: ChildProcess, signal?: AbortSignal): Promise<Report> {
    const end = (): void => void child.kill('SIGKILL');
    signal?.addEventListener('abort', end, { once: true });
    const ended = new Promise<string>((resolve, reject) => {
      child.once('error', (error) => reject(new SystemFault(`cannot start the unpacker: ${error.message}`)));
      child.once('exit', (code, signal) => resolve(signal ?? `code ${code}`));
    });
    ended.catch(() => undefined);
    const [words, text] = await Promise.all([collect(child.stderr!, MAX_STDERR), collect(child.stdio[3] as Readable)]);
    const ending = await ended.finally(() => signal?.removeEventListener('abort', end));
    if (text === '') throw new SystemFault(`the unpacker died (${ending}) ${words.trim()}`.trim());
    return JSON.parse(text) as Report;
  }
}

function outcome(report: Report): Unpacked {
  if (report.ok) return report;
  throw report.fault === 'archive'
    ? new InvalidParameter(`invalid archive: ${report.message}`)
    : new SystemFault(`unpacking failed: ${report.message}`);
}

async function collect(stream: Readable, limit = Infinity): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    if (length < limit) chunks.push(chunk);
    length += chunk.length;
  }
  return Buffer.concat(chunks).toString();
}
