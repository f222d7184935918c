/** `docker exec`: created and recorded here, run by the shim, which gets the client's connection. */
import { randomBytes } from 'node:crypto';
import type { Container } from '../../../model/container.ts';
import { assertAllowed } from '../../../model/container-status.ts';
import { Conflict, InvalidParameter, NotFound, SystemFault } from '../../../model/errors.ts';
import type { Exec, ExecConfig } from '../../../model/exec.ts';
import { joinedContainer } from '../../../model/namespace-mode.ts';
import { parseDetachKeys } from '../../../protocol/detach-keys.ts';
import type { AttachOptions } from '../../../protocol/messages.ts';
import type { ExecSpec } from '../../../protocol/spec.ts';
import type { Client } from '../../client.ts';
import { containerEvent } from '../../events/container-event.ts';
import { withCommand } from '../../events/from-journal.ts';
import { StartFailed, type ShimLink } from '../../shims/link.ts';
import type { SpecInput } from '../../spec/spec-input.ts';
import { execProcess } from '../../spec/spec.ts';
import type { ContainerDeps } from '../deps.ts';
import type { ContainerHandle } from '../handle/container-handle.ts';
import { linked, NO_LINKS } from '../links.ts';
import { whileAllowed } from './changed-state.ts';

const COMMAND_NOT_FOUND = 127;
/** Code 126 alone does not tell: an exec that fails for any other reason has it too. */
const NOT_EXECUTABLE = /permission denied|is a directory/i;

type Deps = Pick<ContainerDeps, 'config' | 'paths' | 'rows' | 'events' | 'execs' | 'index'>;

export interface ExecStartOptions {
  detach: boolean;
  tty: boolean;
  /** Height and width; 0 = as at create. */
  consoleSize: [number, number];
  /** stdout and stderr in Docker's frames. */
  framed: boolean;
}

/** Returns the exec's id. @throws InvalidParameter, Conflict when the container does not run */
export async function createExec(c: Container, config: ExecConfig, deps: Deps): Promise<string> {
  const { rows, execs, events } = deps;
  if (config.Cmd.length === 0) throw new InvalidParameter('No exec command specified');
  assertAllowed('exec', c);
  // Its user, environment and capabilities are not known.
  if (c.damaged) throw new SystemFault(c.damaged);
  checkDetachKeys(config.DetachKeys);
  // Refuses an unknown user, as dockerd does at create.
  execProcess(await specInput(c, deps), config);
  const id = randomBytes(32).toString('hex');
  rows.relaxed(() => {
    execs.add({
      id,
      containerId: c.id,
      config,
      running: false,
      exitCode: null,
      pid: 0,
      started: false,
      ended: 0,
    });
    events.record(containerEvent(c, withCommand('exec_create', config.Cmd), { execID: id }));
  });
  return id;
}

/** Without a client (detached) it returns when the process runs. @throws before any byte was written to the client */
export async function startExec(
  id: string,
  options: ExecStartOptions,
  client: Client | undefined,
  deps: Deps,
): Promise<void> {
  const { exec, handle } = await findExec(id, deps);
  const { container: c, journal } = handle;
  assertNotStarted(exec);
  const { config } = exec;
  await whileAllowed('exec', handle, async () => {
    const spec: ExecSpec = {
      id,
      tty: config.Tty,
      consoleSize: options.consoleSize[0] > 0 ? options.consoleSize : config.ConsoleSize,
      attachStdin: config.AttachStdin && !options.detach,
      attachStdout: config.AttachStdout,
      attachStderr: config.AttachStderr,
      process: execProcess(await specInput(c, deps), config),
      detachKeys: parseDetachKeys(config.DetachKeys),
    };
    // Another start may have come first while the spec was made.
    assertNotStarted(exec);
    deps.execs.markStarted(exec);
    try {
      await run(spec, options, handle, client);
    } finally {
      await journal.pull().catch(() => undefined);
    }
  });
}

function assertNotStarted({ id, started, running }: Exec): void {
  if (!started) return;
  throw new Conflict(`exec command ${id} ${running ? 'is already running' : 'has already run'}`);
}

async function run(
  spec: ExecSpec,
  { framed }: ExecStartOptions,
  { shim }: ContainerHandle,
  client: Client | undefined,
): Promise<void> {
  if (!client) return startDetached(await shim.reach(), spec);
  const attach: AttachOptions = {
    stdin: spec.attachStdin,
    stdout: spec.attachStdout,
    stderr: spec.attachStderr,
    stream: true,
    logs: false,
    framed,
    detachKeys: spec.detachKeys,
  };
  const link = await shim.reach();
  await link.handOver<'exec'>({ op: 'exec', exec: spec, options: attach }, client);
}

/** @throws InvalidParameter when the command cannot be run (moby daemon/errors.go, translateContainerdStartErr) */
async function startDetached(link: ShimLink, spec: ExecSpec): Promise<void> {
  try {
    await link.request({ op: 'exec', exec: spec });
  } catch (error) {
    const { message } = error as Error;
    if (error instanceof StartFailed && (error.code === COMMAND_NOT_FOUND || NOT_EXECUTABLE.test(message)))
      throw new InvalidParameter(message);
    throw error;
  }
}

export async function inspectExec(id: string, deps: Pick<ContainerDeps, 'execs' | 'index'>): Promise<Exec> {
  const { exec, handle } = await findExec(id, deps);
  // `docker exec` asks right after its stream has ended: it must see the exit that the shim has journalled by then.
  if (exec.started && exec.exitCode === null) handle.journal.refresh();
  return exec;
}

export async function resizeExec(
  id: string,
  size: { height: number; width: number },
  { execs, index }: Pick<ContainerDeps, 'execs' | 'index'>,
): Promise<void> {
  const { handle } = await findExec(id, { execs, index });
  const { container: c, shim, journal } = handle;
  journal.refresh();
  // The container's state decides, also when the exec has ended (moby daemon/exec.go, getExecConfig).
  assertAllowed('exec', c);
  await (await shim.reach()).request({ op: 'exec-resize', exec: id, height: size.height, width: size.width });
}

/** An exec goes with its container. @throws NotFound */
async function findExec(
  id: string,
  { execs, index }: Pick<ContainerDeps, 'execs' | 'index'>,
): Promise<{ exec: Exec; handle: ContainerHandle }> {
  const exec = execs.get(id);
  try {
    return { exec, handle: await index.find(exec.containerId) };
  } catch {
    throw new NotFound(`No such exec instance: ${id}`);
  }
}

async function specInput(c: Container, { config, paths, index }: Deps): Promise<SpecInput> {
  const joined = joinedContainer(c.hostConfig.PidMode);
  const pids = new Map<string, number>();
  if (joined !== '') pids.set(joined, (await index.findContainer(joined)).state.pid);
  // A linked container that is gone must not prevent an exec in this one.
  const { env } = await linked(c, index).catch(() => NO_LINKS);
  return { container: c, config, paths, netns: c.netns, linkEnv: env, pidOf: (id) => pids.get(id) ?? 0 };
}

// Not a 400 and with a text of its own: moby's error has no type here (daemon/exec.go).
function checkDetachKeys(keys: string): void {
  try {
    parseDetachKeys(keys);
  } catch {
    throw new SystemFault(`Invalid escape keys (${keys}) provided`);
  }
}
