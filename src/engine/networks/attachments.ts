/** What containers are attached to: made, changed and undone, each step on record before it is taken. */
import type { Config } from '../../config/config.ts';
import type { AttachmentRow, NetworkStore } from '../../store/networks.ts';
import { faultPoint } from '../../sys/fault.ts';
import { wallNow } from '../clock.ts';
import type { Container, Endpoint } from '../../model/container.ts';
import { Forbidden, SystemFault } from '../../model/errors.ts';
import type { NewEvent } from '../../model/event.ts';
import type { Paths } from '../paths.ts';
import type { Driver, EndpointSetup, Setup } from './driver.ts';
import { endpointsOf, namesOf, publishedPorts } from './endpoints.ts';
import type { Network } from '../../model/network.ts';
import { networkOf } from './plan.ts';
import type { PublishedPort } from './port-allocation.ts';
import { FAILED, SetupPlanner } from './setup-planner.ts';

/** What a running container has: its endpoints with addresses, its published ports, its network namespace. */
export interface Attachment {
  endpoints: Record<string, Endpoint>;
  ports: PublishedPort[];
  /** Where its network namespace is pinned; '' = it uses the host's. */
  netns: string;
}

export interface AttachmentParts {
  store: NetworkStore;
  config: Pick<Config, 'instance' | 'bridge' | 'iptables' | 'ip' | 'dns'>;
  paths: Paths;
  events: { record(...events: NewEvent[]): void };
  driver: Driver;
  /** By id, name or id prefix. @throws NotFound */
  network: (reference: string) => Network;
  /** Resolves when what the last daemon left is taken up: nothing is changed before. */
  ready: () => Promise<void>;
  /** What the setups say of names has changed. */
  namesChanged: () => Promise<void>;
}

