/** Actions that are more than one request: each checks its answers and effects. */
import { setTimeout as sleep } from 'node:timers/promises';
import { bodyPadding, encodeHeader, newEntry, TRAILER } from '../../src/engine/images/tar-writer.ts';
import { unframe } from '../support/frames.ts';
import { opened } from '../support/http.ts';
import { attachFor, send as sendInput } from './attach.ts';
import type { Life } from './life.ts';
import { follow } from './model.ts';
import { operate } from './operate.ts';
import { probe } from './probe.ts';
import type { Verb } from './script.ts';
import { BURST_LINES, command, runsOf } from './witness.ts';
import type { World } from './world.ts';

const EXIT_CODES = 50;
const NOTE_MS = 20_000;
const ATTACH_MS = 300;
const KILLED = 137;

export type Special = (world: World, life: Life, arg: number, verb: Verb) => Promise<void>;

const exec: Special = async (world, life, arg) => {
  const from = Date.now();
  const code = arg % 100;
  const created = await world.ask(
    `exec ${life.label}`,
    () =>
      world.call('POST', `/containers/${life.id}/exec`, {
        AttachStdout: true,
        Cmd: ['sh', '-c', `echo T${arg}; exit ${code}`],
      }),
    { id: life.id },
  );
  if (created === undefined) return;
  const status = created.status === 201 ? 200 : created.status;
  if (follow('exec', life.role, life.now(), status).size === 0)
    return void world.fail(
      `exec ${life.label}: ${created.status} ${created.text.trim()} while ${[...life.now()].join(' or ')}`,
    );
  if (created.status !== 201) return;
  const { Id } = created.json as { Id: string };
  const started = await world.call('POST', `/exec/${Id}/start`, { Detach: false });
  if (world.isUnknown(started, `exec start ${life.label}`, life.id)) return;
  const { answer } = started;
  const disturbed = (): boolean =>
    life.now().size > 1 || world.faults.explains(from, Date.now(), life.id, /^(shim|keeper|runtime|disk)/);
  if (answer!.status !== 200) {
    if (!disturbed()) world.fail(`exec start ${life.label}: ${answer!.status} ${answer!.text.trim()}`);
    return;
  }
  const output = unframe(answer!.body)[1];
  if (output !== `T${arg}\n` && !disturbed()) world.fail(`exec ${life.label}: its output is ${JSON.stringify(output)}`);
  const inspected = await world.get(`/exec/${Id}/json`);
  const seen = (inspected?.json as { ExitCode?: number | null } | undefined)?.ExitCode;
  if (inspected?.status === 200 && seen !== code && !disturbed())
    world.fail(`exec ${life.label}: its exit code is ${seen} where ${code} is right`);
};

const logs: Special = (_, life) => life.checkLog();

const attach: Special = async (world, life) => {
  const from = Date.now();
  const { status, text } = await attachFor(world.engine.socket, life.id, life.role.tty ?? false, ATTACH_MS);
  if (status === 0 || status >= 500) {
    if (!world.faults.explains(from, Date.now(), life.id)) world.fail(`attach ${life.label}: ${status} ${text}`);
    return;
  }
  if (follow('attach', life.role, life.now(), status).size === 0 && !(status === 404 && life.now().has('absent')))
    return void world.fail(`attach ${life.label}: ${status} ${text} while ${[...life.now()].join(' or ')}`);
  if (status !== 101 || world.faults.explains(from, Date.now(), life.id, /^(shim|disk)/)) return;
  let last: [number, number] | undefined;
  for (const [, run, number] of text.matchAll(/^(\d+) (\d+)\r?\n/gm)) {
    const line: [number, number] = [Number(run), Number(number)];
    if (last?.[0] === line[0] && line[1] !== last[1] + 1)
      world.fail(`attach ${life.label}: ${line.join(' ')} after ${last.join(' ')}`);
    last = line;
  }
};

async function tell(world: World, life: Life, text: string): Promise<boolean> {
  if (life.role.stdin) return sendInput(world.engine.socket, life.id, `${text}\n`);
  return command(life.directory, text);
}

