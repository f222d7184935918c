/**
 * `docker network connect` and `disconnect`: a running container changes at once, a stopped one at its next start.
 */
import type { EndpointRequest } from '../../../model/container-config.ts';
import type { Container, Endpoint } from '../../../model/container.ts';
import { isDeadOrRemoving, isRunning } from '../../../model/container-status.ts';
import { Conflict, InvalidParameter, SystemFault } from '../../../model/errors.ts';
import { joinsContainer } from '../../../model/namespace-mode.ts';
import type { Attachment } from '../../networks/networks.ts';
import type { ContainerDeps } from '../deps.ts';
import type { ContainerHandle } from '../handle/container-handle.ts';

type Deps = Pick<ContainerDeps, 'networks' | 'rows'>;

/** @throws InvalidParameter, NotFound, Forbidden, Conflict with Docker's texts */
export function connect(
  { container: c, turns }: ContainerHandle,
  reference: string,
  request: EndpointRequest,
  deps: Deps,
): Promise<void> {
  return turns.run(async () => {
    if (isRunning(c)) await connectRunning(c, reference, request, deps);
    else connectStopped(c, reference, request, deps);
  });
}

async function connectRunning(c: Container, reference: string, request: EndpointRequest, deps: Deps): Promise<void> {
  if (c.damaged) throw new SystemFault(c.damaged);
  if (joinsContainer(c.hostConfig.NetworkMode))
    throw new InvalidParameter(
      'container sharing network namespace with another container or host cannot be connected to any other network',
    );
  const network = deps.networks.resolve(reference);
  const planned = deps.networks.planOne(c, network, request);
  await deps.networks.connect(c, network, planned, store(c, deps));
}

function connectStopped(c: Container, reference: string, request: EndpointRequest, deps: Deps): void {
  assertNotRemoving(c);
  const { networks } = deps;
  const network = networks.find(reference);
  if (network && c.endpoints[network.name]) return;
  // dockerd accepts a network that does not exist yet; the start looks it up again.
  const planned = network
    ? networks.planOne(c, network, request)
    : Object.values(
        networks.plan(reference, { [reference]: request }, { id: c.id, name: c.name, hostname: c.config.Hostname }),
      )[0]!;
  setEndpoints(c, { ...c.endpoints, [planned.network]: planned }, deps);
}

/** @throws NotFound, SystemFault when it is not connected, InvalidParameter for the host's network */
export function disconnect(
  { container: c, turns }: ContainerHandle,
  reference: string,
  { force }: { force: boolean },
  deps: Deps,
): Promise<void> {
  return turns.run(async () => {
    const networkIsGone = !deps.networks.find(reference);
    if (!isRunning(c) || (networkIsGone && force)) disconnectStopped(c, reference, deps);
    else await disconnectRunning(c, reference, deps);
  });
}

async function disconnectRunning(c: Container, reference: string, deps: Deps): Promise<void> {
  const network = deps.networks.resolve(reference);
  if (c.hostConfig.NetworkMode === 'host' && network.driver === 'host')
    throw new InvalidParameter('container cannot be disconnected from host network or connected to host network');
  if (!c.endpoints[network.name])
    throw new SystemFault(`container ${c.id} is not connected to network ${network.name}`);
  await deps.networks.disconnect(c, network, store(c, deps));
}

function disconnectStopped(c: Container, reference: string, deps: Deps): void {
  assertNotRemoving(c);
  const network = deps.networks.find(reference);
  const name = network?.name ?? reference;
  if (!c.endpoints[name]) throw new SystemFault(`container ${c.id} is not connected to the network ${name}`);
  setEndpoints(c, Object.fromEntries(Object.entries(c.endpoints).filter(([key]) => key !== name)), deps);
  if (network) deps.networks.recordDisconnect(c, network);
}

function assertNotRemoving(c: Container): void {
  if (isDeadOrRemoving(c))
    throw new Conflict(
      `Container ${c.id} is marked for removal and cannot be connected or disconnected to the network`,
    );
}

function setEndpoints(c: Container, endpoints: Record<string, Endpoint>, { rows }: Deps): void {
  rows.transaction(() => rows.setNetwork({ ...c, endpoints }));
  c.endpoints = endpoints;
}

/** Stores an attachment within the transaction that makes it: a daemon that dies leaves both or neither. */
const store =
  (c: Container, { rows }: Deps) =>
  ({ endpoints, ports }: Attachment): void => {
    rows.setNetwork({ ...c, endpoints, ports });
    c.endpoints = endpoints;
    c.ports = ports;
  };
