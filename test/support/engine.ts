/**
 * A daemon for one test file, with roots and a bridge of its own and the real docker CLI in front of it. Disposing it
 * removes everything that it made, and fails when the engine left something behind.
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CONTRACT_VIOLATION, contractViolation, operationOf } from '../../src/api/contract-check.ts';
import { namesFor } from '../../src/config/names.ts';
import { removeBridge } from './bridge.ts';
import { busyboxTar } from './busybox.ts';
import { cgroupsBelow, removeCgroup } from './cgroups.ts';
import { DOCKER, startCommand, type Command } from './docker-cli.ts';
import { ownerOf, owners, pidsOf, type Owner } from './host-snapshot.ts';
import { request, type Answer } from './http.ts';
import { hasExited } from './processes.ts';
import { until } from './until.ts';

/** The launcher of this build. */
export const HOLDFASTD = fileURLToPath(new URL('../../bin/holdfastd', import.meta.url));
const START_DEADLINE_MS = 15_000;
const LOG_TAIL_CHARS = 2_000;
/** Short, because the path of a unix socket has at most 107 bytes: unix(7). */
const ROOT_PREFIX = '/tmp/hf-';
/** Deadline for what ends by itself after the last container: a shim's cgroup, the port proxy. */
const ENDING_MS = 8_000;
/** Vitest's workers run engines side by side, so the bridges and networks of each have their own addresses. */
const WORKER = Number(process.env.VITEST_POOL_ID ?? 1);
const BRIDGES = `10.${219 + WORKER}`;
/** Where the daemon looks for free subnets; the first worker tests the default. */
const POOL = WORKER === 1 ? [] : ['--default-address-pool', `base=10.${78 + 2 * WORKER}.0.0/15,size=24`];
let count = 0;

interface DaemonOptions {
  /** The network namespace to run in, if not the test's. */
  netns?: string;
  /** Further command-line flags. */
  flags?: readonly string[];
  /** The launcher of another release. */
  program?: string;
}

interface NetworkSummary {
  Id: string;
  Name: string;
  Driver: string;
  Options: Record<string, string> | null;
}

export class TestEngine implements AsyncDisposable {
  readonly socket: string;
  readonly execRoot: string;
  /** The launcher of the next daemon. */
  program: string;
  /** Flags of the next daemon, besides those for its roots and addresses. */
  flags: readonly string[];
  readonly #owner: Owner;
  readonly #cgroup: string;
  #daemon: ChildProcess | undefined;

