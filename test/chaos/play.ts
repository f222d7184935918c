/** Plays a script against a daemon of its own, and says what was wrong. */
import { mkdirSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { remains, snapshot, owners } from '../support/host-snapshot.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { create, perform } from './actions.ts';
import { audit, readdirSafely } from './audit.ts';
import { Faults } from './faults.ts';
import { Follower } from './follower.ts';
import { Life } from './life.ts';
import { LANES, ROLES, USER_NETWORK } from './roles.ts';
import type { Action, FaultKind, Script } from './script.ts';
import { performSide, SIDE } from './side.ts';
import { World } from './world.ts';

const DATA_BYTES = 128 * 1024 * 1024;
const BETWEEN_CHECKS = 100;
const LEAK_MS = 30_000;
/** Descriptors that come and go with warm shims and the packers of layers. */
const DESCRIPTOR_SLACK = 12;

export interface Verdict {
  wrong: string[];
  seconds: number;
  faults: ReadonlyMap<FaultKind, number>;
  /** Number of answers by status; 0 stands for a lost connection. */
  answers: ReadonlyMap<number, number>;
  /** The end of the daemons' log, when something was wrong. */
  log: string;
}

export async function play(script: Script, note: (text: string) => void): Promise<Verdict> {
  const began = Date.now();
  const engine = await startEngine({ dataBytes: DATA_BYTES });
  const faults = new Faults(engine, note);
  const world = new World(engine, faults, note);
  let log = '';
  try {
    await new Run(world).play(script);
  } catch (error) {
    world.fail(`the run broke off: ${(error as Error).stack ?? String(error)}`);
  } finally {
    faults.end();
    if (world.wrong.length > 0) log = engine.log();
    if (world.wrong.length > 0) preserve(engine, note);
    await engine[Symbol.asyncDispose]().catch((error: unknown) => world.wrong.push(`at the end: ${String(error)}`));
    const left = remains([], snapshot(owners.filter(({ root }) => root === engine.root)));
    world.wrong.push(...left.map((line) => `left behind: ${line}`));
  }
  const { wrong, answers } = world;
  return { wrong, seconds: (Date.now() - began) / 1000, faults: faults.counts, answers, log };
}

/** Set by main: copies what is needed to look into a failure. */
let preserve: (engine: TestEngine, note: (text: string) => void) => void = () => undefined;
export const onFailure = (keep: typeof preserve): void => void (preserve = keep);

class Run {
  readonly #lives: (Life | undefined)[] = ROLES.map(() => undefined);
  #count = 0;

  constructor(private readonly world: World) {}

  async play({ actions }: Script): Promise<void> {
    const { world } = this;
    await world.call('POST', '/networks/create', { Name: USER_NETWORK, Driver: 'bridge' });
    const descriptors = descriptorsOf(world.engine.pid).length;
    const follower = new Follower(world);
    for (let at = 0; at < actions.length && !this.#isOver(); at += BETWEEN_CHECKS) {
      const part = actions.slice(at, at + BETWEEN_CHECKS);
      await Promise.all(Array.from({ length: LANES }, (_, lane) => this.#lane(part.filter((a) => a.lane === lane))));
      if (this.#isOver()) return this.#end(follower);
      await world.faults.over();
      await world.faults.up();
      await audit(world, this.#existing());
      world.note(`checkpoint after ${Math.min(at + BETWEEN_CHECKS, actions.length)}`);
    }
    if (this.#isOver()) return this.#end(follower);
    await this.#removeAll();
    await this.#expectNothing(descriptors);
    await this.#end(follower);
  }

  #isOver(): boolean {
    const isOver = this.world.wrong.length > 0;
    return isOver;
  }

  async #end(follower: Follower): Promise<void> {
    await follower.finish();
    this.world.stopped = true;
  }

  #existing = (): Life[] => this.#lives.filter((life): life is Life => life?.exists ?? false);

  async #lane(actions: readonly Action[]): Promise<void> {
    for (const action of actions) {
      if (this.#isOver()) return;
      await this.#act(action);
    }
  }

  async #act(action: Action): Promise<void> {
    const { world } = this;
    const { n, place, verb, arg, twin, fault } = action;
    const from = Date.now();
    const life = this.#lifeAt(place, verb === 'create');
    world.note(`${n} ${verb}${twin ? `+${twin}` : ''} ${life?.label ?? ROLES[place]!.name}`);
    const faulted = fault
      ? new Promise<void>((resolve) => setTimeout(resolve, fault.afterMs)).then(() =>
          world.faults.inject(fault, life?.exists ? life.id : undefined),
        )
      : undefined;
    const acted = SIDE.includes(verb)
      ? performSide(
          world,
          verb,
          arg,
          this.#lives.filter((_, at) => at % LANES === place % LANES).filter((l) => !!l),
        )
      : life === undefined
        ? undefined
        : verb === 'create'
          ? create(world, life, this.#target(life)).then(() => (life.exists ? life.observe('create') : undefined))
          : life.exists
            ? perform(world, life, verb, arg, twin)
            : undefined;
    const results = await Promise.allSettled([acted, faulted]);
    for (const result of results)
      if (result.status === 'rejected')
        world.fail(`${n} ${verb} ${life?.label ?? ''}: ${(result.reason as Error).stack ?? String(result.reason)}`);
    world.note(`${n} done after ${Date.now() - from} ms`);
  }

  /** @param anew makes one when none is there */
  #lifeAt(place: number, anew: boolean): Life | undefined {
    const current = this.#lives[place];
    if (!anew || current?.exists) return current;
    const directory = join(this.world.engine.root, 'witness', `${place}.${this.#count++}`);
    mkdirSync(directory, { recursive: true });
    return (this.#lives[place] = new Life(this.world, ROLES[place]!, directory, `c${place}`));
  }

  #target({ role }: Life): string {
    return role.joins === undefined ? '' : this.#lives[role.joins]?.id || 'none';
  }

  async #removeAll(): Promise<void> {
    const { world } = this;
    await Promise.all(this.#existing().map((life) => perform(world, life, 'rm-f', 0)));
    for (const { name } of ROLES.filter(({ volume }) => volume)) await world.call('DELETE', `/volumes/v-${name}`);
    await world.call('DELETE', `/networks/${USER_NETWORK}`);
  }

  /** After everything was removed, nothing of it is anywhere. */
  async #expectNothing(descriptors: number): Promise<void> {
    const { world } = this;
    const { engine } = world;
    const left = (): string[] => [
      ...readdirSafely(join(engine.root, 'data', 'containers')).map((name) => `data/containers/${name}`),
      ...readdirSafely(join(engine.root, 'data', 'volumes')).map((name) => `data/volumes/${name}`),
      ...readdirSafely(join(engine.execRoot, 'c')).map((name) => `run/c/${name}`),
      ...readdirSafely(join(engine.execRoot, 'netns')).map((name) => `run/netns/${name}`),
      ...readdirSafely(join(engine.execRoot, 'oci', 'runc')).map((name) => `run/oci/runc/${name}`),
      ...engine.shims().map((pid) => `shim ${pid}`),
    ];
    if (!(await world.eventually(() => left().length === 0, LEAK_MS)))
      world.fail(`left after the removal of everything: ${left().join(' ')}`);
    const open = (): string[] => descriptorsOf(engine.pid);
    if (!(await world.eventually(() => open().length <= descriptors + DESCRIPTOR_SLACK, LEAK_MS)))
      world.fail(`the daemon has ${open().length} descriptors, ${descriptors} at first: ${open().join(' ')}`);
  }
}

const descriptorsOf = (pid: number): string[] =>
  readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return []; // closed meanwhile
    }
  });
