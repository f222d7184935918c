/**
 * The execs table: configuration and outcome. No exec outlives its container's run, so no write waits for the disk.
 */
import type { Exec, ExecConfig } from '../model/exec.ts';
import { relaxed, type Db } from './database.ts';

interface Row {
  id: string;
  container_id: string;
  created: number;
  definition: string;
  state: string;
}

type State = Pick<Exec, 'running' | 'exitCode' | 'pid' | 'started' | 'ended'>;

export class ExecRows {
  readonly #insert;
  readonly #all;
  readonly #state;
  readonly #delete;

  constructor(private readonly db: Db) {
    this.#insert = db.prepare(
      'INSERT INTO execs (id, container_id, created, definition, state) VALUES (?, ?, ?, ?, ?)',
    );
    this.#all = db.prepare('SELECT * FROM execs ORDER BY created');
    this.#state = db.prepare('UPDATE execs SET state = ? WHERE id = ?');
    this.#delete = db.prepare('DELETE FROM execs WHERE id = ?');
  }

  insert = (exec: Exec): void =>
    relaxed(
      this.db,
      () => void this.#insert.run(exec.id, exec.containerId, Date.now(), JSON.stringify(exec.config), stateOf(exec)),
    );
  setState = (exec: Exec): void => relaxed(this.db, () => void this.#state.run(stateOf(exec), exec.id));
  delete = (id: string): void => relaxed(this.db, () => void this.#delete.run(id));

  /** Without those whose rows cannot be parsed: an exec is of no use without its configuration. */
  load = (): Exec[] => (this.#all.all() as Row[]).flatMap(readable);
}

function readable(row: Row): Exec[] {
  try {
    const config = JSON.parse(row.definition) as ExecConfig;
    return [{ id: row.id, containerId: row.container_id, config, ...(JSON.parse(row.state) as State) }];
  } catch {
    return [];
  }
}

const stateOf = ({ running, exitCode, pid, started, ended }: Exec): string =>
  JSON.stringify({ running, exitCode, pid, started, ended } satisfies State);