export class Attachments {
  readonly #planner: SetupPlanner;
  /** What is set up, or being set up, in this boot. */
  readonly #setups = new Map<string, Setup>();
  /** Containers whose attachment is the daemon before's. */
  readonly #inherited = new Set<string>();
  /** The end of the queue of each container's attaching and detaching. */
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(private readonly parts: AttachmentParts) {
    this.#planner = new SetupPlanner({
      ...parts,
      isTaken: (networkId, address) => parts.store.isTaken(networkId, address),
    });
  }

  setups = (): Setup[] => [...this.#setups.values()];

  /** Endpoints on a network, those on their way in and out too. */
  on = (networkId: string): { setup: Setup; endpoint: EndpointSetup }[] =>
    this.setups().flatMap((setup) =>
      setup.endpoints.filter((endpoint) => endpoint.networkId === networkId).map((endpoint) => ({ setup, endpoint })),
    );

  /**
   * Takes up what the daemon before left: what is up stays, through `begin` undisturbed; what was half done is undone.
   */
  async start(begin: (live: Setup[]) => Promise<void>): Promise<void> {
    const rows = this.parts.store.attachments().map((row) => ({ row, setup: JSON.parse(row.setup) as Setup }));
    const live = rows.filter(({ row, setup }) => row.phase === 'up' && setup.boot === this.#planner.boot);
    for (const { setup } of live) {
      this.#setups.set(setup.container, setup);
      this.#planner.found(setup);
      this.#inherited.add(setup.container);
    }
    await begin(live.map(({ setup }) => setup));
    // Half up: `attach` never returned, so no process was given it. Of another boot: nothing of it exists.
    for (const { row } of rows.filter((each) => !live.includes(each))) await this.#undo(row);
    for (const { setup } of live)
      for (const endpoint of setup.endpoints.filter(({ changing }) => changing))
        await this.#takeAway(this.#setups.get(setup.container)!, endpoint);
  }

  /**
   * Makes the container's netns, gives it addresses and ports. Intent first; repeatable after a crash.
   * To be awaited before the runtime is asked for anything: an attach that never returned is undone at the next start.
   * @throws SystemFault `driver failed programming external connectivity …` when a port is taken, NotFound for a
   * network, Forbidden for an address
   */
  attach(container: Container): Promise<Attachment> {
    return this.#inTurn(container.id, async () => {
      this.#inherited.delete(container.id);
      if (networkOf(container.hostConfig.NetworkMode) === undefined) return { endpoints: {}, ports: [], netns: '' };
      const left = this.parts.store.attachment(container.id);
      if (left) await this.#undo(left);
      return this.#attach(container);
    });
  }

  /**
   * Undoes attach; called only for a container whose run is final. Repeatable. When it returns, addresses and ports are
   * free; links go in the background.
   */
  detach(container: Pick<Container, 'id'>): Promise<void> {
    return this.#inTurn(container.id, async () => {
      const row = this.parts.store.attachment(container.id);
      if (row) await this.#undo(row);
    });
  }

  /**
   * Detaches what the daemon before left attached for a container that does not hold its network any more. A start that
   * came meanwhile is none of it.
   */
  async sweep(holds: (containerId: string) => boolean): Promise<void> {
    for (const id of this.#inherited) if (!holds(id)) await this.detach({ id });
    this.#inherited.clear();
  }

  /**
   * Gives a container that is attached one more network. `commit` runs in the transaction that makes it so. @throws
   * Forbidden, SystemFault
   */
  join(
    container: Container,
    network: Network,
    planned: Endpoint,
    commit: (attachment: Attachment) => void,
  ): Promise<void> {
    return this.#inTurn(container.id, async () => {
      const before = this.#attached(container);
      if (before.endpoints.some(({ networkId }) => networkId === network.id))
        throw new Forbidden(`endpoint with name ${container.name} already exists in network ${network.name}`);
      const { setup, made } = this.#planner.withNetwork(before, network, planned, container);
      this.#change(setup, { take: addressesOf(made) });
      faultPoint('network.joining');
      try {
        await this.parts.driver.join(setup, made);
      } catch (error) {
        await this.#takeAway(setup, made);
        throw new SystemFault((error as Error).message, { cause: error });
      }
      const { changing: _, ...whole } = made;
      const done: Setup = { ...setup, endpoints: [...before.endpoints, whole] };
      const attachment = attachmentOf({ ...container.endpoints, [network.name]: planned }, done);
      this.#change(done, {}, () => {
        commit(attachment);
        this.parts.events.record(...eventsOf(done, [whole], 'connect'));
      });
      await this.parts.namesChanged();
    });
  }

  /**
   * Takes a network from a container that is attached. `commit` runs in the transaction that decides it. @throws
   * SystemFault when it is not on it
   */
  leave(container: Container, network: Network, commit: (attachment: Attachment) => void): Promise<void> {
    return this.#inTurn(container.id, async () => {
      const before = this.#attached(container);
      const endpoint = before.endpoints.find(({ networkId }) => networkId === network.id);
      if (!endpoint) throw new SystemFault(`container ${container.id} is not connected to network ${network.name}`);
      const setup = this.#planner.without(before, endpoint);
      this.#change(setup, {}, () => commit(attachmentOf(container.endpoints, setup)));
      faultPoint('network.leaving');
      await this.parts.namesChanged();
      await this.#takeAway(
        setup,
        setup.endpoints.find(({ networkId }) => networkId === network.id)!,
      );
    });
  }

  /** A container that is attached has got another name. */
  renamed(container: Container): Promise<void> {
    return this.#inTurn(container.id, async () => {
      const setup = this.#setups.get(container.id);
      if (!setup) return;
      const named = (endpoint: EndpointSetup): EndpointSetup =>
        endpoint.names.length === 0
          ? endpoint
          : { ...endpoint, names: namesOf(container, container.endpoints[endpoint.network]?.request ?? {}) };
      this.#change({ ...setup, name: container.name, endpoints: setup.endpoints.map(named) });
      await this.parts.namesChanged();
    });
  }

  /** Nothing is under way any more. */
  idle = async (): Promise<void> => void (await Promise.allSettled(this.#turns.values()));

  async #attach(container: Container): Promise<Attachment> {
    const { store, driver, events } = this.parts;
    const setup = this.#planner.make(container);
    try {
      store.begin(container.id, setup.netns, JSON.stringify(setup), setup.endpoints.flatMap(addressesOf));
    } catch (error) {
      this.#planner.release(container.id);
      throw error;
    }
    this.#setups.set(container.id, setup);
    try {
      await driver.setUp(setup);
    } catch (error) {
      this.#setups.delete(container.id);
      store.end(container.id);
      this.#planner.release(container.id);
      throw new SystemFault(`${FAILED}: ${(error as Error).message}`, { cause: error });
    }
    store.move(container.id, 'up', () => events.record(...eventsOf(setup, setup.endpoints, 'connect')));
    if (setup.endpoints.some(({ names }) => names.length > 0)) await this.parts.namesChanged();
    return attachmentOf(container.endpoints, setup);
  }

  #attached({ id }: Container): Setup {
    const setup = this.#setups.get(id);
    if (!setup) throw new SystemFault(`container ${id} has no network of its own`);
    return setup;
  }

  // Told of as left only what was told of as connected.
  async #takeAway(setup: Setup, endpoint: EndpointSetup): Promise<void> {
    const leaving = this.#planner.without(setup, endpoint);
    await this.parts.driver.leave(leaving, endpoint);
    const done = {
      ...leaving,
      endpoints: leaving.endpoints.filter(({ networkId }) => networkId !== endpoint.networkId),
    };
    const told = endpoint.changing !== 'joining';
    this.#change(
      done,
      { leave: endpoint.networkId },
      () => told && this.parts.events.record(...eventsOf(done, [endpoint], 'disconnect')),
    );
  }

  #change(setup: Setup, changes: Parameters<NetworkStore['change']>[2] = {}, also?: () => void): void {
    this.parts.store.change(setup.container, JSON.stringify(setup), changes, also);
    this.#setups.set(setup.container, setup);
  }

  async #undo({ containerId, phase, setup: text }: AttachmentRow): Promise<void> {
    const setup = JSON.parse(text) as Setup;
    if (phase !== 'tearing-down') this.parts.store.move(containerId, 'tearing-down');
    await this.parts.driver.tearDown(setup);
    // Told of as left only what was told of as connected, and not in another boot's name.
    const told = phase !== 'setting-up' && setup.boot === this.#planner.boot;
    this.parts.store.end(
      containerId,
      () => told && this.parts.events.record(...eventsOf(setup, setup.endpoints, 'disconnect')),
    );
    this.#setups.delete(containerId);
    this.#planner.release(containerId);
    if (setup.endpoints.some(({ names }) => names.length > 0)) await this.parts.namesChanged();
  }

  #inTurn<T>(id: string, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(id) ?? this.parts.ready();
    const turn = before.then(work, work);
    this.#turns.set(id, turn);
    const leave = (): void => void (this.#turns.get(id) === turn && this.#turns.delete(id));
    turn.then(leave, leave);
    return turn;
  }
}

const addressesOf = ({ networkId, address, address6 }: EndpointSetup): { networkId: string; address: string }[] =>
  [address, address6].filter(Boolean).map((each) => ({ networkId, address: each }));

const attachmentOf = (planned: Record<string, Endpoint>, setup: Setup): Attachment => ({
  endpoints: endpointsOf(planned, setup),
  ports: publishedPorts(setup),
  netns: setup.netns,
});

const eventsOf = (setup: Setup, endpoints: EndpointSetup[], action: 'connect' | 'disconnect'): NewEvent[] =>
  endpoints.map(({ network, networkId, type }) => ({
    type: 'network',
    action,
    actor: networkId,
    attributes: { container: setup.container, name: network, type },
    time: wallNow(),
  }));
