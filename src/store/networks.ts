/** Networks, addresses in use, and each container's attachment: what its network was set up with. */
import type { Network } from '../model/network.ts';
import { faultPoint } from '../sys/fault.ts';
import { relaxed, type Db } from './database.ts';

export type AttachmentPhase = 'setting-up' | 'up' | 'tearing-down';

export interface AttachmentRow {
  containerId: string;
  netns: string;
  phase: AttachmentPhase;
  /** JSON, byte for byte as passed to the driver. */
  setup: string;
}

export type NetworkPhase = 'creating' | 'ready' | 'removing';

interface Row {
  id: string;
  name: string;
  created: bigint;
  definition: string;
  phase: NetworkPhase;
}

export interface AddressRow {
  networkId: string;
  address: string;
}

export class NetworkStore {
  readonly #all;
  readonly #save;
  readonly #insert;
  readonly #setPhase;
  readonly #delete;
  readonly #setup;
  readonly #releaseOnNetwork;
  readonly #isTaken;
  readonly #take;
  readonly #releaseAll;
  readonly #attachments;
  readonly #attachment;
  readonly #begin;
  readonly #phase;
  readonly #end;

  constructor(private readonly db: Db) {
    this.#all = db
      .prepare<[], Row>('SELECT id, name, created, definition, phase FROM networks ORDER BY rowid')
      .safeIntegers(true);
    this.#insert = db.prepare(
      "INSERT INTO networks (id, name, phase, created, definition) VALUES (?, ?, 'creating', ?, ?)",
    );
    this.#setPhase = db.prepare('UPDATE networks SET phase = ? WHERE id = ?');
    this.#delete = db.prepare('DELETE FROM networks WHERE id = ?');
    this.#setup = db.prepare('UPDATE attachments SET setup = ? WHERE container_id = ?');
    this.#releaseOnNetwork = db.prepare('DELETE FROM addresses WHERE container_id = ? AND network_id = ?');
    this.#save = db.prepare(`INSERT INTO networks (id, name, phase, created, definition) VALUES (?, ?, 'ready', ?, ?)
      ON CONFLICT (id) DO UPDATE SET name = excluded.name, definition = excluded.definition`);
    this.#isTaken = db.prepare('SELECT 1 FROM addresses WHERE network_id = ? AND address = ?');
    this.#take = db.prepare('INSERT INTO addresses (network_id, address, container_id) VALUES (?, ?, ?)');
    this.#releaseAll = db.prepare('DELETE FROM addresses WHERE container_id = ?');
    const columns = 'container_id AS containerId, netns, phase, setup';
    this.#attachments = db.prepare<[], AttachmentRow>(`SELECT ${columns} FROM attachments ORDER BY rowid`);
    this.#attachment = db.prepare<[string], AttachmentRow>(`SELECT ${columns} FROM attachments WHERE container_id = ?`);
    this.#begin = db.prepare(
      "INSERT INTO attachments (container_id, netns, phase, setup) VALUES (?, ?, 'setting-up', ?)",
    );
    this.#phase = db.prepare('UPDATE attachments SET phase = ? WHERE container_id = ?');
    this.#end = db.prepare('DELETE FROM attachments WHERE container_id = ?');
  }

  networks = (): { network: Network; phase: NetworkPhase }[] =>
    this.#all.all().map((row) => ({ network: fromRow(row), phase: row.phase }));

  /** Records a network before it is created. @throws when the name is in use */
  insertCreating(network: Network): void {
    faultPoint('network.before');
    this.#insert.run(network.id, network.name, BigInt(network.created), JSON.stringify(network));
    faultPoint('network.recorded');
  }

  setPhase(id: string, phase: NetworkPhase, also?: () => void): void {
    this.db.transaction(() => {
      this.#setPhase.run(phase, id);
      also?.();
    })();
  }

  delete(id: string, also?: () => void): void {
    this.db.transaction(() => {
      this.#delete.run(id);
      also?.();
    })();
  }

  save(network: Network): void {
    this.#save.run(network.id, network.name, BigInt(network.created), JSON.stringify(network));
  }

  isTaken = (networkId: string, address: string): boolean => this.#isTaken.get(networkId, address) !== undefined;

  attachments = (): AttachmentRow[] => this.#attachments.all();
  attachment = (containerId: string): AttachmentRow | undefined => this.#attachment.get(containerId);

  /** Records an attachment before its setup. @throws when an address is in use or the container is attached */
  begin(containerId: string, netns: string, setup: string, addresses: AddressRow[]): void {
    this.#relaxed(() => {
      this.#begin.run(containerId, netns, setup);
      for (const { networkId, address } of addresses) this.#take.run(networkId, address, containerId);
    });
  }

  /** Sets the attachment's phase, and runs `also` (to record an event) in the same transaction. */
  move(containerId: string, phase: AttachmentPhase, also?: () => void): void {
    this.#relaxed(() => {
      this.#phase.run(phase, containerId);
      also?.();
    });
  }

  /** Replaces a container's setup: reserves the addresses `take`, releases those on the network `leave`. */
  change(
    containerId: string,
    setup: string,
    { take = [], leave }: { take?: AddressRow[]; leave?: string } = {},
    also?: () => void,
  ): void {
    this.#relaxed(() => {
      this.#setup.run(setup, containerId);
      for (const { networkId, address } of take) this.#take.run(networkId, address, containerId);
      if (leave !== undefined) this.#releaseOnNetwork.run(containerId, leave);
      also?.();
    });
  }

  /** Deletes the attachment after its teardown and releases its addresses. */
  end(containerId: string, also?: () => void): void {
    this.#relaxed(() => {
      this.#releaseAll.run(containerId);
      this.#end.run(containerId);
      also?.();
    });
  }

  // A power cut that undoes these rows also destroys the network namespaces that they describe.
  #relaxed(work: () => void): void {
    faultPoint('attachment.before');
    relaxed(this.db, work);
    faultPoint('attachment.after');
  }
}

function fromRow({ id, name, created, definition }: Row): Network {
  try {
    const network = JSON.parse(definition) as Partial<Network> | null;
    if (!network?.ipam || !network.settings) throw new Error('it has no settings');
    return network as Network;
  } catch (error) {
    return damagedNetwork({ id, name, created: String(created) }, (error as Error).message);
  }
}

const SHORT_ID = 12;

/** The bridge is named as if none was requested: that of another name belongs to who made it. */
const damagedNetwork = (known: Pick<Network, 'id' | 'name' | 'created'>, reason: string): Network => ({
  ...known,
  driver: 'bridge',
  bridge: `br-${known.id.slice(0, SHORT_ID)}`,
  enableIPv4: false,
  enableIPv6: false,
  internal: false,
  attachable: false,
  ingress: false,
  ipam: { driver: 'default', options: null, config: [] },
  options: {},
  labels: {},
  settings: { icc: true, masquerade: true, mtu: 1500, hostIp: '', linkPrefix: 'eth' },
  damaged: `the row of this network in the store cannot be read: ${reason}`,
});
