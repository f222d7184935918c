/** What must hold when nothing is under way: store, journals, API and kernel agree. */
import Database from 'better-sqlite3';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { namesFor } from '../../src/config/names.ts';
import { parseJournal } from '../../src/protocol/journal-format.ts';
import { applyRecord, initialRunState, type RunState } from '../../src/protocol/runstate.ts';
import { isAlive } from '../../src/sys/process.ts';
import { cgroupsBelow } from '../support/cgroups.ts';
import type { Life } from './life.ts';
import type { World } from './world.ts';

const SETTLED_MS = 60_000;

/** @param lives the containers that exist */
export async function audit(world: World, lives: readonly Life[]): Promise<void> {
  for (const life of lives) await life.observe('checkpoint');
  const there = lives.filter(({ exists }) => exists);
  await expectAgreement(world, () => rows(world, there));
  await Promise.all(there.map((life) => expectAgreement(world, () => agreement(world, life))));
  for (const life of there) {
    await life.checkLog();
    await life.checkEvents();
  }
}

/** Restart policies and health checks go on meanwhile: what disagrees must agree soon. */
async function expectAgreement(world: World, compare: () => string[] | Promise<string[]>): Promise<void> {
  let wrong: string[] = [];
  const agrees = async (): Promise<boolean> => {
    try {
      wrong = await compare();
    } catch (error) {
      wrong = [String(error)]; // A process or a cgroup ended while it was looked at.
    }
    return wrong.length === 0;
  };
  if (!(await world.eventually(agrees, SETTLED_MS))) for (const one of wrong) world.fail(`checkpoint: ${one}`);
}

/** The store is whole, and has these containers and no others. Also while a daemon is dead. */
function rows({ engine }: World, lives: readonly Life[]): string[] {
  const db = new Database(join(engine.root, 'data', 'holdfast.db'), { readonly: true });
  try {
    const check = db.pragma('integrity_check', { simple: true });
    const wrong = check === 'ok' ? [] : [`integrity_check: ${String(check)}`];
    const ids = (db.prepare('SELECT id FROM containers').all() as { id: string }[]).map(({ id }) => id);
    wrong.push(...ids.filter((id) => !lives.some((life) => life.id === id)).map((id) => `a row of ${id}`));
    wrong.push(...lives.filter(({ id }) => !ids.includes(id)).map((life) => `no row of ${life.label}`));
    for (const table of ['addresses', 'attachments']) {
      const owners = db.prepare(`SELECT DISTINCT container_id AS id FROM ${table}`).all() as { id: string }[];
      wrong.push(...owners.filter(({ id }) => !ids.includes(id)).map(({ id }) => `${table} of ${id}, which is gone`));
    }
    return wrong;
  } finally {
    db.close();
  }
}

async function agreement(world: World, life: Life): Promise<string[]> {
  const { engine } = world;
  const inspected = await life.inspect();
  if (inspected === undefined) return [`${life.label} is gone`];
  const { State, RestartCount } = inspected;
  const wrong: string[] = [];
  const expectEqual = (what: string, seen: unknown, right: unknown): void => {
    if (seen !== right) wrong.push(`${life.label}: ${what} is ${String(seen)} where ${String(right)} is right`);
  };
  const journal = join(engine.root, 'data', 'containers', life.id, 'journal');
  const state = existsSync(journal) ? foldOf(journal, wrong, life) : initialRunState();
  expectEqual('the status', State.Status, state.status);
  expectEqual('the pid', State.Pid, state.pid);
  // A start that failed before there was a shim is in the row only, with its error.
  if (State.Error === '') expectEqual('the exit code', State.ExitCode, state.exitCode);
  expectEqual('the restart count', RestartCount, state.restartCount);
  const cgroups = cgroupsBelow(namesFor(join(engine.root, 'data'), engine.execRoot).cgroupParent.cgroupfs);
  const own = cgroups.filter((path) => path.includes(life.id) && !path.includes('shims'));
  if (state.pid > 0) {
    if (!isAlive(state.pid, state.pidStartTime)) wrong.push(`${life.label}: its process ${state.pid} does not live`);
    if (!readFileSync(`/proc/${state.pid}/cgroup`, 'latin1').includes(life.id))
      wrong.push(`${life.label}: its process is in another cgroup`);
  } else if (state.final && own.length > 0)
    wrong.push(`${life.label}: it does not run and has cgroups ${own.join(' ')}`);
  if (state.final) {
    const keepers = readdirSafely(join(engine.execRoot, 'c', life.id.slice(0, 16))).filter((n) =>
      n.endsWith('.keeper'),
    );
    if (keepers.length > 0) wrong.push(`${life.label}: it does not run and has ${keepers.join(' ')}`);
  }
  return wrong;
}

function foldOf(journal: string, wrong: string[], life: Life): RunState {
  const { snapshot, records, damaged } = parseJournal(readFileSync(journal));
  if (damaged > 0) wrong.push(`${life.label}: ${damaged} damaged lines in its journal`);
  let seq = snapshot?.seq ?? 0;
  for (const record of records) {
    if (record.seq !== seq + 1) wrong.push(`${life.label}: record ${record.seq} after ${seq} in its journal`);
    seq = record.seq;
  }
  return records.reduce(applyRecord, snapshot?.state ?? initialRunState());
}

export function readdirSafely(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
