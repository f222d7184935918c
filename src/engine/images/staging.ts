/**
 * An archive of images, spooled to disk so that its parts can be read in any order. No name in it becomes a name on
 * disk.
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
/** Manifests and configurations are read whole. */
const MAX_DOCUMENT = 16 * 1024 * 1024;

export class Staging {
  /** By name in the archive: the file on disk, or the name that a link leads to. */
  readonly #parts = new Map<string, { file: string } | { link: string }>();

  private constructor(private readonly directory: string) {}

  /** Spools `archive` (not compressed) below `parent`. @throws InvalidParameter for a broken archive */
  static async spool(archive: AsyncIterable<Buffer>, parent: string): Promise<Staging> {
    mkdirSync(parent, { recursive: true, mode: 0o700 });
    const staging = new Staging(mkdtempSync(join(parent, 'load-')));
    try {
      await staging.#take(archive);
      return staging;
    } catch (error) {
      await staging.discard();
      throw error instanceof TarError ? new InvalidParameter(`invalid archive: ${error.message}`) : error;
    }
  }

  discard = (): Promise<void> => rm(this.directory, { recursive: true, force: true });

  has = (name: string): boolean => this.#find(name) !== undefined;

  /** The file on disk. @throws InvalidParameter when the archive has none of that name */
  file(name: string): string {
    return this.#find(name) ?? absent(name);
  }

  /** @throws InvalidParameter */
  async read(name: string): Promise<Buffer> {
    const file = this.file(name);
    const { size } = await stat(file);
    if (size > MAX_DOCUMENT) throw new InvalidParameter(`invalid archive: ${name} is too long (${size} bytes)`);
    return readFile(file);
  }

  /** @throws InvalidParameter */
  async json(name: string): Promise<unknown> {
    const bytes = await this.read(name);
    try {
      return JSON.parse(bytes.toString()) as unknown;
    } catch (error) {
      throw new InvalidParameter(`invalid archive: failed to decode ${name}: ${(error as Error).message}`);
    }
  }

  // Old archives share layers by links: `../<id>/layer.tar`.
  #find(name: string): string | undefined {
    let at = normalise(name);
    for (let links = 0; links < MAX_LINKS; links++) {
      const part = this.#parts.get(at);
      if (!part || 'file' in part) return part?.file;
      at = part.link;
    }
    return undefined;
  }

  async #take(archive: AsyncIterable<Buffer>): Promise<void> {
    let handle: FileHandle | undefined;
    const steps: (() => Promise<void>)[] = [];
    const reader = new TarReader({
      entry: (entry) =>
        void steps.push(async () => {
          handle = await this.#begin(entry);
        }),
      data: (bytes) => void steps.push(async () => handle?.writeFile(bytes)),
      end: () =>
        void steps.push(async () => {
          await handle?.close();
          handle = undefined;
        }),
      meta: () => undefined,
    });
    try {
      for await (const chunk of archive) {
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
    if (this.#parts.size >= MAX_ENTRIES) throw new TarError(`more than ${MAX_ENTRIES} entries`);
    switch (type) {
      case 'directory':
        return undefined;
      case 'symlink':
        this.#parts.set(name, { link: normalise(posix.join(posix.dirname(name), link.toString())) });
        return undefined;
      case 'hardlink':
        this.#parts.set(name, { link: normalise(link.toString()) });
        return undefined;
      case 'file': {
        const file = join(this.directory, String(this.#parts.size));
        this.#parts.set(name, { file });
        // A name that comes twice: the last one counts, and has a file of its own.
        return open(file, 'w', 0o600);
      }
      default:
        throw new TarError(`${quote(path)}: a ${type} does not belong into an archive of images`);
    }
  }
}

// Names only ever select among the archive's own parts: `..` above its root stays at its root.
const normalise = (name: string): string => posix.join('/', name);

function absent(name: string): never {
  throw new InvalidParameter(`invalid archive: does not contain ${name}`);
}
