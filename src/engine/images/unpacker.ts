/** Runs the jailed unpacker process (unpacker-main.ts). */
import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { closeSync, createReadStream, openSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { Fd } from '../../sys/libc.ts';
import { InvalidParameter, SystemFault } from '../../model/errors.ts';
import { decodesHere, decompress, feed, type Compression } from './compression.ts';
import { REPLACED_FILE, TAR_SPLIT_FILE } from './tar-split.ts';
import type { Report } from './unpacker-main.ts';

export type Unpacked = Extract<Report, { ok: true }>;

interface Place {
  /** For the layer's files; empty. */
  directory: string;
  /** For the layer's tar-split metadata. */
  home: string;
  signal?: AbortSignal | undefined;
}

const MAX_STDERR_BYTES = 2000;
/** The unpacker's objects are short-lived: a larger young generation and a single GC thread halve the GC's cost. */
const NODE_FLAGS = ['--max-semi-space-size=8', '--single-threaded-gc'];

export class Unpacker {
  /** @param script the bundled unpacker-main.ts */
  constructor(private readonly script: string) {}

  /**
   * Unpacks an archive into `directory` and writes its tar-split metadata to `home`; everything is synced to disk.
   * After a failure, the rest of a stream is not read.
   * @throws InvalidParameter when the archive is broken or tries to escape, SystemFault when the host fails or `signal`
   * aborts; no process writes to `directory` after that
   */
  async unpack(
    archive: AsyncIterable<Buffer> | Fd,
    compression: Compression,
    { directory, home, signal }: Place,
  ): Promise<Unpacked> {
    // Formats that this Node cannot decode are decoded before the jail, which has no programs.
    const isDecodedInside = compression === 'none' || decodesHere(compression);
    if (typeof archive === 'number' && isDecodedInside)
      return outcome(await this.#report(this.#spawn(archive, directory, compression, home), signal));
    // Reopened, because the stream closes its descriptor and `archive` is the caller's.
    const file = typeof archive === 'number' ? createReadStream(`/proc/self/fd/${archive}`) : undefined;
    const stream = file ?? (archive as AsyncIterable<Buffer>);
    const child = this.#spawn('pipe', directory, isDecodedInside ? compression : 'none', home);
    let inputError: unknown;
    feed(isDecodedInside ? stream : decompress(stream, compression), child.stdin!).catch((error: unknown) => {
      inputError = error;
      // Otherwise the unpacker would take the end of its input for the end of the archive.
      child.kill('SIGKILL');
    });
    try {
      return outcome(await this.#report(child, signal));
    } catch (error) {
      throw inputError ?? error;
    } finally {
      file?.destroy();
    }
  }

  #spawn(stdin: 'pipe' | Fd, directory: string, compression: Compression, home: string): ChildProcess {
    const files = [TAR_SPLIT_FILE, REPLACED_FILE].map((name) => openSync(join(home, name), 'wx', 0o600));
    try {
      const stdio: StdioOptions = [stdin, 'ignore', 'pipe', 'pipe', ...files];
      // A clean environment: NODE_OPTIONS and NODE_EXTRA_CA_CERTS are the daemon's, and loading the latter takes 50 ms.
      return spawn(process.execPath, [...NODE_FLAGS, this.script, directory, compression, String(process.pid)], {
        stdio,
        env: {},
      });
    } finally {
      files.forEach((fd) => closeSync(fd));
    }
  }

  async #report(child: ChildProcess, signal?: AbortSignal): Promise<Report> {
    const kill = (): void => void child.kill('SIGKILL');
    signal?.addEventListener('abort', kill, { once: true });
    if (signal?.aborted) kill();
    const exited = new Promise<string>((resolve, reject) => {
      child.once('error', (error) => reject(new SystemFault(`cannot start the unpacker: ${error.message}`)));
      child.once('exit', (code, signal) => resolve(signal ?? `code ${code}`));
    });
    exited.catch(() => undefined);
    const [stderr, report] = await Promise.all([
      collect(child.stderr!, MAX_STDERR_BYTES),
      collect(child.stdio[3] as Readable),
    ]);
    const exit = await exited.finally(() => signal?.removeEventListener('abort', kill));
    if (report === '') throw new SystemFault(`the unpacker died (${exit}) ${stderr.trim()}`.trim());
    return JSON.parse(report) as Report;
  }
}

function outcome(report: Report): Unpacked {
  if (report.ok) return report;
  throw report.fault === 'archive'
    ? new InvalidParameter(`invalid archive: ${report.message}`)
    : new SystemFault(`unpacking failed: ${report.message}`);
}

// Reads a stream to its end; keeps about `limit` bytes.
async function collect(stream: Readable, limit = Infinity): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    if (length < limit) chunks.push(chunk);
    length += chunk.length;
  }
  return Buffer.concat(chunks).toString();
}
