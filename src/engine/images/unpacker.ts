/**
 * The unpacker, a process of its own (bundled to dist/unpacker.cjs): reads a layer's archive on stdin, jails itself in
 * the layer's directory,
 * unpacks, and tells on descriptor 3, as one JSON document, what became of it. Descriptors 4 and 5 are the recipe's
 * files (tar-split.ts).
 *
 *   node unpacker.cjs DIRECTORY COMPRESSION PARENT-PID  <archive  3>report  4>recipe.gz  5>replaced
 *
 * DIRECTORY exists and is empty. When the report says `ok` everything is on disk.
 */
import { createReadStream, fstatSync, read, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { dieWithParent, jailProcess } from '../../sys/jail.ts';
import { syncFilesystem } from '../../sys/inode.ts';
import { Bodies } from './file-write-ring.ts';
import { decompress, type Compression } from './compression.ts';
import { Extractor } from './extract.ts';
import { RecipeWriter } from './tar-split.ts';
import { TarReader, type TarSink } from './tar-reader.ts';
import { TarError, type TarEntry } from './tar.ts';

export type Report =
  | {
      ok: true;
      diffId: string;
      size: number;
      /** Bytes of the archive, not compressed. */ archiveSize: number;
      /** Directories that no entry named, one character a byte. */ implicit: string[];
    }
  | { ok: false; fault: 'archive' | 'host'; message: string };

const WRITER_THREAD = join(dirname(fileURLToPath(import.meta.url)), 'file-writer-thread.cjs');
const STDIN = 0;
const REPORT = 3;
const RECIPE = 4;
const REPLACED = 5;
const READ_SIZE = 1 << 20;
/** Of an archive that is shorter a second thread's start costs more than it saves. */
const WORTH_A_THREAD = 4 << 20;

/** What the parent could not start with is the parent's to see on stderr; what the archive does wrong is reported. */
async function main([directory, compression, parent]: string[]): Promise<void> {
  if (!dieWithParent(Number(parent))) return;
  process.umask(0);
  // Read now: nothing can be once the jail is shut.
  const bodies = new Bodies(isShort() ? undefined : WRITER_THREAD);
  jailProcess(directory!);
  let report: Report;
  try {
    report = await new Unpacking(bodies).run(compression as Compression);
  } catch (error) {
    const isArchive = error instanceof TarError || (error as Error).name === 'InvalidParameter';
    report = { ok: false, fault: isArchive ? 'archive' : 'host', message: (error as Error).message };
  }
  writeSync(REPORT, JSON.stringify(report));
  process.exit(0);
}

// Of a stream nobody knows.
function isShort(): boolean {
  const input = fstatSync(STDIN);
  return input.isFile() && input.size < WORTH_A_THREAD;
}

class Unpacking implements TarSink {
  readonly #reader = new TarReader(this);
  readonly #recipe = new RecipeWriter(RECIPE, REPLACED);
  readonly #extractor: Extractor;
  /** Whether the present entry's body goes into a file. */
  #isKept = false;
  #archiveSize = 0;

  constructor(private readonly bodies: Bodies) {
    this.#extractor = new Extractor(bodies, (path) => this.#recipe.keep(path));
  }

  async run(compression: Compression): Promise<Report> {
    await (compression === 'none' ? this.#plain() : this.#compressed(compression));
    this.#reader.end();
    const implicit = this.#extractor.finish();
    const diffId = `sha256:${this.bodies.finish()}`;
    await this.#recipe.finish();
    syncFilesystem('/');
    return { ok: true, diffId, size: this.#extractor.size, archiveSize: this.#archiveSize, implicit };
  }

  // While a slab is looked at, the next one is read.
  async #plain(): Promise<void> {
    const into = promisify(read) as (fd: number, buffer: Buffer) => Promise<{ bytesRead: number; buffer: Buffer }>;
    for (let coming = into(STDIN, this.bodies.slab()); ;) {
      const { bytesRead, buffer } = await coming;
      if (bytesRead === 0) return;
      coming = into(STDIN, this.bodies.nextSlab());
      coming.catch(() => undefined);
      this.#take(buffer.subarray(0, bytesRead));
      await this.#recipe.room();
    }
  }

  async #compressed(compression: Compression): Promise<void> {
    const input = createReadStream('', { fd: STDIN, highWaterMark: READ_SIZE, autoClose: false });
    for await (const chunk of decompress(input, compression)) {
      for (let at = 0; at < chunk.length;) {
        const slab = this.bodies.slab();
        const length = chunk.copy(slab, 0, at);
        at += length;
        this.#take(slab.subarray(0, length));
      }
      await this.#recipe.room();
    }
  }

  entry(entry: TarEntry): void {
    const path = this.#extractor.begin(entry);
    this.#isKept = path !== undefined;
    if (path !== undefined && entry.size > 0) this.#recipe.file(path, entry.size);
  }

  data(bytes: Buffer): void {
    if (this.#isKept) this.#extractor.write(bytes);
    else this.#recipe.bytes(bytes);
  }

  end(): void {
    this.#extractor.end();
  }

  meta(bytes: Buffer): void {
    this.#recipe.bytes(bytes);
  }

  // The next bytes, at the beginning of the present slab.
  #take(bytes: Buffer): void {
    this.#reader.push(bytes);
    this.#archiveSize += bytes.length;
    this.bodies.post(bytes.length);
  }
}

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`${(error as Error).stack}\n`);
  process.exit(1);
});
