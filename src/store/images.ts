/** The images table, and the names of images. */
import { durable, type Db } from './database.ts';

export interface ImageRow {
  /** sha256:… of `config`. */
  id: string;
  /** The configuration, byte for byte: its hash is the id. */
  config: Buffer;
  /** Id of the local image it was built or committed from; '' for none. */
  parent: string;
  /** Wall ns of its arrival in this store. */
  created: string;
  /** Wall ns of the last tagging; '0' = never. */
  tagged: string;
  /** Bytes of all its layers. */
  size: number;
  /** Chain IDs, lowest first. */
  chains: string[];
  /** The row does not say which they are. */
  chainsLost?: boolean;
}

interface Row {
  id: string;
  config: Buffer;
  parent: string;
  created: bigint;
  tagged: bigint;
  size: bigint;
  chains: string;
}

export class ImageRows {
  readonly #insert;
  readonly #byId;
  readonly #byPrefix;
  readonly #all;
  readonly #children;
  readonly #parent;
  readonly #tagged;
  readonly #delete;
  readonly #setName;
  readonly #removeName;
  readonly #byName;
  readonly #names;
  readonly #allNames;

  /** Changes whenever an image is added or deleted or a name changes. */
  revision = 0;

  constructor(private readonly db: Db) {
    this.#insert = db.prepare(
      'INSERT INTO images (id, config, created, size, chains) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING',
    );
    this.#byId = db.prepare('SELECT * FROM images WHERE id = ?').safeIntegers();
    // 'g' sorts after every hexadecimal digit.
    this.#byPrefix = db.prepare("SELECT id FROM images WHERE id >= @prefix AND id < @prefix || 'g' LIMIT 2").pluck();
    this.#all = db.prepare('SELECT * FROM images ORDER BY created').safeIntegers();
    this.#children = db.prepare('SELECT id FROM images WHERE parent = ?').pluck();
    this.#parent = db.prepare('UPDATE images SET parent = ? WHERE id = ?');
    this.#tagged = db.prepare('UPDATE images SET tagged = ? WHERE id = ?');
    this.#delete = db.prepare('DELETE FROM images WHERE id = ?');
    this.#setName = db.prepare(
      'INSERT INTO image_names (name, image_id) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET image_id = excluded.image_id',
    );
    this.#removeName = db.prepare('DELETE FROM image_names WHERE name = ?');
    this.#byName = db.prepare('SELECT image_id FROM image_names WHERE name = ?').pluck();
    this.#names = db.prepare('SELECT name FROM image_names WHERE image_id = ? ORDER BY name').pluck();
    this.#allNames = db.prepare('SELECT name, image_id FROM image_names ORDER BY name');
  }

  /** Runs `work` as one transaction, which is on disk when this returns. */
  transaction = <T>(work: () => T): T => durable(this.db, work);

  /** Returns false if the image exists already. */
  insert(row: Pick<ImageRow, 'id' | 'config' | 'created' | 'size' | 'chains'>): boolean {
    this.revision++;
    return this.#insert.run(row.id, row.config, BigInt(row.created), row.size, JSON.stringify(row.chains)).changes > 0;
  }

  byId(id: string): ImageRow | undefined {
    const row = this.#byId.get(id) as Row | undefined;
    return row && fromRow(row);
  }

  /** At most two of the ids with this prefix (which includes `sha256:`): enough to see that it is ambiguous. */
  idsByPrefix = (prefix: string): string[] => this.#byPrefix.all({ prefix }) as string[];
  /** In the order of their arrival. */
  all = (): ImageRow[] => (this.#all.all() as Row[]).map(fromRow);
  childrenOf = (id: string): string[] => this.#children.all(id) as string[];
  setParent = (id: string, parent: string): void => void this.#parent.run(parent, id);
  setTagged = (id: string, time: string): void => void this.#tagged.run(BigInt(time), id);
  /** Deletes the image and its names. */
  delete(id: string): void {
    this.revision++;
    this.#delete.run(id);
  }

  /** Gives the name to this image; another image that has it loses it. */
  setName(name: string, id: string): void {
    this.revision++;
    this.#setName.run(name, id);
  }

  removeName(name: string): void {
    this.revision++;
    this.#removeName.run(name);
  }

  idByName = (name: string): string | undefined => this.#byName.get(name) as string | undefined;
  /** Sorted. */
  namesOf = (id: string): string[] => this.#names.all(id) as string[];

  /** All names, sorted, by image id. */
  allNames(): Map<string, string[]> {
    const names = new Map<string, string[]>();
    for (const { name, image_id: id } of this.#allNames.all() as { name: string; image_id: string }[]) {
      const known = names.get(id);
      if (known) known.push(name);
      else names.set(id, [name]);
    }
    return names;
  }
}

const fromRow = (row: Row): ImageRow => ({
  id: row.id,
  config: row.config,
  parent: row.parent,
  created: String(row.created),
  tagged: String(row.tagged),
  size: Number(row.size),
  ...chainsOf(row.chains),
});

function chainsOf(text: string): Pick<ImageRow, 'chains' | 'chainsLost'> {
  try {
    const chains: unknown = JSON.parse(text);
    if (Array.isArray(chains)) return { chains: chains as string[] };
  } catch {
    // As any other text that is no list.
  }
  return { chains: [], chainsLost: true };
}
