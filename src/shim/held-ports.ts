/** Reserves the published ports: sockets that are bound and never listen, kept over restarts. */
import { closeSync } from 'node:fs';
import type { HeldPort } from '../protocol/spec.ts';
import { faultPoint } from '../sys/fault.ts';
import { reservePort } from '../sys/inet.ts';
import { Errno, type Fd } from '../sys/libc.ts';

export class PortTaken extends Error {}

export class HeldPorts {
  #fds: Fd[] = [];

  get fds(): readonly Fd[] {
    return this.#fds;
  }

  /** Binds all ports or none. Does nothing when they are bound already. @throws PortTaken */
  bind(ports: HeldPort[], container: { id: string; name: string }): void {
    if (this.#fds.length > 0) return;
    try {
      for (const { protocol, address, port } of ports) {
        this.#fds.push(reservePort(protocol, address, port));
        faultPoint('ports.bound');
      }
    } catch (error) {
      const { address, port } = ports[this.#fds.length]!;
      this.close();
      const reason = error instanceof Errno && error.code === 'EADDRINUSE' ? 'address already in use' : String(error);
      throw new PortTaken(
        `failed to set up container networking: driver failed programming external connectivity on endpoint ${container.name} (${container.id}): failed to bind host port for ${address}:${port}: ${reason}`,
      );
    }
  }

  /** Takes over the sockets that a dead shim's keeper held. */
  inherit(fds: Fd[]): void {
    this.#fds = fds;
  }

  close(): void {
    for (const fd of this.#fds) closeSync(fd);
    this.#fds = [];
  }
}
