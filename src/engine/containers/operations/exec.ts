/** Making an exec, and having the shim run it. */
import { randomBytes } from 'node:crypto';
import { parseDetachKeys } from '../../../protocol/detach-keys.ts';
import type { AttachOptions } from '../../../protocol/messages.ts';
import type { ExecSpec } from '../../../protocol/spec.ts';
import type { Client } from '../../client.ts';
import { Conflict, InvalidParameter, SystemFault } from '../../../model/errors.ts';
import { withCommand } from '../../events/from-journal.ts';
import { execProcess } from '../../spec/spec.ts';
import type { SpecInput } from '../../spec/spec-input.ts';
import type { Container } from '../../../model/container.ts';
import type { Exec, ExecConfig } from '../../../model/exec.ts';
import { containerEvent } from '../../events/container-event.ts';
import { splitMode } from '../lifecycle.ts';
import { linked, NO_LINKS } from '../links.ts';
import { allow } from '../moves.ts';
import type { Parts } from '../parts.ts';
import type { Supervisor } from '../handle/handle.ts';

export interface ExecStartOptions {
  detach: boolean;
  tty: boolean;
  consoleSize: [number, number];
  framed: boolean;
}

/** Finds another container that this one refers to. */
type Find = (reference: string) => Promise<Container>;

/** Returns its id. @throws InvalidParameter, Conflict when the container does not run */
export async function createExec(c: Container, config: ExecConfig, parts: Parts, find: Find): Promise<string> {
  if (config.Cmd.length === 0) throw new InvalidParameter('No exec command specified');
  allow('exec', c);
  checkEscapeKeys(config.DetachKeys);
  execProcess(await specInput(c, parts, find), config); // An unknown user is refused here, as dockerd does.
  const id = randomBytes(32).toString('hex');
  parts.rows.relaxed(() => {
    parts.execs.add({
      id,
      containerId: c.id,
      config,
      running: false,
      exitCode: null,
      pid: 0,
      started: false,
      ended: 0,
    });
    parts.events.record(containerEvent(c, withCommand('exec_create', config.Cmd), { execID: id }));
  });
  return id;
}

/** Has the shim run it; a client's connection goes to the shim. @throws before any byte was written */
export async function startExec(
  exec: Exec,
  s: Supervisor,
  options: ExecStartOptions,
  client: Client | undefined,
  parts: Parts,
  find: Find,
): Promise<void> {
  const { id, config } = exec;
  if (exec.started)
    throw new Conflict(exec.running ? `exec command ${id} is already running` : `exec command ${id} has already run`);
  allow('exec', s.container);
  const spec: ExecSpec = {
    id,
    tty: config.Tty,
    consoleSize: options.consoleSize[0] > 0 ? options.consoleSize : config.ConsoleSize,
    attachStdin: config.AttachStdin && !options.detach,
    attachStdout: config.AttachStdout,
    attachStderr: config.AttachStderr,
    process: execProcess(await specInput(s.container, parts, find), config),
    detachKeys: parseDetachKeys(config.DetachKeys),
  };
  parts.execs.markStarted(exec);
  try {
    const link = await s.reach();
    if (!client) return void (await link.request({ op: 'exec', exec: spec }));
    const attach: AttachOptions = {
      stdin: config.AttachStdin,
      stdout: config.AttachStdout,
      stderr: config.AttachStderr,
      stream: true,
      logs: false,
      framed: options.framed,
      detachKeys: spec.detachKeys,
    };
    await link.handOver<'exec'>({ op: 'exec', exec: spec, options: attach }, client);
  } finally {
    await s.pull().catch(() => undefined);
  }
}

async function specInput(c: Container, { config, paths }: Parts, find: Find): Promise<SpecInput> {
  const pids = new Map<string, number>();
  const [kind, other] = splitMode(c.hostConfig.PidMode);
  if (kind === 'container') pids.set(other, (await find(other)).state.pid);
  // A linked container that has gone meanwhile does not keep anybody from looking at this one.
  const { env } = await linked(c, find).catch(() => NO_LINKS);
  return { container: c, config, paths, netns: c.netns, linkEnv: env, pidOf: (id) => pids.get(id) ?? 0 };
}

// Its own words, and no 400: an exec's keys are an untyped error in dockerd (moby daemon/exec.go).
function checkEscapeKeys(keys: string): void {
  try {
    parseDetachKeys(keys);
  } catch {
    throw new SystemFault(`Invalid escape keys (${keys}) provided`);
  }
}
