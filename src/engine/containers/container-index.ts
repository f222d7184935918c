/**
 * All containers by id, name and id prefix, and the names that are reserved. Made before everything that asks about
 * containers; reports once when one becomes final.
 */
import type { Container } from '../../model/container.ts';
import { Conflict, InvalidParameter, NotFound } from '../../model/errors.ts';
import { linksOf, parseLinkName } from './link-names.ts';
import { ContainerHandle } from './handle/container-handle.ts';
import type { HandleDeps } from './handle/handle-deps.ts';

export class ContainerIndex {
  readonly #byId = new Map<string, ContainerHandle>();
  readonly #byName = new Map<string, ContainerHandle>();
  readonly #reservedNames = new Set<string>();
  readonly #finalListeners: ((handle: ContainerHandle) => void)[] = [];

  constructor(private readonly deps: HandleDeps) {}

  /** Calls `listener` each time a container becomes final: dead, and no restart pending. */
  onFinal(listener: (handle: ContainerHandle) => void): void {
    this.#finalListeners.push(listener);
  }

  add(container: Container): ContainerHandle {
    const handle = new ContainerHandle(container, this.deps, (final) => {
      for (const listener of this.#finalListeners) listener(final);
    });
    this.#byId.set(container.id, handle);
    this.#byName.set(container.name, handle);
    return handle;
  }

  drop({ container }: ContainerHandle): void {
    this.#byId.delete(container.id);
    if (this.#byName.get(container.name)?.container === container) this.#byName.delete(container.name);
  }

  rename(handle: ContainerHandle, name: string): void {
    this.#byName.delete(handle.container.name);
    handle.container.name = name;
    this.#byName.set(name, handle);
  }

  handles = (): ContainerHandle[] => [...this.#byId.values()];
  containers = (): Container[] => this.handles().map((handle) => handle.container);
  byId = (id: string): ContainerHandle | undefined => this.#byId.get(id);

  ids = (): string[] => [...this.#byId.keys()];

  isNameTaken = (name: string): boolean => this.#byName.has(name) || this.#reservedNames.has(name);

  /** Reserves a name until it is released. @throws Conflict with Docker's text */
  reserveName(name: string): { release(): void } {
    if (this.isNameTaken(name)) {
      const holder = this.#byName.get(name)?.container.id ?? '';
      throw new Conflict(
        `Conflict. The container name "/${name}" is already in use by container "${holder}". You have to remove (or rename) that container to be able to reuse that name.`,
      );
    }
    this.#reservedNames.add(name);
    return { release: () => void this.#reservedNames.delete(name) };
  }

  /**
   * By full id, exact name (with or without slash), link name (`parent/alias`) or unique id prefix.
   * @throws NotFound, InvalidParameter
   */
  lookup(reference: string): ContainerHandle {
    if (reference === '') throw new InvalidParameter('invalid name or ID supplied: ""');
    const exact =
      this.#byId.get(reference) ?? this.#byName.get(reference.replace(/^\//, '')) ?? this.#byLink(reference);
    if (exact) return exact;
    const matches = this.handles().filter(({ container }) => container.id.startsWith(reference));
    if (matches.length > 1) throw new InvalidParameter(`multiple IDs found with provided prefix: ${reference}`);
    if (!matches[0]) throw new NotFound(`No such container: ${reference}`);
    return matches[0];
  }

  #byLink(reference: string): ContainerHandle | undefined {
    const link = parseLinkName(reference);
    const parent = link && this.#byName.get(link.parent);
    return parent && this.#byName.get(linksOf(parent.container).get(link.alias) ?? '');
  }

  /** Link names (`/parent/alias`) by the id of the container that they name. */
  linkNames(): Map<string, string[]> {
    const names = new Map<string, string[]>();
    for (const parent of this.containers())
      for (const [alias, name] of linksOf(parent)) {
        const id = this.#byName.get(name)?.container.id;
        if (id !== undefined) names.set(id, [...(names.get(id) ?? []), `/${parent.name}/${alias}`]);
      }
    return names;
  }

  /** As lookup(), once the container's state is known and up to date. */
  async find(reference: string): Promise<ContainerHandle> {
    const handle = this.lookup(reference);
    const { shim, journal, container } = handle;
    await shim.restored;
    // A client that learnt of an exit from the shim (a wait, the end of a stream) must find it here too.
    if (!container.state.final) journal.refresh();
    return handle;
  }

  /** The container that find() finds. */
  async findContainer(reference: string): Promise<Container> {
    return (await this.find(reference)).container;
  }

  /** The daemon ends: connections are closed, shims and containers go on. */
  close(): void {
    for (const handle of this.handles()) handle.close();
  }
}
