/** `docker start`: the daemon prepares network, mounts and bundle; the shim has the runtime create and start it. */
import { randomUUID } from 'node:crypto';
import type { Container } from '../../../model/container.ts';
import { assertAllowed, isRunning } from '../../../model/container-status.ts';
import { EngineError, InvalidParameter, SystemFault, Unavailable } from '../../../model/errors.ts';
import { joinsContainer } from '../../../model/namespace-mode.ts';
import { faultPoint } from '../../../sys/fault.ts';
import { isNetns } from '../../../sys/netns.ts';
import { ShimUnresponsive, StartFailed, type ShimLink } from '../../shims/link.ts';
import { writeBundle } from '../bundle.ts';
import type { ContainerDeps } from '../deps.ts';
import type { ContainerHandle } from '../handle/container-handle.ts';
import { waitAnswer } from '../handle/parked-waits.ts';
import { joinedForNetwork } from '../joined-containers.ts';
import { linked } from '../links.ts';
import { mountVolumes } from '../volume-mounts.ts';
import { removeInTurn, type RemoveDeps } from './remove.ts';
import { tearDown } from './teardown.ts';

export type StartDeps = RemoveDeps & Pick<ContainerDeps, 'config' | 'index'>;

/**
 * The failure is the user's when docker exits with 126 or 127: a 400 then (moby daemon/errors.go,
 * setExitCodeFromError).
 */
const isUsersFault = (code: number): boolean => code === 126 || code === 127;

/** Docker's exit code for a start that failed before the runtime ran. */
const START_FAILED_CODE = 128;
/** After this the shim itself says why it cannot start the container. */
const RESTART_TIMEOUT_MS = 15_000;
/** Successors may die too, or be slow to start: a failure that is no failure would be worse than a late answer. */
const SUCCESSOR_TIMEOUT_MS = 60_000;
/** Docker's exit code for a wait that got lost. */
const WAIT_LOST_CODE = 125;

/** @throws NotModified, Conflict; InvalidParameter (126, 127) or SystemFault (128) with the runtime's text */
export function start(handle: ContainerHandle, deps: StartDeps, consoleSize?: [number, number]): Promise<void> {
  return handle.turns.run(async () => {
    const c = handle.container;
    await waitForRestart(handle);
    assertAllowed('start', c);
    try {
      await startInTurn(handle, deps, consoleSize);
    } catch (error) {
      if (c.hostConfig.AutoRemove) await removeInTurn(handle, { force: true, volumes: true }, deps);
      throw error;
    }
  });
}

/** While the shim restarts the container, by a client or by policy, the outcome decides whether a start is needed. */
async function waitForRestart({ container: c, journal }: ContainerHandle): Promise<void> {
  if (c.state.final || isRunning(c)) return;
  const timeout = AbortSignal.timeout(RESTART_TIMEOUT_MS);
  await journal.until((state) => state.final || isRunning({ state }), timeout);
}

async function startInTurn(
  handle: ContainerHandle,
  deps: StartDeps,
  consoleSize: [number, number] | undefined,
): Promise<void> {
  const { container: c, shim, journal } = handle;
  const operation = randomUUID();
  // Shim and network come up concurrently; each is undone by itself if the other fails.
  const reached = shim.reach();
  reached.catch(() => undefined);
  let created = false;
  let link: ShimLink | undefined;
  try {
    const netns = await setUpNetwork(c, deps);
    // From the layers recorded at create: the image may be gone by now.
    deps.snapshots.mount(c.id);
    await mountVolumes(deps, c);
    faultPoint('start.volumes');
    await writeBundle(c, { netns, consoleSize }, deps);
    link = await reached;
    // An unused shim exits after a while; this one may have, while the network was set up.
    if (link.closed) link = await shim.reach();
    await handOverWaits(handle, link);
    faultPoint('start.prepared');
    try {
      await link.request({ op: 'create', operation });
    } catch (error) {
      // The shim was exiting and did nothing: nothing of this start is in the journal.
      const shimExited = error instanceof Unavailable && !(error instanceof ShimUnresponsive) && c.state.final;
      if (!shimExited) throw error;
      link = await shim.reach();
      await link.request({ op: 'create', operation });
    }
    created = true;
    faultPoint('start.created');
    await link.request({ op: 'start', operation });
    await journal.pull();
  } catch (error) {
    // A shim that is still being spawned must not arrive after its mounts and network were taken away.
    await reached.catch(() => undefined);
    if (await runsAllTheSame(handle, error)) return;
    if (created && link && !(error instanceof StartFailed)) {
      const { message } = error as Error;
      await link.request({ op: 'abandon', operation, error: message, code: START_FAILED_CODE }).catch(() => undefined);
    }
    await journal.pull().catch(() => undefined);
    await undo(handle, error as Error, deps);
    throw toClientError(error as Error);
  }
}

