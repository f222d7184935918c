/**
 * The unpacker process (bundled to dist/unpacker.cjs): reads a layer's archive from stdin, jails itself in the layer's
 * directory, unpacks, and writes one JSON report to descriptor 3. Descriptors 4 and 5 receive the tar-split metadata
 * (tar-split.ts).
 *
 *   node unpacker.cjs DIRECTORY COMPRESSION PARENT-PID  <archive  3>report  4>recipe.gz  5>replaced
 *
 * DIRECTORY must exist and be empty. When the report says `ok`, everything is synced to disk.
 */
import { createReadStream, fstatSync, read, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { dieWithParent, jailProcess } from '../../sys/jail.ts';
import { syncFilesystem } from '../../sys/inode.ts';
import { FileWriteRing } from './file-write-ring.ts';
import { decompress, type Compression } from './compression.ts';
import { Extractor } from './extract.ts';
import { TarSplitWriter } from './tar-split.ts';
import { TarReader, type TarSink } from './tar-reader.ts';
import { TarError, type TarEntry } from './tar.ts';

export type Report =
  | {
      ok: true;
      diffId: string;
      size: number;
      /** Uncompressed bytes. */
      archiveSize: number;
      /** Directories without an entry of their own, in latin1. */
      implicit: string[];
    }
  | { ok: false; fault: 'archive' | 'host'; message: string };

const WRITER_THREAD = join(dirname(fileURLToPath(import.meta.url)), 'file-writer-thread.cjs');
const STDIN = 0;
const REPORT = 3;
const TAR_SPLIT = 4;
const REPLACED = 5;
const READ_SIZE = 1 << 20;
/** For a shorter archive, starting a second thread costs more than it saves. */
const MIN_THREADED_BYTES = 4 << 20;

async function main([directory, compression, parent]: string[]): Promise<void> {
  if (!dieWithParent(Number(parent))) return;
  process.umask(0);
  // Before the jail, where the thread's script cannot be read.
  const ring = new FileWriteRing(isShort() ? undefined : WRITER_THREAD);
  jailProcess(directory!);
  let report: Report;
  try {
    report = await new Unpacking(ring).run(compression as Compression);
  } catch (error) {
    const isArchive = error instanceof TarError || (error as Error).name === 'InvalidParameter';
    report = { ok: false, fault: isArchive ? 'archive' : 'host', message: (error as Error).message };
  }
  writeSync(REPORT, JSON.stringify(report));
  process.exit(0);
}

// A stream may have any length.
function isShort(): boolean {
  const input = fstatSync(STDIN);
  return input.isFile() && input.size < MIN_THREADED_BYTES;
}

class Unpacking implements TarSink {
  readonly #reader = new TarReader(this);
  readonly #tarSplit = new TarSplitWriter(TAR_SPLIT, REPLACED);
  readonly #extractor: Extractor;
  /** Whether the current entry's body is written to a file. */
  #isKept = false;
  #archiveSize = 0;

  constructor(private readonly ring: FileWriteRing) {
    this.#extractor = new Extractor(ring, (path) => this.#tarSplit.keepReplaced(path));
  }

  async run(compression: Compression): Promise<Report> {
    await (compression === 'none' ? this.#readPlain() : this.#readCompressed(compression));
    this.#reader.end();
    const implicit = this.#extractor.finish();
    const diffId = `sha256:${this.ring.finish()}`;
    await this.#tarSplit.finish();
    syncFilesystem('/');
    return { ok: true, diffId, size: this.#extractor.size, archiveSize: this.#archiveSize, implicit };
  }

  // Reads the next slab while the current one is parsed.
  async #readPlain(): Promise<void> {
    const readInto = promisify(read) as (fd: number, slab: Buffer) => Promise<{ bytesRead: number; buffer: Buffer }>;
    let reading = readInto(STDIN, this.ring.currentSlab());
    for (;;) {
      const { bytesRead, buffer } = await reading;
      if (bytesRead === 0) return;
      reading = readInto(STDIN, this.ring.nextSlab());
      reading.catch(() => undefined);
      this.#process(buffer.subarray(0, bytesRead));
      await this.#tarSplit.backpressure();
    }
  }

  async #readCompressed(compression: Compression): Promise<void> {
    const input = createReadStream('', { fd: STDIN, highWaterMark: READ_SIZE, autoClose: false });
    for await (const chunk of decompress(input, compression)) {
      for (let at = 0; at < chunk.length;) {
        const slab = this.ring.currentSlab();
        const length = chunk.copy(slab, 0, at);
        at += length;
        this.#process(slab.subarray(0, length));
      }
      await this.#tarSplit.backpressure();
    }
  }

  entry(entry: TarEntry): void {
    const path = this.#extractor.begin(entry);
    this.#isKept = path !== undefined;
    if (path !== undefined && entry.size > 0) this.#tarSplit.fileBody(path, entry.size);
  }

  data(bytes: Buffer): void {
    if (this.#isKept) this.#extractor.write(bytes);
    else this.#tarSplit.archiveBytes(bytes);
  }

  end(): void {
    this.#extractor.end();
  }

  meta(bytes: Buffer): void {
    this.#tarSplit.archiveBytes(bytes);
  }

  // `bytes` are the archive's next, at the start of the current slab.
  #process(bytes: Buffer): void {
    this.#reader.push(bytes);
    this.#archiveSize += bytes.length;
    this.ring.post(bytes.length);
  }
}

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`${(error as Error).stack}\n`);
  process.exit(1);
});
