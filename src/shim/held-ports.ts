/**
 * The published ports' sockets: bound so that nobody else takes them, never listening. Held over restarts by policy.
 */
import { closeSync } from 'node:fs';
import type { HeldPort } from '../protocol/spec.ts';
import { reservePort } from '../sys/inet.ts';
import { Errno, type Fd } from '../sys/libc.ts';

export class PortTaken extends Error {}

export class Ports {
  #fds: Fd[] = [];

  get fds(): readonly Fd[] {
    return this.#fds;
  }

  /** Binds all of them or none; nothing when they are held already. @throws PortTaken */
  hold(ports: HeldPort[], container: { id: string; name: string }): void {
    if (this.#fds.length > 0) return;
    try {
      for (const { protocol, address, port } of ports) this.#fds.push(reservePort(protocol, address, port));
    } catch (error) {
      const { address, port } = ports[this.#fds.length]!;
      this.release();
      const reason = error instanceof Errno && error.code === 'EADDRINUSE' ? 'address already in use' : String(error);
      throw new PortTaken(
        `failed to set up container networking: driver failed programming external connectivity on endpoint ${container.name} (${container.id}): failed to bind host port for ${address}:${port}: ${reason}`,
      );
    }
  }

  /** Takes over what a keeper held. */
  adopt(fds: Fd[]): void {
    this.#fds = fds;
  }

  release(): void {
    for (const fd of this.#fds) closeSync(fd);
    this.#fds = [];
  }
}
