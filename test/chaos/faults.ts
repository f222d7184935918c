/** The faults of a run: only processes of its own engine, found by that engine's files and proven by them. */
import { appendFileSync, existsSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { procStat } from '../../src/sys/process.ts';
import type { TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';
import type { Fault, FaultKind } from './script.ts';

/** A time in which answers may fail because of a fault. */
export interface Window {
  kind: FaultKind;
  /** Container id, for what concerns one only. */
  id: string | undefined;
  from: number;
  /** Infinity while it lasts. */
  to: number;
}

/** What follows a fault may fail this much longer, ms: a shim's successor must start, on a loaded machine. */
const AFTERMATH_MS = 5_000;
const RUNTIME_SEARCH_MS = 400;
const RUNTIME_POLL_MS = 2;
const REFILL_MS = 50;
const UP_MS = 60_000;

export class Faults {
  readonly windows: Window[] = [];
  /** Number of daemons that were started, the one that is just starting included. */
  daemonsStarting = 1;
  readonly counts = new Map<FaultKind, number>();
  #turn: Promise<unknown> = Promise.resolve();
  /** Frozen processes by pid. */
  readonly #frozen = new Set<number>();

  constructor(
    private readonly engine: TestEngine,
    private readonly note: (text: string) => void,
  ) {}

  /** Carries out a fault. @param id the container of its action, if it exists */
  async inject({ kind, lastsMs }: Fault, id: string | undefined): Promise<void> {
    if (kind.startsWith('daemon') || kind === 'disk-full') return this.#alone(() => this.#global(kind, lastsMs));
    const found = await this.#find(kind, id);
    if (kind === 'firewall-flush') {
      await this.#during(kind, undefined, async () => void execFileSync('nft', ['flush', 'ruleset']));
      return;
    }
    if (found.length === 0) return;
    const concerns = /^(shim|keeper)/.test(kind) ? id : undefined;
    await this.#during(kind, concerns, async () => {
      if (kind.endsWith('kill')) for (const process of found) this.#signal(process, 'SIGKILL');
      else await this.#freeze(found, lastsMs);
    });
  }

  /** Whether a fault explains a failure between two times (ms since the epoch) of a request about `id`. */
  explains(from: number, to: number, id?: string, kinds?: RegExp): boolean {
    return this.windows.some(
      (window) =>
        window.from <= to &&
        window.to + AFTERMATH_MS >= from &&
        (window.id === undefined || id === undefined || window.id === id) &&
        (kinds === undefined || kinds.test(window.kind)),
    );
  }

  /** How many faults of these kinds there were, to `id` if they concern one container. */
  count = (kinds: RegExp, id: string | undefined): number =>
    this.windows.filter((window) => kinds.test(window.kind) && (window.id === undefined || window.id === id)).length;

  /** Resolves when the fault that is under way is over. */
  over = (): Promise<unknown> => this.#turn;

  /** Lets everything run again, and frees the disk. */
  end(): void {
    for (const pid of this.#frozen) continueProcess(pid);
    rmSync(this.#ballast, { force: true });
  }

  #alone(task: () => Promise<void>): Promise<void> {
    const turn = this.#turn.then(task);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async #global(kind: FaultKind, lastsMs: number): Promise<void> {
    const { engine } = this;
    await this.#during(kind, undefined, async () => {
      switch (kind) {
        case 'daemon-freeze':
          return this.#freeze([identify(engine.pid)!], lastsMs);
        case 'disk-full':
          return this.#fillDisk(lastsMs);
        default:
          if (kind === 'daemon-kill') await engine.kill9();
          else await engine.stop();
          await sleep(lastsMs);
          this.daemonsStarting++;
          await engine.startAgain();
      }
    });
  }

  async #during(kind: FaultKind, id: string | undefined, task: () => Promise<void>): Promise<void> {
    const window: Window = { kind, id, from: Date.now(), to: Infinity };
    this.windows.push(window);
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
    this.note(`fault ${kind} ${id?.slice(0, 12) ?? ''}`);
    try {
      await task();
    } finally {
      window.to = Date.now();
    }
  }

  async #freeze(processes: Identity[], lastsMs: number): Promise<void> {
    const stopped = processes.filter((process) => this.#signal(process, 'SIGSTOP'));
    for (const { pid } of stopped) this.#frozen.add(pid);
    await sleep(lastsMs);
    for (const process of stopped) {
      this.#signal(process, 'SIGCONT');
      this.#frozen.delete(process.pid);
    }
  }

  get #ballast(): string {
    return join(this.engine.root, 'data', 'ballast');
  }

  async #fillDisk(lastsMs: number): Promise<void> {
    const end = Date.now() + lastsMs;
    try {
      while (Date.now() < end) {
        for (const size of [1024 * 1024, 4096]) appendUntilFull(this.#ballast, size);
        await sleep(REFILL_MS);
      }
    } finally {
      rmSync(this.#ballast, { force: true });
    }
  }

  /** Sends a signal to the process if it is still the same. */
  #signal({ pid, startTime }: Identity, signal: NodeJS.Signals): boolean {
    if (procStat(pid)?.startTime !== startTime) return false;
    try {
      process.kill(pid, signal);
      return true;
    } catch {
      return false;
    }
  }

  async #find(kind: FaultKind, id: string | undefined): Promise<Identity[]> {
    const { execRoot } = this.engine;
    switch (kind.split('-')[0]) {
      case 'shim':
        return id === undefined ? [] : shimsOf(this.engine, id);
      case 'keeper':
        return id === undefined ? [] : keepersOf(join(execRoot, 'c', id.slice(0, 16)));
      case 'listener':
        return recorded(join(execRoot, 'listener.json'));
      case 'dns':
        return processes((argv) => /aardvark-dns|holdfast-dns|holdfast-names/.test(argv) && argv.includes(execRoot));
      case 'proxy':
        return processes((argv) => argv.includes('holdfast-ports') && argv.includes(execRoot));
      case 'runtime':
        return this.#runtimeInFlight();
      default:
        return [];
    }
  }

  async #runtimeInFlight(): Promise<Identity[]> {
    const end = Date.now() + RUNTIME_SEARCH_MS;
    for (;;) {
      const found = processes((argv) => /(^|\/)runc\0/.test(argv) && argv.includes(join(this.engine.execRoot, 'oci')));
      if (found.length > 0 || Date.now() > end) return found.slice(0, 1);
      await sleep(RUNTIME_POLL_MS);
    }
  }

  /** Resolves when the daemon answers. @throws when it does not */
  async up(): Promise<void> {
    await until(async () => {
      await this.over();
      return (await this.engine.api('GET', '/_ping').catch(() => undefined))?.status === 200;
    }, UP_MS);
  }
}

