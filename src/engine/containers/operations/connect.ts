/**
 * Connecting containers to networks and disconnecting them: one that runs at once, one that does not at its next start.
 */
import { Conflict, InvalidParameter, SystemFault } from '../../../model/errors.ts';
import type { EndpointRequest } from '../../../model/container-config.ts';
import type { Container, Endpoint } from '../../../model/container.ts';
import { splitMode } from '../lifecycle.ts';
import { isRunning } from '../moves.ts';
import type { Parts } from '../parts.ts';
import type { Supervisor } from '../handle/handle.ts';
import type { Attachment } from '../../networks/networks.ts';

const SHARED =
  'container sharing network namespace with another container or host cannot be connected to any other network';

/** @throws InvalidParameter, NotFound, Forbidden, Conflict with Docker's texts */
export function connect(s: Supervisor, reference: string, request: EndpointRequest, parts: Parts): Promise<void> {
  return s.serial.run(async () => {
    const c = s.container;
    if (!isRunning(c)) {
      checkStays(c);
      // dockerd takes a network that does not exist yet for one that will, until the start.
      const network = parts.networks.find(reference);
      if (network && c.endpoints[network.name]) return;
      const planned: Endpoint = network
        ? parts.networks.planOne(c, network, request)
        : Object.values(parts.networks.plan(reference, { [reference]: request }, plannedOf(c)))[0]!;
      return void keep(c, parts, { ...c.endpoints, [planned.network]: planned });
    }
    if (splitMode(c.hostConfig.NetworkMode)[0] === 'container') throw new InvalidParameter(SHARED);
    const network = parts.networks.resolve(reference);
    const planned = parts.networks.planOne(c, network, request);
    await parts.networks.connect(c, network, planned, commit(c, parts));
  });
}

/** @throws NotFound, SystemFault when it is not connected, InvalidParameter for the host's network */
export function disconnect(
  s: Supervisor,
  reference: string,
  { force }: { force: boolean },
  parts: Parts,
): Promise<void> {
  return s.serial.run(async () => {
    const c = s.container;
    const network = parts.networks.find(reference);
    if (!isRunning(c) || (!network && force)) {
      checkStays(c);
      const name = network?.name ?? reference;
      if (!c.endpoints[name]) throw new SystemFault(`container ${c.id} is not connected to the network ${name}`);
      keep(c, parts, Object.fromEntries(Object.entries(c.endpoints).filter(([key]) => key !== name)));
      if (network) parts.networks.recordDisconnect(c, network);
      return;
    }
    const found = parts.networks.resolve(reference);
    if (c.hostConfig.NetworkMode === 'host' && found.driver === 'host')
      throw new InvalidParameter('container cannot be disconnected from host network or connected to host network');
    if (!c.endpoints[found.name]) throw new SystemFault(`container ${c.id} is not connected to network ${found.name}`);
    await parts.networks.disconnect(c, found, commit(c, parts));
  });
}

function checkStays(c: Container): void {
  if (c.phase !== 'ready')
    throw new Conflict(
      `Container ${c.id} is marked for removal and cannot be connected or disconnected to the network`,
    );
}

const plannedOf = (c: Container) => ({ id: c.id, name: c.name, hostname: c.config.Hostname });

function keep(c: Container, parts: Parts, endpoints: Record<string, Endpoint>): void {
  c.endpoints = endpoints;
  parts.rows.transaction(() => parts.rows.setNetwork(c));
}

// Within the transaction of the change itself: a daemon that dies leaves both or neither.
const commit =
  (c: Container, parts: Parts) =>
  ({ endpoints, ports }: Attachment): void => {
    c.endpoints = endpoints;
    c.ports = ports;
    parts.rows.setNetwork(c);
  };
