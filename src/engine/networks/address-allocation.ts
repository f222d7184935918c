/** Which address of a network's subnet a container gets. */
import { Forbidden, SystemFault } from '../../model/errors.ts';
import type { AddressSpace, Network } from '../../model/network.ts';
import { cidr, nextAddress } from './subnets.ts';

/** The store records which addresses are taken; this class remembers only where to look for the next one. */
export class AddressAllocator {
  /** The last address given, by network and IP family. */
  readonly #last = new Map<string, string>();

  constructor(private readonly isTaken: (networkId: string, address: string) => boolean) {}

  /** Continues behind an address that is in use already; '' is ignored. */
  noteUsed(networkId: string, address: string): void {
    if (address !== '') this.#last.set(`${networkId} ${address.includes(':') ? 6 : 4}`, address);
  }

  /** @throws Forbidden `Address already in use`, SystemFault when none is left */
  next(network: Network, space: AddressSpace, requested: string): string {
    if (requested !== '') {
      if (requested === space.gateway || this.isTaken(network.id, requested))
        throw new Forbidden('Address already in use');
      return requested;
    }
    const subnet = cidr(space.subnet);
    const key = `${network.id} ${subnet.family}`;
    const address = nextAddress(
      subnet,
      space.range ? cidr(space.range) : undefined,
      new Set([space.gateway, ...space.reserved]),
      this.#last.get(key),
      (candidate) => this.isTaken(network.id, candidate),
    );
    if (address === undefined)
      throw new SystemFault(
        `no available IPv${subnet.family} addresses on this network's address pools: ${network.name} (${network.id})`,
      );
    this.#last.set(key, address);
    return address;
  }
}
