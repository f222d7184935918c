/** Images at rest, and the names they have. */
import { faultPoint } from '../sys/fault.ts';
import type { Db } from './database.ts';

export interface ImageRow {
  /** sha256:… of `config`. */
  id: string;
  /** The configuration's bytes, as hashed. */
  config: Buffer;
  /** Id of the image it was made from here; '' for none. */
  parent: string;
  /** Wall ns, when it came here. */
  created: string;
  /** Wall ns of the last tagging, '0' = never. */
  tagged: string;
  /** Bytes of all its layers. */
  size: number;
  /** Chain IDs, lowest first. */
  chains: string[];
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

  /** Changes with every image that comes or goes and every name that moves. */
  revision = 0;

  constructor(private readonly db: Db) {
    this.#insert = db.prepare(
      'INSERT INTO images (id, config, created, size, chains) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING',
    );
    this.#byId = db.prepare('SELECT * FROM images WHERE id = ?').safeIntegers();
    // 'g' comes behind every hexadecimal digit.
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

  /** Runs `work` as one transaction: all of it is on disk when it returns, or none. */
  transaction<T>(work: () => T): T {
    faultPoint('commit.before');
    const result = this.db.transaction(work)();
    faultPoint('commit.after');
    return result;
  }

  /** False when it is there already. */
  insert(row: Pick<ImageRow, 'id' | 'config' | 'created' | 'size' | 'chains'>): boolean {
    this.revision++;
    return this.#insert.run(row.id, row.config, BigInt(row.created), row.size, JSON.stringify(row.chains)).changes > 0;
  }

  byId(id: string): ImageRow | undefined {
    const row = this.#byId.get(id) as Row | undefined;
    return row && fromRow(row);
  }

  /** Ids that begin so (`sha256:` included): at most two are told. */
  idsByPrefix = (prefix: string): string[] => this.#byPrefix.all({ prefix }) as string[];
  /** In the order of their coming here. */
  all = (): ImageRow[] => (this.#all.all() as Row[]).map(fromRow);
  childrenOf = (id: string): string[] => this.#children.all(id) as string[];
  setParent = (id: string, parent: string): void => void this.#parent.run(parent, id);
  setTagged = (id: string, time: string): void => void this.#tagged.run(BigInt(time), id);
  /** And its names. */
  delete(id: string): void {
    this.revision++;
    this.#delete.run(id);
  }

  /** Moves the name here if another image has it. */
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
  chains: JSON.parse(row.chains) as string[],
});
