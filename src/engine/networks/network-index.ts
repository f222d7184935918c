/** Looks networks up by id, name or id prefix. */
import { InvalidParameter, NotFound } from '../../model/errors.ts';
import type { Network } from '../../model/network.ts';

/** The networks that exist for clients: neither those being created nor those being removed. */
export class NetworkIndex {
  #networks: Network[] = [];

  get all(): readonly Network[] {
    return this.#networks;
  }

  /** Adds a network, or replaces the one with its id. */
  put(network: Network): void {
    this.delete(network);
    this.#networks.push(network);
  }

  delete({ id }: Pick<Network, 'id'>): void {
    this.#networks = this.#networks.filter((each) => each.id !== id);
  }

  /** @throws NotFound `network X not found`, InvalidParameter for an ambiguous prefix */
  resolve(reference: string): Network {
    const exact =
      this.#networks.find(({ id }) => id === reference) ?? this.#networks.find(({ name }) => name === reference);
    if (exact) return exact;
    const matches = reference === '' ? [] : this.#networks.filter(({ id }) => id.startsWith(reference));
    if (matches.length > 1)
      throw new InvalidParameter(
        `network ${reference} is ambiguous (${matches.length} matches found based on ID prefix)`,
      );
    if (!matches[0]) throw new NotFound(`network ${reference} not found`);
    return matches[0];
  }

  /** As resolve(); `default` is the default bridge network. */
  find(reference: string): Network | undefined {
    try {
      return this.resolve(reference === 'default' ? 'bridge' : reference);
    } catch {
      return undefined;
    }
  }
}
