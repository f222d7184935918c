/** Layers at rest: one row each, whatever images share them. A row that is not `ready` is half made or half gone. */
import type { Db } from './database.ts';

export interface LayerRow {
  /** Unique; of a row that is not ready a placeholder, so that the true one is free. */
  chainId: string;
  diffId: string;
  /** Chain ID of the layer below; '' for the lowest. */
  parent: string;
  /** Its directory's name. */
  directory: string;
  phase: 'unpacking' | 'ready' | 'removing';
  /** Bytes of its files. */
  size: number;
  /** Bytes of the archive that it came as, not compressed. */
  archiveSize: number;
}

interface Row {
  chain_id: string;
  diff_id: string;
  parent: string;
  directory: string;
  phase: string;
  size: number;
  archive_size: number;
}

const placeholder = (directory: string): string => `~${directory}`;

export class LayerRows {
  readonly #intend;
  readonly #ready;
  readonly #removing;
  readonly #delete;
  readonly #byChain;
  readonly #all;

  constructor(db: Db) {
    this.#intend = db.prepare(
      "INSERT INTO layers (chain_id, diff_id, directory, phase) VALUES (?, '', ?, 'unpacking')",
    );
    this.#ready = db.prepare(
      "UPDATE layers SET chain_id = ?, diff_id = ?, parent = ?, size = ?, archive_size = ?, phase = 'ready' WHERE directory = ?",
    );
    this.#removing = db.prepare("UPDATE layers SET chain_id = ?, phase = 'removing' WHERE directory = ?");
    this.#delete = db.prepare('DELETE FROM layers WHERE directory = ?');
    this.#byChain = db.prepare("SELECT * FROM layers WHERE chain_id = ? AND phase = 'ready'");
    this.#all = db.prepare('SELECT * FROM layers ORDER BY directory');
  }

  /** Recorded before the directory is made. */
  intend = (directory: string): void => void this.#intend.run(placeholder(directory), directory);
  ready = ({ chainId, diffId, parent, size, archiveSize, directory }: Omit<LayerRow, 'phase'>): void =>
    void this.#ready.run(chainId, diffId, parent, size, archiveSize, directory);
  /** Recorded before the directory is taken away. */
  setRemoving = (directory: string): void => void this.#removing.run(placeholder(directory), directory);
  delete = (directory: string): void => void this.#delete.run(directory);

  /** Only one that is ready. */
  byChain(chainId: string): LayerRow | undefined {
    const row = this.#byChain.get(chainId) as Row | undefined;
    return row && fromRow(row);
  }

  all = (): LayerRow[] => (this.#all.all() as Row[]).map(fromRow);
}

const fromRow = (row: Row): LayerRow => ({
  chainId: row.chain_id,
  diffId: row.diff_id,
  parent: row.parent,
  directory: row.directory,
  phase: row.phase as LayerRow['phase'],
  size: row.size,
  archiveSize: row.archive_size,
});
