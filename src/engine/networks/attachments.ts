/**
 * Containers' attachments to their networks: set up, changed and torn down. Each step is recorded in the store before
 * it is taken, so that the next daemon can finish or undo it.
 */
import { KeyedSerial } from '../../async/keyed-serial.ts';
import type { Config } from '../../config/config.ts';
import type { Container, Endpoint } from '../../model/container.ts';
import { Forbidden, SystemFault } from '../../model/errors.ts';
import type { NewEvent } from '../../model/event.ts';
import type { Network } from '../../model/network.ts';
import type { AddressRow, AttachmentRow, NetworkStore } from '../../store/networks.ts';
import { faultPoint } from '../../sys/fault.ts';
import type { Paths } from '../paths.ts';
import type { Driver, EndpointSetup, Setup } from './driver.ts';
import { dnsNamesOn, endpointsOf, publishedPorts } from './endpoints.ts';
import { endpointEvents } from './events.ts';
import { networkOfMode } from '../../model/namespace-mode.ts';
import type { PublishedPort } from './port-allocation.ts';
import { FAILED, SetupPlanner } from './setup-planner.ts';

/** What a running container has: endpoints with addresses, published ports, a network namespace. */
export interface Attachment {
  endpoints: Record<string, Endpoint>;
  ports: PublishedPort[];
  /** Where its network namespace is pinned; '' = it uses the host's. */
  netns: string;
}

export interface AttachmentsDeps {
  store: NetworkStore;
  config: Pick<Config, 'instance' | 'bridge' | 'iptables' | 'ip' | 'dns' | 'dnsOptions'>;
  paths: Paths;
  events: { record(...events: NewEvent[]): void };
  driver: Driver;
  /** By id, name or id prefix. @throws NotFound */
  network: (reference: string) => Network;
  /** Resolves when the previous daemon's attachments are taken over; nothing changes before. */
  ready: () => Promise<void>;
  /** Called when DNS names in the setups have changed. */
  publishDns: () => Promise<void>;
  /** Called when they are about to change. */
  prepareDns: () => void;
  log: { warn(message: string): void };
}

export class Attachments {
  readonly #planner: SetupPlanner;
  /** What is set up, or being set up, in this boot. */
  readonly #setups = new Map<string, Setup>();
  /** Containers that the previous daemon attached and that have not been attached again since. */
  readonly #inherited = new Set<string>();
  /** Changes, by container. */
  readonly #changes = new KeyedSerial();

