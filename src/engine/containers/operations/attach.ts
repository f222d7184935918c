/** `docker attach`: the client's connection goes to the shim. */
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { AttachOptions } from '../../../protocol/messages.ts';
import { socketPair } from '../../../sys/socket.ts';
import type { Client } from '../../client.ts';
import type { ContainerHandle } from '../handle/container-handle.ts';
import { whileAllowed } from './changed-state.ts';

/** @throws before any byte was written to the client */
export function attach(handle: ContainerHandle, options: AttachOptions, client: Client): Promise<void> {
  const { container, shim } = handle;
  const { config, hostConfig } = container;
  const effective = {
    ...options,
    // stdin counts only where the container has it open (moby daemon/attach.go).
    stdin: options.stdin && config.OpenStdin,
    logUnreadable: hostConfig.LogConfig.Type !== 'json-file',
  };
  return whileAllowed('attach', handle, () =>
    shim.ask((link) => link.handOver<'attach'>({ op: 'attach', options: effective }, client)),
  );
}

/**
 * For a WebSocket, which cannot be handed over: the shim gets one end of a socket pair; the caller relays the other.
 * @throws what the shim refused with
 */
export async function attachRelay(handle: ContainerHandle, options: AttachOptions): Promise<Duplex> {
  const [near, far] = socketPair();
  try {
    await attach(handle, options, bareClient(far));
  } catch (error) {
    closeSync(near);
    throw error;
  } finally {
    closeSync(far);
  }
  return new Socket({ fd: near, readable: true, writable: true, allowHalfOpen: true });
}

/** A connection without a response head, whose descriptor the caller closes. */
function bareClient(fd: number): Client {
  const nothing = Buffer.alloc(0);
  return {
    fd,
    early: nothing,
    head: nothing,
    sendHead: () => undefined,
    answer: () => undefined,
    onGone: () => undefined,
    release: () => undefined,
  };
}