interface Identity {
  pid: number;
  startTime: string;
}

function identify(pid: number): Identity | undefined {
  const stat = procStat(pid);
  return stat === undefined ? undefined : { pid, startTime: stat.startTime };
}

function processes(isWanted: (argv: string) => boolean): Identity[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      // Identified first: what is read afterwards is of this process or of none.
      const identity = identify(Number(name));
      try {
        const argv = readFileSync(`/proc/${name}/cmdline`, 'latin1');
        return identity !== undefined && isWanted(argv) ? [identity] : [];
      } catch {
        return []; // ended meanwhile
      }
    });
}

/** The container's shim: it is named after the id, and has the container's files open. */
function shimsOf(engine: TestEngine, id: string): Identity[] {
  const directory = join(engine.root, 'data', 'containers', id);
  return processes((argv) => argv.includes('holdfast-shim') && argv.includes(id.slice(0, 12))).filter(({ pid }) => {
    try {
      return readdirSync(`/proc/${pid}/fd`).some((fd) => {
        try {
          return readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith(directory);
        } catch {
          return false;
        }
      });
    } catch {
      return false;
    }
  });
}

const keepersOf = (runDirectory: string): Identity[] =>
  existsSync(runDirectory)
    ? readdirSync(runDirectory)
        .filter((name) => /^\d+\.keeper$/.test(name))
        .flatMap((name) => recorded(join(runDirectory, name)))
    : [];

/** The process that a file of the engine names, if it still is the same. */
function recorded(file: string): Identity[] {
  try {
    const { pid, startTime } = JSON.parse(readFileSync(file, 'utf8')) as Identity;
    return identify(pid)?.startTime === startTime ? [{ pid, startTime }] : [];
  } catch {
    return [];
  }
}

function continueProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGCONT');
  } catch {
    return; // it has ended
  }
}

function appendUntilFull(file: string, size: number): void {
  try {
    for (;;) appendFileSync(file, Buffer.alloc(size));
  } catch {
    return; // ENOSPC
  }
}