/** Whether the container runs, although its shim died before it could answer: the successor finds that out. */
async function runsAllTheSame({ container: c, journal }: ContainerHandle, error: unknown): Promise<boolean> {
  const shimDied = error instanceof Unavailable && !(error instanceof ShimUnresponsive);
  if (!shimDied || c.state.final) return false;
  await journal.until((state) => state.final || isRunning({ state }), AbortSignal.timeout(SUCCESSOR_TIMEOUT_MS));
  return isRunning(c);
}

/** Returns the path of the namespace to join; '' = the host's. */
async function setUpNetwork(c: Container, deps: StartDeps): Promise<string> {
  const { networks, index } = deps;
  const mode = c.hostConfig.NetworkMode;
  if (joinsContainer(mode)) {
    const other = await joinedForNetwork(c, index);
    takeNames(c, other, deps);
    // A daemon that was restarted in another mount namespace sees the file without what is mounted on it.
    return isNetns(other.netns) ? other.netns : `/proc/${other.state.pid}/ns/net`;
  }
  const attachment = await networks.attach(c);
  c.endpoints = attachment.endpoints;
  c.ports = attachment.ports;
  c.netns = attachment.netns;
  deps.rows.setNetwork(c);
  const { hosts } = await linked(c, index);
  networks.writeFiles(withExtraHosts(c, hosts), attachment);
  return attachment.netns;
}

/** As in dockerd, a container has the names of the one whose network it joins, at each start. */
function takeNames(c: Container, { config: { Hostname, Domainname } }: Container, { rows }: StartDeps): void {
  if (c.config.Hostname === Hostname && c.config.Domainname === Domainname) return;
  c.config = { ...c.config, Hostname, Domainname };
  rows.relaxed(() => rows.setDefinition(c));
}

function withExtraHosts(c: Container, hosts: string[]): Container {
  if (hosts.length === 0) return c;
  return { ...c, hostConfig: { ...c.hostConfig, ExtraHosts: [...(c.hostConfig.ExtraHosts ?? []), ...hosts] } };
}

async function handOverWaits({ waits }: ContainerHandle, link: ShimLink): Promise<void> {
  for (const { client, condition } of waits.take()) {
    await link
      .handOver<'wait'>({ op: 'wait', condition }, client)
      .catch(() => client.answer(waitAnswer(WAIT_LOST_CODE, 'the shim did not take this wait')));
  }
}

async function undo(handle: ContainerHandle, error: Error, deps: StartDeps): Promise<void> {
  const c = handle.container;
  // Not final: the shim is at work. Either the container runs and only the answer was lost, or a successor will undo
  // the start.
  if (!c.state.final) return;
  // A failure before the runtime ran (network, rootfs) is in no journal: the row keeps it, in Docker's terms.
  const exitCode = error instanceof StartFailed ? error.code : START_FAILED_CODE;
  c.state = { ...c.state, error: error.message, exitCode, final: true };
  deps.rows.setState(c.id, c.state, c.cursor);
  handle.waits.answer(exitCode);
  await tearDown(handle, deps);
}

function toClientError(error: Error): Error {
  if (error instanceof StartFailed)
    return isUsersFault(error.code) ? new InvalidParameter(error.message) : new SystemFault(error.message);
  return error instanceof EngineError ? error : new SystemFault(error.message, { cause: error });
}