  constructor(private readonly deps: AttachmentsDeps) {
    this.#planner = new SetupPlanner({
      ...deps,
      isTaken: (networkId, address) => deps.store.isTaken(networkId, address),
    });
  }

  setups = (): Setup[] => [...this.#setups.values()];

  /** The endpoints on a network, including those that are joining or leaving. */
  endpointsOn = (networkId: string): { setup: Setup; endpoint: EndpointSetup }[] =>
    this.setups().flatMap((setup) =>
      setup.endpoints.filter((endpoint) => endpoint.networkId === networkId).map((endpoint) => ({ setup, endpoint })),
    );

  /**
   * Takes over the previous daemon's attachments: those that are up stay undisturbed and are passed to `startDriver`,
   * half-finished ones are undone.
   */
  async start(startDriver: (live: Setup[]) => Promise<void>): Promise<void> {
    const rows = this.deps.store.attachments().flatMap((row) => this.#readable(row));
    const live = rows.filter(({ row, setup }) => row.phase === 'up' && setup.boot === this.#planner.boot);
    for (const { setup } of live) {
      this.#setups.set(setup.container, setup);
      this.#planner.adopt(setup);
      this.#inherited.add(setup.container);
    }
    await startDriver(live.map(({ setup }) => setup));
    // Half up: `attach` did not return, so no process was started in it. From another boot: nothing of it exists.
    for (const { row } of rows.filter((each) => !live.includes(each)))
      await this.#attempt(row.containerId, () => this.#tearDown(row));
    for (const { setup } of live)
      for (const endpoint of setup.endpoints.filter(({ changing }) => changing))
        await this.#attempt(setup.container, () => this.#removeEndpoint(this.#setups.get(setup.container)!, endpoint));
  }

  // What it set up is undone by its container's next start or removal, as far as it is known.
  #readable(row: AttachmentRow): { row: AttachmentRow; setup: Setup }[] {
    const setup = setupOf(row);
    if (setup) return [{ row, setup }];
    this.deps.log.warn(`cannot read what container ${row.containerId} has on the network`);
    return [];
  }

  // Of one container: the others' networks must come up all the same. Its next start or its removal tries again.
  async #attempt(containerId: string, undo: () => Promise<void>): Promise<void> {
    try {
      await undo();
    } catch (error) {
      this.deps.log.warn(
        `could not undo what container ${containerId} has on the network: ${(error as Error).message}`,
      );
    }
  }

  /**
   * Creates the container's network namespace with its addresses and ports. Must be awaited before the runtime is
   * called: after a crash the next daemon undoes an attach that did not return.
   * @throws SystemFault `driver failed programming external connectivity …` when a port is taken, NotFound for a
   * network, Forbidden for an address
   */
  attach(container: Container): Promise<Attachment> {
    return this.#serially(container.id, async () => {
      this.#inherited.delete(container.id);
      if (networkOfMode(container.hostConfig.NetworkMode) === undefined) return { endpoints: {}, ports: [], netns: '' };
      const leftover = this.deps.store.attachment(container.id);
      if (leftover) await this.#tearDown(leftover);
      return this.#setUp(container);
    });
  }

  /**
   * Undoes attach() when the container will not run again in this start. When it resolves, addresses and ports are
   * free; links are deleted in the background. Repeatable.
   */
  detach(container: Pick<Container, 'id'>): Promise<void> {
    return this.#serially(container.id, async () => {
      const row = this.deps.store.attachment(container.id);
      if (row) await this.#tearDown(row);
    });
  }

  /**
   * Detaches the containers that the previous daemon attached and that no longer hold their network. Those that were
   * started again in the meantime are left alone.
   */
  async sweep(holds: (containerId: string) => boolean): Promise<void> {
    for (const id of [...this.#inherited])
      await this.#attempt(id, () =>
        this.#serially(id, async () => {
          // A start that was queued before this has attached it again.
          if (!this.#inherited.delete(id) || holds(id)) return;
          const row = this.deps.store.attachment(id);
          if (row) await this.#tearDown(row);
        }),
      );
  }

  /**
   * Adds a network to an attached container. `commit` runs in the transaction that makes the endpoint final.
   * @throws Forbidden, SystemFault
   */
  join(
    container: Container,
    network: Network,
    planned: Endpoint,
    commit: (attachment: Attachment) => void,
  ): Promise<void> {
    return this.#serially(container.id, async () => {
      const before = this.#attached(container);
      if (before.endpoints.some(({ networkId }) => networkId === network.id))
        throw new Forbidden(`endpoint with name ${container.name} already exists in network ${network.name}`);
      const { setup, added } = this.#planner.withNetwork(before, network, planned, container);
      this.#store(setup, { take: addressesOf(added) });
      faultPoint('network.joining');
      try {
        await this.deps.driver.join(setup, added);
      } catch (error) {
        await this.#removeEndpoint(setup, added);
        throw new SystemFault((error as Error).message, { cause: error });
      }
      const { changing: _, ...joined } = added;
      const final: Setup = { ...setup, endpoints: [...before.endpoints, joined] };
      const attachment = attachmentOf({ ...container.endpoints, [network.name]: planned }, final);
      this.#store(final, {}, () => {
        commit(attachment);
        this.deps.events.record(...endpointEvents(final, [joined], 'connect'));
      });
      await this.deps.publishDns();
    });
  }

  /**
   * Removes a network from an attached container. `commit` runs in the transaction that decides the removal.
   * @throws SystemFault when the container is not on the network
   */
  leave(container: Container, network: Network, commit: (attachment: Attachment) => void): Promise<void> {
    return this.#serially(container.id, async () => {
      const before = this.#attached(container);
      const endpoint = before.endpoints.find(({ networkId }) => networkId === network.id);
      if (!endpoint) throw new SystemFault(`container ${container.id} is not connected to network ${network.name}`);
      const setup = this.#planner.without(before, endpoint);
      this.#store(setup, {}, () => commit(attachmentOf(container.endpoints, setup)));
      faultPoint('network.leaving');
      await this.deps.publishDns();
      await this.#removeEndpoint(
        setup,
        setup.endpoints.find(({ networkId }) => networkId === network.id)!,
      );
    });
  }

  /** Publishes the new name of a container, if it is attached. */
  rename(container: Container): Promise<void> {
    return this.#serially(container.id, async () => {
      const setup = this.#setups.get(container.id);
      if (!setup) return;
      const renamed = (endpoint: EndpointSetup): EndpointSetup =>
        endpoint.names.length === 0
          ? endpoint
          : { ...endpoint, names: dnsNamesOn(container, container.endpoints[endpoint.network]?.request ?? {}) };
      this.#store({ ...setup, name: container.name, endpoints: setup.endpoints.map(renamed) });
      await this.deps.publishDns();
    });
  }

  /** Resolves when all changes that were asked for have ended. */
  idle = (): Promise<void> => this.#changes.idle();

  async #setUp(container: Container): Promise<Attachment> {
    const { store, driver, events } = this.deps;
    const setup = this.#planner.plan(container);
    try {
      store.begin(container.id, setup.netns, JSON.stringify(setup), setup.endpoints.flatMap(addressesOf));
    } catch (error) {
      this.#planner.release(container.id);
      throw error;
    }
    this.#setups.set(container.id, setup);
    if (hasDnsNames(setup)) this.deps.prepareDns();
    try {
      await driver.setUp(setup);
    } catch (error) {
      this.#setups.delete(container.id);
      store.end(container.id);
      this.#planner.release(container.id);
      throw new SystemFault(`${FAILED}: ${(error as Error).message}`, { cause: error });
    }
    store.move(container.id, 'up', () => events.record(...endpointEvents(setup, setup.endpoints, 'connect')));
    if (hasDnsNames(setup)) await this.deps.publishDns();
    return attachmentOf(container.endpoints, setup);
  }

  #attached({ id }: Container): Setup {
    const setup = this.#setups.get(id);
    if (!setup) throw new SystemFault(`container ${id} has no network of its own`);
    return setup;
  }

  /** Emits `disconnect` only if `connect` was emitted. */
  async #removeEndpoint(setup: Setup, endpoint: EndpointSetup): Promise<void> {
    const leaving = this.#planner.without(setup, endpoint);
    await this.deps.driver.leave(leaving, endpoint);
    const remaining: Setup = {
      ...leaving,
      endpoints: leaving.endpoints.filter(({ networkId }) => networkId !== endpoint.networkId),
    };
    this.#store(remaining, { leave: endpoint.networkId }, () => {
      if (endpoint.changing !== 'joining')
        this.deps.events.record(...endpointEvents(remaining, [endpoint], 'disconnect'));
    });
  }

  #store(setup: Setup, addresses: { take?: AddressRow[]; leave?: string } = {}, also?: () => void): void {
    this.deps.store.change(setup.container, JSON.stringify(setup), addresses, also);
    this.#setups.set(setup.container, setup);
  }

  async #tearDown(row: AttachmentRow): Promise<void> {
    const { containerId, phase } = row;
    const setup = setupOf(row) ?? unknownSetup(row);
    if (phase !== 'tearing-down') this.deps.store.move(containerId, 'tearing-down');
    await this.deps.driver.tearDown(setup);
    // Emit `disconnect` only if `connect` was emitted, and not for a boot that has ended.
    const wasConnected = phase !== 'setting-up' && setup.boot === this.#planner.boot;
    this.deps.store.end(containerId, () => {
      if (wasConnected) this.deps.events.record(...endpointEvents(setup, setup.endpoints, 'disconnect'));
    });
    this.#setups.delete(containerId);
    this.#planner.release(containerId);
    if (hasDnsNames(setup)) await this.deps.publishDns();
  }

  #serially<T>(id: string, task: () => Promise<T>): Promise<T> {
    return this.#changes.run(id, async () => {
      await this.deps.ready();
      return task();
    });
  }
}

function setupOf({ setup }: AttachmentRow): Setup | undefined {
  try {
    const value = JSON.parse(setup) as Partial<Setup> | null;
    return value?.endpoints && value.ports ? (value as Setup) : undefined;
  } catch {
    return undefined;
  }
}

/** What is known without its text: with the network namespace, the kernel deletes the links in it. */
const unknownSetup = ({ containerId, netns }: AttachmentRow): Setup => ({
  ...{ version: 1, boot: '', container: containerId, name: '', netns },
  ...{ endpoints: [], ports: [], idlePorts: [], dnsServers: [] },
});

const addressesOf = ({ networkId, address, address6 }: EndpointSetup): AddressRow[] =>
  [address, address6].filter(Boolean).map((each) => ({ networkId, address: each }));

const hasDnsNames = ({ endpoints }: Setup): boolean => endpoints.some(({ names }) => names.length > 0);

const attachmentOf = (planned: Record<string, Endpoint>, setup: Setup): Attachment => ({
  endpoints: endpointsOf(planned, setup),
  ports: publishedPorts(setup),
  netns: setup.netns,
});