  constructor(
    readonly root: string,
    public bip: string,
    private readonly options: DaemonOptions = {},
  ) {
    this.program = options.program ?? HOLDFASTD;
    this.flags = options.flags ?? [];
    this.socket = join(root, 'h.sock');
    this.execRoot = join(root, 'run');
    this.#owner = ownerOf(root);
    this.#cgroup = namesFor(join(root, 'data'), this.execRoot).cgroupParent.cgroupfs;
    owners.push(this.#owner);
  }

  /** Starts a daemon on the same roots. @param variables for its environment, e.g. a fault point */
  async startAgain(variables: NodeJS.ProcessEnv = {}): Promise<void> {
    const log = openSync(join(this.root, 'log'), 'a');
    const [program, ...args] = this.#inNetns(
      this.program,
      ...['--host', `unix://${this.socket}`],
      ...['--data-root', join(this.root, 'data')],
      ...['--exec-root', this.execRoot],
      ...['--bip', this.bip],
      ...POOL,
      ...this.flags,
    );
    this.#daemon = spawn(program!, args, {
      stdio: ['ignore', log, log],
      env: { ...process.env, HOLDFAST_CHECK_ANSWERS: '1', ...variables },
    });
    closeSync(log);
    await until(async () => {
      if (this.isDead()) throw new Error(`the daemon ended:\n${this.log().slice(-LOG_TAIL_CHARS)}`);
      if (!existsSync(this.socket)) return false;
      const ping = await request(this.socket, 'GET', '/_ping').catch(() => undefined);
      return ping?.status === 200;
    }, START_DEADLINE_MS);
  }

  /** Whether the daemon was started and has ended. */
  isDead = (): boolean => this.#daemon !== undefined && hasExited(this.#daemon);

  async kill9(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** The daemon's pid. */
  get pid(): number {
    return this.#daemon!.pid!;
  }

  /** Ends the daemon in order, as before a restart. @returns its exit code; null when a signal ended it */
  async stop(): Promise<number | null> {
    await this.#end('SIGTERM');
    return this.#daemon!.exitCode;
  }

  /**
   * Sends one request.
   * @throws when a JSON answer violates the contract; the daemon checks what it sends to other clients itself
   */
  async api(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer> {
    const answer = await request(this.socket, method, path, body, headers);
    const operation = operationOf(method, path);
    const isJson = answer.headers['content-type'] === 'application/json' && answer.json !== undefined;
    const violation = operation && isJson ? contractViolation(operation, answer.status, answer.json) : undefined;
    if (violation) throw new Error(`${CONTRACT_VIOLATION}: ${violation}`);
    return answer;
  }

  /** A container as the API describes it. */
  inspect = async <T>(name: string): Promise<T> => (await this.api('GET', `/containers/${name}/json`)).json as T;

  docker = (...args: string[]): Command => startCommand(this.socket, DOCKER, args);

  /** Standard output of a docker command. @throws when it fails */
  async dockerOutput(...args: string[]): Promise<string> {
    const { stdout, stderr, exitCode } = await this.docker(...args).result;
    if (exitCode !== 0) throw new Error(`docker ${args.join(' ')}: ${exitCode} ${stderr}`);
    return stdout;
  }

  /** Standard error of a docker command that must fail. @throws when it succeeds */
  async dockerRefusal(...args: string[]): Promise<string> {
    const { stderr, exitCode } = await this.docker(...args).result;
    if (exitCode === 0) throw new Error(`docker ${args.join(' ')}: was not refused`);
    return stderr;
  }

  /** A docker command on a terminal, which the CLI requires for -t. */
  terminal(...args: string[]): Command {
    const quoted = [DOCKER, ...args].map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
    return startCommand(this.socket, 'script', ['-qefc', quoted, '/dev/null']);
  }

  curl = async (url: string): Promise<string> => {
    const [program, ...args] = this.#inNetns('curl', '-sS', '-m', '3', url);
    const { stdout, exitCode } = await startCommand(this.socket, program!, args).result;
    if (exitCode !== 0) throw new Error(`curl ${url}: ${exitCode}`);
    return stdout;
  };

  /** What all daemons on these roots have written to stderr. */
  log = (): string => readFileSync(join(this.root, 'log'), 'utf8');

  /** Writes a file into a running container's rootfs from the host, without the daemon. */
  writeInto(id: string, file: string, text: string): void {
    writeFileSync(join(this.execRoot, 'c', id.slice(0, 16), 'rootfs', file), text);
  }

  /** Pids of the living shims that have a container of this engine. A warm shim has none: it has no journal open. */
  shims(): number[] {
    const containers = join(this.root, 'data', 'containers');
    return readdirSync('/proc')
      .filter((pid) => /^\d+$/.test(pid))
      .map(Number)
      .filter((pid) => {
        try {
          const isShim = readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('holdfast-shim');
          return isShim && openPaths(pid).some((path) => path.startsWith(containers));
        } catch {
          return false; // ended meanwhile
        }
      });
  }

  /** Removes everything, whatever fails. @throws all that was wrong */
  async [Symbol.asyncDispose](): Promise<void> {
    const wrong: string[] = [];
    const attempt = async (step: () => void | Promise<void>): Promise<void> => {
      try {
        await step();
      } catch (error) {
        wrong.push(error instanceof Error ? error.message : String(error));
      }
    };
    await attempt(() => this.#empty());
    await attempt(() => this.#expectNoCgroups());
    // Not SIGTERM, after which the listening sockets stay for the next daemon.
    if (!this.isDead()) await attempt(() => this.#end('SIGINT'));
    const violations = this.log()
      .split('\n')
      .filter((line) => line.includes(CONTRACT_VIOLATION));
    if (violations.length > 0) wrong.push(violations.join('\n'));
    await until(() => pidsOf(this.#owner).length === 0, ENDING_MS).catch(() => undefined);
    for (const pid of pidsOf(this.#owner)) wrong.push(`still running after the daemon: ${pid} ${kill(pid)}`);
    await attempt(() => until(() => removeCgroup(this.#cgroup), ENDING_MS));
    // The daemon keeps its bridge and rules for the next daemon; a test's daemon has no successor.
    removeBridge(this.bip.split('/')[0]!);
    this.#unmount();
    await attempt(() => rmSync(this.root, { recursive: true, force: true }));
    if (wrong.length > 0) throw new Error(wrong.join('\n'));
  }

  #inNetns = (...command: string[]): string[] =>
    this.options.netns === undefined ? command : ['nsenter', `--net=/run/netns/${this.options.netns}`, ...command];

  /** Removes containers and networks through the API, as a client would: what remains is the engine's fault. */
  async #empty(): Promise<void> {
    if (this.#daemon === undefined || this.isDead()) await this.startAgain();
    const containers = (await this.api('GET', '/containers/json?all=1')).json as { Id: string }[];
    await Promise.all(containers.map(({ Id }) => this.api('DELETE', `/containers/${Id}?force=1&v=1`)));
    const networks = (await this.api('GET', '/networks')).json as NetworkSummary[];
    for (const { Id, Name, Options } of networks.filter(({ Driver }) => Driver === 'bridge')) {
      this.#owner.links.add(Options?.['com.docker.network.bridge.name'] ?? `br-${Id.slice(0, 12)}`);
      if (Name !== 'bridge') await this.api('DELETE', `/networks/${Id}`);
    }
    await until(() => this.shims().length === 0);
  }

  #expectNoCgroups = (): Promise<void> =>
    until(() => cgroupsBelow(this.#cgroup).length === 0, ENDING_MS).catch(() => {
      throw new Error(`cgroups remain: ${cgroupsBelow(this.#cgroup).join(' ')}`);
    });

  #unmount(): void {
    const points = readFileSync('/proc/self/mountinfo', 'latin1')
      .split('\n')
      .map((line) => line.split(' ')[4] ?? '')
      .filter((point) => point.startsWith(`${this.root}/`));
    for (const point of points.reverse()) execFileSync('umount', ['-l', point]);
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const daemon = this.#daemon!;
    daemon.kill(signal);
    await until(() => hasExited(daemon));
  }
}

/** What the process's file descriptors lead to. @throws when there is no such process */
function openPaths(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return []; // closed meanwhile
    }
  });
}

/** Kills a process. @returns its command line */
function kill(pid: number): string {
  try {
    const title = readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ');
    process.kill(pid, 'SIGKILL');
    return title;
  } catch {
    return 'which has ended since';
  }
}

/**
 * Starts a daemon with `busybox:latest` in it.
 * @param dataBytes makes its data root a file system of its own, of this size
 */
export async function startEngine({
  dataBytes,
  ...options
}: { dataBytes?: number } & DaemonOptions = {}): Promise<TestEngine> {
  const subnet = (process.pid + count++) % 200;
  const engine = new TestEngine(mkdtempSync(ROOT_PREFIX), `${BRIDGES}.${subnet}.1/24`, options);
  if (dataBytes !== undefined) {
    mkdirSync(join(engine.root, 'data'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${dataBytes}`, 'tmpfs', join(engine.root, 'data')]);
  }
  await engine.startAgain();
  const imported = await engine.api('POST', '/images/create?fromSrc=-&repo=busybox&tag=latest', busyboxTar(), {
    'Content-Type': 'application/x-tar',
  });
  if (imported.status !== 200) throw new Error(`could not import busybox: ${imported.text}`);
  return engine;
}
