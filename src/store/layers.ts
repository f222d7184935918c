/**
 * The layers table: one row each, however many images share it. A row that is not `ready` belongs to an unpacking or a
 * removal in progress.
 */
import type { Db } from './database.ts';

export interface LayerRow {
  /** Unique. A placeholder while the row is not ready, so that the real chain ID remains free. */
  chainId: string;
  diffId: string;
  /** Chain ID of the layer below; '' for the lowest. */
  parent: string;
  /** Name of its directory. */
  directory: string;
  phase: 'unpacking' | 'ready' | 'removing';
  /** Total bytes of its files. */
  size: number;
  /** Bytes of its archive, uncompressed. */
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
  readonly #insertUnpacking;
  readonly #ready;
  readonly #removing;
  readonly #delete;
  readonly #byChain;
  readonly #all;

  constructor(db: Db) {
    this.#insertUnpacking = db.prepare(
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

  /** Called before the directory is created. */
  insertUnpacking = (directory: string): void => void this.#insertUnpacking.run(placeholder(directory), directory);
  ready = ({ chainId, diffId, parent, size, archiveSize, directory }: Omit<LayerRow, 'phase'>): void =>
    void this.#ready.run(chainId, diffId, parent, size, archiveSize, directory);
  /** Called before the directory is deleted. */
  setRemoving = (directory: string): void => void this.#removing.run(placeholder(directory), directory);
  delete = (directory: string): void => void this.#delete.run(directory);

  /** The `ready` layer with this chain ID. */
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
