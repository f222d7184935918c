/**
 * Lanes: containers that get two operations each at the same time, while their shim, or the daemon of all of them, dies
 * at a fault point (src/sys/fault.ts). Then what clients, the kernel and the disk show is compared with what the serial
 * orders of the operations allow (serial-orders.ts).
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startEngine, type TestEngine } from './engine.ts';
import { judgeLines, COUNTING } from './counting-container.ts';
import { LANE_LABEL, NETWORK, operationsOn, type Answers } from './lane-operations.ts';
import { disagreements, everything, judgeEvents, queued, see, shortOf } from './lane-state.ts';
import { allowedStates, keyOf, type OperationName, type Seen } from './serial-orders.ts';
import { until } from './until.ts';

export type Base = 'created' | 'running' | 'restarting';

export interface Lane {
  base: Base;
  /** In the order in which they are sent. */
  operations: OperationName[];
  /** Between the two, ms. */
  apart: number;
  /** Points at which its shim, and that one's successors, die: `name#n`, separated by spaces; '' = none. */
  shim: string;
}

export interface Shot {
  lanes: Lane[];
  /** Where the daemon dies: `name#n`; '' = nowhere. */
  daemon: string;
}

/** What died, and what was wrong, in words that name the lane. */
export interface Result {
  daemonDied: boolean;
  /** For each lane, the points at which its shims died. */
  hits: string[][];
  wrong: string[];
}

interface Recorded {
  daemon: string[];
  shim: string[];
  successor: string[];
}

interface Container {
  lane: Lane;
  id: string;
  short: string;
  label: string;
  before: Seen;
  answers: Answers[];
}

/** How long an operation may go on after its answer, ms: a teardown, a shim that is prepared, one that ends. */
const AFTERMATH_MS = 400;
/** The shim moves itself a second after a start, and compacts its journal a second after it has grown. */
const LATE = new Set<OperationName>(['start', 'write']);
const SETTLE_MS = 30_000;

export class CrashLanes implements AsyncDisposable {
  readonly #daemonFile: string;
  readonly #shimFiles: string;
  #shots = 0;
  #labels = 0;

