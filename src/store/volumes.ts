/** The volumes table: one row each. */
import type { Volume } from '../model/volume.ts';
import { durable, type Db } from './database.ts';

/** After a crash of the daemon, the next start completes or undoes the volumes that are not `ready`. */
export type VolumePhase = 'creating' | 'ready' | 'removing';

/** Without the mountpoint, which follows from the name. */
export type StoredVolume = Omit<Volume, 'mountpoint'>;

interface Row {
  name: string;
  created: bigint;
  definition: string;
}

type Definition = Omit<StoredVolume, 'name' | 'created'>;

export class VolumeStore {
  readonly #insert;
  readonly #get;
  readonly #inPhase;
  readonly #setPhase;
  readonly #delete;

  constructor(private readonly db: Db) {
    this.#insert = db.prepare("INSERT INTO volumes (name, phase, created, definition) VALUES (?, 'creating', ?, ?)");
    this.#get = db.prepare<[string]>("SELECT * FROM volumes WHERE name = ? AND phase = 'ready'").safeIntegers(true);
    this.#inPhase = db.prepare<[VolumePhase]>('SELECT * FROM volumes WHERE phase = ? ORDER BY name').safeIntegers(true);
    this.#setPhase = db.prepare<[VolumePhase, string]>('UPDATE volumes SET phase = ? WHERE name = ?');
    this.#delete = db.prepare<[string]>('DELETE FROM volumes WHERE name = ?');
  }

  /** Runs `work` as one transaction, which is on disk when this returns. */
  transaction = <T>(work: () => T): T => durable(this.db, work);

  /** Records a volume before it is created. */
  insertCreating({ name, created, ...definition }: StoredVolume): void {
    this.#insert.run(name, BigInt(created), JSON.stringify(definition satisfies Definition));
  }

  setPhase = (name: string, phase: VolumePhase): void => void this.#setPhase.run(phase, name);
  delete = (name: string): void => void this.#delete.run(name);

  /** A `ready` volume. */
  get(name: string): StoredVolume | undefined {
    const row = this.#get.get(name) as Row | undefined;
    return row && fromRow(row);
  }

  inPhase = (phase: VolumePhase): StoredVolume[] => (this.#inPhase.all(phase) as Row[]).map(fromRow);
}

function fromRow({ name, created, definition }: Row): StoredVolume {
  const own = { name, created: String(created) };
  try {
    return { ...parsed(definition), ...own };
  } catch (error) {
    const damaged = `the row of this volume in the store cannot be read: ${(error as Error).message}`;
    return { ...own, driver: 'local', labels: {}, options: {}, anonymous: false, damaged };
  }
}

/** @throws Error */
function parsed(definition: string): Definition {
  const value = JSON.parse(definition) as Partial<Definition> | null;
  if (!value?.labels || !value.options) throw new Error('it has no labels or no options');
  return value as Definition;
}
