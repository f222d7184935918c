/**
 * An archive of images, spooled to disk for random access. Names in the archive never become names on disk: files are
 * numbered.
 */
import { mkdtempSync, mkdirSync } from 'node:fs';
import { open, readFile, rm, stat, type FileHandle } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { InvalidParameter } from '../../model/errors.ts';
import { TarReader } from './tar-reader.ts';
import { quote, TarError, type TarEntry } from './tar.ts';

/** An archive of a hundred images has far fewer. */
const MAX_ENTRIES = 20_000;
const MAX_LINKS = 10;
/** For manifests and configurations, which are read into memory. */
const MAX_DOCUMENT_BYTES = 16 * 1024 * 1024;

export class Staging {
  /** By name in the archive: the file on disk, or the target name of a link. */
  readonly #entries = new Map<string, { file: string } | { link: string }>();
  /** Of any type, several of one name included. */
  #count = 0;

  private constructor(private readonly directory: string) {}

  /** Spools an uncompressed archive into a new directory in `parent`. @throws InvalidParameter for a broken archive */
  static async spool(archive: AsyncIterable<Buffer>, parent: string, signal?: AbortSignal): Promise<Staging> {
    mkdirSync(parent, { recursive: true, mode: 0o700 });
    const staging = new Staging(mkdtempSync(join(parent, 'load-')));
    try {
      await staging.#spool(archive, signal);
      return staging;
    } catch (error) {
      await staging.discard();
      throw error instanceof TarError ? new InvalidParameter(`invalid archive: ${error.message}`) : error;
    }
  }

  /** Deletes the spooled files. */
  discard = (): Promise<void> => rm(this.directory, { recursive: true, force: true });

  has = (name: string): boolean => this.#find(name) !== undefined;

  /** The names of all files and links, from the archive's root: `/a/b`. */
  names = (): string[] => [...this.#entries.keys()];

  /** The path on disk. @throws InvalidParameter when the archive has no such file */
  file(name: string): string {
    return this.#find(name) ?? absent(name);
  }

  /** Reads a document. @throws InvalidParameter when it is missing or too long */
  async read(name: string): Promise<Buffer> {
    const file = this.file(name);
    const { size } = await stat(file);
    if (size > MAX_DOCUMENT_BYTES) throw new InvalidParameter(`invalid archive: ${name} is too long (${size} bytes)`);
    return readFile(file);
  }

  /** Reads and parses a document. @throws InvalidParameter when it is missing, too long or not JSON */
  async json(name: string): Promise<unknown> {
    const bytes = await this.read(name);
    try {
      return JSON.parse(bytes.toString()) as unknown;
    } catch (error) {
      throw new InvalidParameter(`invalid archive: failed to decode ${name}: ${(error as Error).message}`);
    }
  }

  // Archives of old Docker versions share layers through links: `../<id>/layer.tar`.
  #find(name: string): string | undefined {
    let at = normalise(name);
    for (let links = 0; links < MAX_LINKS; links++) {
      const entry = this.#entries.get(at);
      if (!entry || 'file' in entry) return entry?.file;
      at = entry.link;
    }
    return undefined;
  }

  async #spool(archive: AsyncIterable<Buffer>, signal: AbortSignal | undefined): Promise<void> {
    let handle: FileHandle | undefined;
    // TarSink is synchronous: collects the work of one chunk, and does it before the next.
    const steps: (() => Promise<void>)[] = [];
    const closeFile = async (): Promise<void> => {
      await handle?.close();
      handle = undefined;
    };
    const reader = new TarReader({
      entry: (entry) =>
        void steps.push(async () => {
          handle = await this.#begin(entry);
        }),
      data: (bytes) => void steps.push(async () => handle?.writeFile(bytes)),
      end: () => void steps.push(closeFile),
      meta: () => undefined,
    });
    try {
      for await (const chunk of archive) {
        signal?.throwIfAborted();
        reader.push(chunk);
        for (const step of steps.splice(0)) await step();
      }
      reader.end();
    } finally {
      await handle?.close();
    }
  }

  async #begin({ type, path, link }: TarEntry): Promise<FileHandle | undefined> {
    const name = normalise(Buffer.from(path, 'latin1').toString());
    if (++this.#count > MAX_ENTRIES) throw new TarError(`more than ${MAX_ENTRIES} entries`);
    switch (type) {
      case 'directory':
        return undefined;
      case 'symlink':
        this.#entries.set(name, { link: normalise(posix.join(posix.dirname(name), link.toString())) });
        return undefined;
      case 'hardlink':
        this.#entries.set(name, { link: normalise(link.toString()) });
        return undefined;
      case 'file': {
        // Of several entries with one name the last counts.
        const file = join(this.directory, String(this.#count));
        this.#entries.set(name, { file });
        return open(file, 'w', 0o600);
      }
      default:
        throw new TarError(`${quote(path)}: a ${type} does not belong into an archive of images`);
    }
  }
}

// Resolves `.` and `..` within the archive: nothing is above its root.
const normalise = (name: string): string => posix.join('/', name);

function absent(name: string): never {
  throw new InvalidParameter(`invalid archive: does not contain ${name}`);
}
