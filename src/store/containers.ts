/** The containers table: one row each. */
import type { Container, Phase } from '../model/container.ts';
import { exactJson, parseExactJson } from '../protocol/exact-json.ts';
import type { RunState } from '../protocol/runstate.ts';
import { faultPoint } from '../sys/fault.ts';
import { durable, Flush, relaxed, type Db } from './database.ts';

interface Row {
  id: string;
  name: string;
  phase: string;
  created: bigint;
  image_id: string;
  definition: string;
  network: string;
  state: string;
  cursor: bigint;
}

type Definition = Pick<
  Container,
  'config' | 'hostConfig' | 'path' | 'args' | 'mounts' | 'appArmorProfile' | 'platform'
>;
type Network = Pick<Container, 'endpoints' | 'ports' | 'netns'>;

/** A row that cannot be parsed, and what of it can. Its definition is kept as it is. */
export interface Unreadable {
  id: string;
  name: string;
  phase: Phase;
  created: string;
  imageId: string;
  stored: { state: RunState; cursor: number } | undefined;
  /** As it is in the row. */
  definition: string;
  reason: string;
}

export class ContainerRows {
  readonly #insert;
  readonly #all;
  readonly #phase;
  readonly #name;
  readonly #definition;
  readonly #network;
  readonly #state;
  readonly #delete;
  readonly #flush: Flush;
  /** Rows that were not parsed: what they say must not be overwritten with less. */
  readonly #damaged = new Set<string>();

  constructor(private readonly db: Db) {
    this.#flush = new Flush(db);
    this.#insert = db.prepare(
      `INSERT INTO containers (id, name, phase, created, image_id, definition, network, state, cursor)
       VALUES (@id, @name, @phase, @created, @image_id, @definition, @network, @state, @cursor)`,
    );
    this.#all = db.prepare('SELECT * FROM containers ORDER BY created').safeIntegers();
    this.#phase = db.prepare('UPDATE containers SET phase = ? WHERE id = ?');
    this.#name = db.prepare('UPDATE containers SET name = ? WHERE id = ?');
    this.#definition = db.prepare('UPDATE containers SET definition = ? WHERE id = ?');
    this.#network = db.prepare('UPDATE containers SET network = ? WHERE id = ?');
    this.#state = db.prepare('UPDATE containers SET state = ?, cursor = ? WHERE id = ?');
    this.#delete = db.prepare('DELETE FROM containers WHERE id = ?');
  }

  /** Runs `work` as one transaction, which is on disk when this returns. */
  transaction = <T>(work: () => T): T => durable(this.db, work);

  /** Does not wait for the disk: for data that the journals can restore, or that a reboot invalidates. */
  relaxed<T>(work: () => T): T {
    faultPoint('relaxed.before');
    const result = relaxed(this.db, work);
    faultPoint('relaxed.after');
    return result;
  }

  /** Resolves when every commit until now is on disk. */
  flushed = (): Promise<void> => this.#flush.done();
  close = (): void => this.#flush.close();

  insert(c: Container): void {
    this.#insert.run({
      id: c.id,
      name: c.name,
      phase: c.phase,
      created: BigInt(c.created),
      image_id: c.imageId,
      definition: definitionOf(c),
      network: networkFieldsOf(c),
      state: JSON.stringify(c.state),
      cursor: c.cursor,
    });
  }

  /** Every container, oldest first, and the rows that cannot be parsed. */
  load(): { containers: Container[]; unreadable: Unreadable[] } {
    const containers: Container[] = [];
    const unreadable: Unreadable[] = [];
    for (const row of this.#all.all() as Row[]) {
      try {
        containers.push(fromRow(row));
      } catch (error) {
        unreadable.push(readable(row, (error as Error).message));
        this.#damaged.add(row.id);
      }
    }
    return { containers, unreadable };
  }

  setPhase = (id: string, phase: Phase): void => void this.#phase.run(phase, id);
  setName = (id: string, name: string): void => void this.#name.run(name, id);
  setDefinition(c: Container): void {
    if (!this.#damaged.has(c.id)) this.#definition.run(definitionOf(c), c.id);
  }
  /** Relaxed: a reboot invalidates it together with the network itself. */
  setNetwork(c: Container): void {
    if (!this.#damaged.has(c.id)) this.relaxed(() => void this.#network.run(networkFieldsOf(c), c.id));
  }
  /** `cursor` is the last journal record that `state` includes, so they are stored together. */
  setState = (id: string, state: RunState, cursor: number): void =>
    void this.#state.run(JSON.stringify(state), cursor, id);
  delete = (id: string): void => void this.#delete.run(id);
}

function definitionOf(c: Container): string {
  const { config, hostConfig, path, args, mounts, appArmorProfile, platform } = c;
  return exactJson({ config, hostConfig, path, args, mounts, appArmorProfile, platform } satisfies Definition);
}

function networkFieldsOf(c: Container): string {
  const { endpoints, ports, netns } = c;
  return JSON.stringify({ endpoints, ports, netns } satisfies Network);
}

function fromRow(row: Row): Container {
  return {
    id: row.id,
    name: row.name,
    phase: row.phase as Phase,
    created: String(row.created),
    imageId: row.image_id,
    ...(parseExactJson(row.definition) as Definition),
    ...(JSON.parse(row.network) as Network),
    state: JSON.parse(row.state) as RunState,
    cursor: Number(row.cursor),
  };
}

function readable(row: Row, reason: string): Unreadable {
  let stored: Unreadable['stored'];
  try {
    stored = { state: JSON.parse(row.state) as RunState, cursor: Number(row.cursor) };
  } catch {
    // The journal has it.
  }
  const { id, name, phase, created, image_id: imageId, definition } = row;
  return { id, name, phase: phase as Phase, created: String(created), imageId, stored, definition, reason };
}