const exit: Special = async (world, life, arg) => {
  const code = arg % EXIT_CODES;
  const before = runsOf(life.directory);
  if (!life.now().has('running') || before.length === 0) return;
  const heard = await tell(world, life, `exit ${code}`);
  if (!heard) return;
  const isNoted = (): boolean => runsOf(life.directory)[before.length - 1]!.exit !== undefined;
  life.mayEnd = true;
  const isPaused = life.now().has('paused');
  if (isPaused || life.now().size > 1 || life.role.stdin) {
    await world.eventually(isNoted, 1_000);
    return;
  }
  if (!(await world.eventually(isNoted, NOTE_MS)))
    return void world.fail(`exit ${life.label}: the witness does not end`);
  const { policy } = life.role;
  const restarts = policy !== undefined && !(policy === 'on-failure' && code === 0);
  life.states = new Set([restarts ? 'restarting' : 'exited']);
};

const burst: Special = async (world, life) => void (await tell(world, life, `burst ${BURST_LINES}`));

const copy: Special = async (world, life, arg) => {
  const content = `content ${arg}`;
  const path = `/containers/${life.id}/archive?path=`;
  const head = encodeHeader(newEntry('file', `f${arg % 5}`, { size: content.length }));
  const tar = Buffer.concat([head, Buffer.from(content), bodyPadding(content.length), TRAILER]);
  const put = await world.ask(
    `cp into ${life.label}`,
    () => world.call('PUT', `${path}/tmp`, tar, { 'Content-Type': 'application/x-tar' }),
    { id: life.id },
  );
  if (put === undefined || (put.status === 404 && life.now().has('absent'))) return;
  if (put.status !== 200) {
    // A container on the point of removal refuses.
    if (!life.role.autoRemove) world.fail(`cp into ${life.label}: ${put.status} ${put.text.trim()}`);
    return;
  }
  const got = await world.ask(`cp from ${life.label}`, () => world.call('GET', `${path}/tmp/f${arg % 5}`), {
    id: life.id,
  });
  if (got === undefined || (got.status === 404 && life.now().has('absent'))) return;
  if (!got.text.includes(content) && !life.role.autoRemove)
    world.fail(`cp from ${life.label}: ${got.status} ${JSON.stringify(got.text.slice(0, 300))}`);
};

const waitStop: Special = async (world, life, arg, verb) => {
  const from = Date.now();
  const wasRunning = life.now().has('running') && life.now().size === 1;
  const waiting = wasRunning
    ? await opened(world.engine.socket, 'POST', `/containers/${life.id}/wait?condition=next-exit`).catch(
        () => undefined,
      )
    : undefined;
  const waited = waiting?.answer.catch(() => undefined);
  const stopped = await operate(world, life, verb, arg);
  if (waited === undefined || stopped?.status !== 204) return;
  const answer = await Promise.race([waited, sleep(NOTE_MS, 'late' as const, { ref: false })]);
  const isExcused = (): boolean => world.faults.explains(from, Date.now(), life.id, /^(shim|keeper|runtime)/);
  if (answer === undefined || answer === 'late') {
    const byDaemon = answer === undefined && world.faults.explains(from, Date.now(), life.id, /^daemon/);
    if (!isExcused() && !byDaemon) world.fail(`wait ${life.label}: ${answer ?? 'the connection was lost'}`);
    return;
  }
  const code = (answer.json as { StatusCode?: number } | undefined)?.StatusCode;
  const last = runsOf(life.directory).at(-1);
  const right = last?.exit ?? KILLED;
  if (code !== right && code !== KILLED && !isExcused() && !life.role.init)
    world.fail(`wait ${life.label}: ${answer.text.trim()} where ${right} is right`);
};

export const SPECIAL: Partial<Record<Verb, Special>> = {
  exec,
  logs,
  attach,
  exit,
  burst,
  copy,
  probe,
  'wait-stop': waitStop,
};