  private constructor(readonly engine: TestEngine) {
    const { root } = engine;
    this.#daemonFile = join(root, 'daemon-fault');
    this.#shimFiles = join(root, 'shim-faults');
    mkdirSync(this.#shimFiles);
  }

  static async start(): Promise<CrashLanes> {
    const engine = await startEngine();
    const lanes = new CrashLanes(engine);
    const { status } = await engine.api('POST', '/networks/create', { Name: NETWORK });
    if (status !== 201) throw new Error(`the network was not created: ${status}`);
    await engine.kill9();
    await lanes.#startDaemon();
    return lanes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.engine[Symbol.asyncDispose]();
  }

  /**
   * The points that one operation on its own passes, in order: in the daemon, in the container's shim, and, where that
   * dies at `first`, in its successor.
   */
  async recorded(base: Base, operation: OperationName, first = ''): Promise<Recorded> {
    const container = await this.#create({ base, operations: [operation], apart: 0, shim: '' });
    this.#order(container, '@record', `${first} @record`.trim());
    await this.#operate(container);
    await sleep(LATE.has(operation) || first !== '' ? AFTERMATH_MS * 4 : AFTERMATH_MS);
    this.#disarm([container]);
    const [daemon, all] = [passedIn(this.#daemonFile), passedIn(this.#shimFile(container))];
    await this.#clearAway([container]);
    rmSync(`${this.#shimFile(container)}.hit`, { force: true });
    const died = all.indexOf('died');
    return died < 0
      ? { daemon, shim: all, successor: [] }
      : { daemon, shim: all.slice(0, died), successor: all.slice(died + 1) };
  }

  /** Runs the lanes side by side, and checks what they leave. */
  async fire({ lanes, daemon }: Shot): Promise<Result> {
    const shot = ++this.#shots;
    const containers = await Promise.all(lanes.map((lane) => this.#create(lane)));
    for (const container of containers)
      this.#order(container, daemon && `${daemon} @${shot}`, container.lane.shim && `${container.lane.shim} @${shot}`);
    const answered = Promise.all(containers.map((container) => this.#operate(container)));
    await Promise.race([answered.then(() => this.#aftermath()), until(this.engine.isDead, SETTLE_MS)]).catch(
      () => undefined,
    );
    this.#disarm(containers);
    const daemonDied = hitsIn(this.#daemonFile).length > 0;
    rmSync(`${this.#daemonFile}.hit`, { force: true });
    if (daemonDied) {
      await until(this.engine.isDead);
      await this.#startDaemon();
    }
    await answered;
    const wrong = [...(await this.#judge(containers)), ...(await this.#clearAway(containers))];
    const hits = containers.map((container) => hitsIn(this.#shimFile(container)));
    for (const container of containers) rmSync(`${this.#shimFile(container)}.hit`, { force: true });
    const where = daemon === '' ? '' : `daemon ${daemonDied ? 'died' : 'did not die'} at ${daemon}; `;
    return { daemonDied, hits, wrong: wrong.map((text) => where + text) };
  }

  async #startDaemon(): Promise<void> {
    await this.engine.startAgain({
      HOLDFAST_FAULT_FILE: this.#daemonFile,
      HOLDFAST_FAULT_DIR: this.#shimFiles,
      // Answers are checked by other tests; the check makes a start slower.
      HOLDFAST_CHECK_ANSWERS: undefined,
    });
  }

  async #create(lane: Lane): Promise<Container> {
    const label = String(++this.#labels);
    const { status, json, text } = await this.engine.api('POST', '/containers/create', {
      Image: 'busybox',
      Labels: { [LANE_LABEL]: label },
      Cmd: ['sh', '-c', COUNTING],
      HostConfig: {
        LogConfig: { Type: 'json-file', Config: { 'max-size': '8k', 'max-file': '200' } },
        ...(lane.base === 'restarting' ? { RestartPolicy: { Name: 'unless-stopped' } } : {}),
      },
    });
    if (status !== 201) throw new Error(`create: ${status} ${text}`);
    const { Id: id } = json as { Id: string };
    if (lane.base !== 'created') await this.#must('POST', `/containers/${id}/start`);
    const isUp = lane.base !== 'created';
    const before: Seen = {
      status: isUp ? 'running' : 'down',
      renamed: false,
      limited: false,
      bridge: true,
      pairs: false,
    };
    return { lane, id, short: shortOf(id), label, before, answers: [] };
  }

  #shimFile = ({ short }: Container): string => join(this.#shimFiles, short);

  #order(container: Container, daemon: string, shim: string): void {
    if (shim !== '') replace(this.#shimFile(container), shim);
    if (daemon !== '') replace(this.#daemonFile, daemon);
  }

  #disarm(containers: Container[]): void {
    rmSync(this.#daemonFile, { force: true });
    for (const container of containers) rmSync(this.#shimFile(container), { force: true });
  }

  async #operate(container: Container): Promise<void> {
    const { lane } = container;
    const operations = operationsOn(this.engine, container);
    const sent: Promise<Answers>[] = [];
    for (const name of lane.operations) {
      if (sent.length > 0) await sleep(lane.apart);
      sent.push(operations[name]());
    }
    container.answers = await Promise.all(sent);
  }

  /** Until the work behind the answers has reached its point, too. */
  async #aftermath(): Promise<void> {
    const isOpen = (file: string): boolean => existsSync(file) && readFileSync(file, 'utf8').includes('#');
    const files = [this.#daemonFile, ...readdirSync(this.#shimFiles).map((name) => join(this.#shimFiles, name))];
    await until(() => !files.some(isOpen), AFTERMATH_MS * 4).catch(() => undefined);
  }

  /** Waits until each lane shows an allowed state, and nothing else of it is there. Returns what is wrong. */
  async #judge(containers: Container[]): Promise<string[]> {
    const wrong = await Promise.all(containers.map((container) => this.#judgeOne(container)));
    return wrong.flat();
  }

  async #judgeOne(container: Container): Promise<string[]> {
    const { lane, id, answers, before } = container;
    const wrong = answers.flatMap(({ twice }, i) => (twice ? [`${lane.operations[i]} was answered twice`] : []));
    const attempts = lane.operations.map((name, i) => ({ name, done: answers[i]!.done }));
    const allowed = allowedStates(before, attempts);
    let seen = '';
    let there: string[] = [];
    const agrees = async (): Promise<boolean> => {
      if ((await queued(this.engine, id)) > 0) return false;
      const now = await see(this.engine, id);
      seen = now ? keyOf(now) : seen;
      if (!now || !allowed.has(seen)) return false;
      there = disagreements(this.engine, id, now);
      return there.length === 0;
    };
    await until(async () => (await agrees()) && (await agrees()), SETTLE_MS).catch((error: unknown) => {
      wrong.push(allowed.has(seen) ? `left: ${there.join(', ')}` : `is ${seen}, not ${[...allowed].join(' or ')}`);
      if (!(error instanceof Error)) throw error;
    });
    return wrong.map((text) => `${this.#name(container)}: ${text}`);
  }

  #name({ lane, answers, id }: Container): string {
    const said = lane.operations.map((name, i) => `${name} → ${answers[i]?.codes.join('/') || 'no answer'}`);
    const shim = lane.shim === '' ? '' : ` with its shim dying at ${lane.shim}`;
    return `[${lane.base}: ${said.join(', ')}; ${lane.apart} ms apart${shim}; ${id.slice(0, 12)}]`;
  }

  /** Stops, starts, stops and removes what is there; nothing may remain. Returns what is wrong. */
  async #clearAway(containers: Container[]): Promise<string[]> {
    const wrong = await Promise.all(containers.map((container) => this.#useAndRemove(container)));
    let last: string[] = [];
    await until(async () => (last = await everything(this.engine)).length === 0, SETTLE_MS).catch(() =>
      wrong.push([`after the removal of ${containers.map((c) => this.#name(c)).join()}: ${last.join(', ')}`]),
    );
    return wrong.flat();
  }

  async #useAndRemove(container: Container): Promise<string[]> {
    const { id, lane } = container;
    const wrong: string[] = [];
    try {
      const seen = await see(this.engine, id);
      if (seen?.status !== 'gone') {
        if (seen?.status === 'paused') await this.#must('POST', `/containers/${id}/unpause`);
        await this.#must('POST', `/containers/${id}/stop?t=3`);
        await this.#must('POST', `/containers/${id}/start`);
        await this.#must('POST', `/containers/${id}/stop?t=3`);
        const { LogPath } = await this.engine.inspect<{ LogPath: string }>(id);
        const deaths = hitsIn(this.#shimFile(container)).length;
        wrong.push(...judgeLines(LogPath, deaths));
        await this.#must('DELETE', `/containers/${id}`);
      }
      wrong.push(...(await judgeEvents(this.engine, id)));
    } catch (error) {
      wrong.push((error as Error).message);
      await this.engine.api('DELETE', `/containers/${id}?force=1`);
    }
    return wrong.map((text) => `${this.#name({ ...container, lane })}: ${text}`);
  }

  async #must(method: string, path: string): Promise<void> {
    const { status, text } = await this.engine.api(method, path);
    if (status >= 400) throw new Error(`${method} ${path}: ${status} ${text}`);
  }
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

function replace(file: string, text: string): void {
  writeFileSync(`${file}.order`, text);
  renameSync(`${file}.order`, file);
}

function linesOf(file: string): string[] {
  return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n').filter(Boolean) : [];
}

const hitsIn = (file: string): string[] => linesOf(`${file}.hit`);

function passedIn(file: string): string[] {
  const points = linesOf(`${file}.passed`);
  rmSync(`${file}.passed`, { force: true });
  return points;
}
