/**
 * A daemon of its own for a test: own roots, own bridge, the real docker CLI in front of it. Everything it made is gone
 * when it is disposed.
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
import type { Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { namesFor } from '../../src/config/names.ts';
import { CONTRACT_VIOLATION, contractViolation, operationOf } from '../../src/api/contract-check.ts';
import { ownerOf, owners, pidsOf, type Owner } from '../support/snapshot.ts';
import { busyboxTar } from './busybox.ts';
import { request, type Answer } from './http.ts';
import { until } from './until.ts';

const holdfastd = fileURLToPath(new URL('../../bin/holdfastd', import.meta.url));
const DOCKER = process.env.HOLDFAST_DOCKER || 'docker';
const START_DEADLINE_MS = 15_000;
/** Short: unix socket paths end at 107 bytes. */
const TEMPORARY = '/tmp/hf-';
/** What ends by itself after the last container: a shim's cgroup, the port proxy. */
const ENDING_MS = 8_000;
/**
 * Another file's engines may be there at the same time, in another worker: bridges and networks of each worker have
 * addresses of their own.
 */
const WORKER = Number(process.env.VITEST_POOL_ID ?? 1);
const BRIDGES = `10.${219 + WORKER}`;
/** What a daemon looks for free subnets in; the first worker's in what is the default. */
const POOL = WORKER === 1 ? [] : ['--default-address-pool', `base=10.${78 + 2 * WORKER}.0.0/15,size=24`];
let count = 0;

/** A command that runs; `result` is what it came to. */
export interface Command {
  stdin: Writable;
  stdout(): string;
  stderr(): string;
  exitCode: Promise<number>;
  result: Promise<{ stdout: string; stderr: string; exitCode: number }>;
}

/** Of a daemon. */
interface Place {
  /** Name of the network namespace that it lives in, if not the test's. */
  netns?: string;
  /** More of its command line. */
  flags?: readonly string[];
}

export class TestEngine implements AsyncDisposable {
  readonly socket: string;
  readonly execRoot: string;
  readonly #owner: Owner;
  #daemon: ChildProcess | undefined;

  constructor(
    readonly root: string,
    private readonly bip: string,
    private readonly place: Place = {},
  ) {
    this.socket = join(root, 'h.sock');
    this.execRoot = join(root, 'run');
    this.#owner = ownerOf(root);
    owners.push(this.#owner);
  }

  /** @param variables for its environment: a fault, say */
  async startAgain(variables: NodeJS.ProcessEnv = {}): Promise<void> {
    const log = openSync(join(this.root, 'log'), 'a');
    const [program, ...args] = this.#within(
      holdfastd,
      '--host',
      `unix://${this.socket}`,
      '--data-root',
      join(this.root, 'data'),
      '--exec-root',
      this.execRoot,
      '--bip',
      this.bip,
      ...POOL,
      ...(this.place.flags ?? []),
    );
    this.#daemon = spawn(program!, args, {
      stdio: ['ignore', log, log],
      env: { ...process.env, HOLDFAST_CHECK_ANSWERS: '1', ...variables },
    });
    closeSync(log);
    await until(async () => {
      if (this.#daemon!.exitCode !== null || this.#daemon!.signalCode !== null)
        throw new Error(`the daemon ended:\n${readFileSync(join(this.root, 'log'), 'utf8').slice(-2000)}`);
      return (
        existsSync(this.socket) && (await request(this.socket, 'GET', '/_ping').catch(() => undefined))?.status === 200
      );
    }, START_DEADLINE_MS);
  }

  /** Whether the daemon has ended, by a fault say. */
  isDead = (): boolean =>
    this.#daemon !== undefined && (this.#daemon.exitCode !== null || this.#daemon.signalCode !== null);

  async kill9(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** Whether the daemon has ended by itself, or by a fault. */
  get ended(): boolean {
    return this.#daemon!.exitCode !== null || this.#daemon!.signalCode !== null;
  }

  /** Of the daemon. */
  get pid(): number {
    return this.#daemon!.pid!;
  }

  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  /**
   * One request. A JSON answer that does not fit the contract is thrown; what other clients get, the daemon checks
   * itself.
   */
  async api(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer> {
    const answer = await request(this.socket, method, path, body, headers);
    const operation = operationOf(method, path);
    const wrong =
      operation && answer.headers['content-type'] === 'application/json' && answer.json !== undefined
        ? contractViolation(operation, answer.status, answer.json)
        : undefined;
    if (wrong) throw new Error(`${CONTRACT_VIOLATION}: ${wrong}`);
    return answer;
  }

  docker = (...args: string[]): Command => this.#run(DOCKER, args);

  /** What it prints. @throws when it fails */
  async dockerOutput(...args: string[]): Promise<string> {
    const { stdout, stderr, exitCode } = await this.docker(...args).result;
    if (exitCode !== 0) throw new Error(`docker ${args.join(' ')}: ${stderr}`);
    return stdout;
  }

  /** Why it fails. @throws when it does not */
  async dockerRefusal(...args: string[]): Promise<string> {
    const { stderr, exitCode } = await this.docker(...args).result;
    if (exitCode === 0) throw new Error(`docker ${args.join(' ')}: was not refused`);
    return stderr;
  }

  /** The same behind a terminal, which the CLI wants for -t. */
  terminal(...args: string[]): Command {
    const quoted = [DOCKER, ...args].map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
    return this.#run('script', ['-qefc', quoted, '/dev/null']);
  }

  curl = async (url: string): Promise<string> => {
    const [program, ...args] = this.#within('curl', '-sS', '-m', '3', url);
    const { stdout, exitCode } = await this.#run(program!, args).result;
    if (exitCode !== 0) throw new Error(`curl ${url}: ${exitCode}`);
    return stdout;
  };

  /** Writes a file into a running container's rootfs by way of the host: no daemon is needed for it. */
  writeInto(id: string, file: string, text: string): void {
    writeFileSync(join(this.execRoot, 'c', id.slice(0, 16), 'rootfs', file), text);
  }

  /** Pids of the living shims that hold a container of this engine. */
  shims(): number[] {
    const mine = join(this.root, 'data');
    return readdirSync('/proc')
      .filter((pid) => /^\d+$/.test(pid))
      .map(Number)
      .filter((pid) => {
        try {
          // A warm one has no container yet, and none of its descriptors is a journal.
          return (
            readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('holdfast-shim') &&
            readlinks(pid).some((path) => path.startsWith(join(mine, 'containers')))
          );
        } catch {
          return false;
        }
      });
  }

  /** @throws what was wrong, after everything was taken away all the same */
  async [Symbol.asyncDispose](): Promise<void> {
    const wrong: unknown[] = [];
    const attempt = async (step: () => void | Promise<void>): Promise<void> => {
      try {
        await step();
      } catch (error) {
        wrong.push(error);
      }
    };
    await attempt(() => this.#empty());
    await attempt(() => this.#noCgroups());
    if (!this.isDead()) await attempt(() => this.stop());
    const violations = readFileSync(join(this.root, 'log'), 'utf8')
      .split('\n')
      .filter((line) => line.includes(CONTRACT_VIOLATION));
    if (violations.length > 0) wrong.push(new Error(violations.join('\n')));
    await until(() => pidsOf(this.#owner).length === 0, ENDING_MS).catch(() => undefined);
    for (const pid of pidsOf(this.#owner))
      wrong.push(new Error(`still running after the daemon: ${pid} ${endNow(pid)}`));
    await attempt(() => this.#takeAwayCgroups());
    this.#takeAwayNetwork();
    this.#unmount();
    await attempt(() => rmSync(this.root, { recursive: true, force: true }));
    if (wrong.length > 0)
      throw new Error(wrong.map((error) => (error instanceof Error ? error.message : String(error))).join('\n'));
  }

  #within = (...command: string[]): string[] =>
    this.place.netns === undefined ? command : ['nsenter', `--net=/run/netns/${this.place.netns}`, ...command];

  // As a client would: what remains then is the engine's fault.
  async #empty(): Promise<void> {
    if (this.#daemon === undefined || this.isDead()) await this.startAgain();
    const all = (await this.api('GET', '/containers/json?all=1')).json as { Id: string }[];
    await Promise.all(all.map(({ Id }) => this.api('DELETE', `/containers/${Id}?force=1&v=1`)));
    for (const { Id, Name, Driver, Options } of (await this.api('GET', '/networks')).json as {
      Id: string;
      Name: string;
      Driver: string;
      Options: Record<string, string> | null;
    }[]) {
      if (Driver !== 'bridge') continue;
      this.#owner.links.add(Options?.['com.docker.network.bridge.name'] ?? `br-${Id.slice(0, 12)}`);
      if (Name !== 'bridge') await this.api('DELETE', `/networks/${Id}`);
    }
    await until(() => this.shims().length === 0);
  }

  // Of the containers and their shims.
  #noCgroups = (): Promise<void> =>
    until(() => cgroupsBelow(this.#cgroup).length === 0, ENDING_MS).catch(() => {
      throw new Error(`cgroups remain: ${cgroupsBelow(this.#cgroup).join(' ')}`);
    });

  get #cgroup(): string {
    return namesFor(join(this.root, 'data'), this.execRoot).cgroupParent.cgroupfs;
  }

  #takeAwayCgroups = (): Promise<void> => until(() => removeCgroup(this.#cgroup), ENDING_MS);

  #unmount(): void {
    const points = readFileSync('/proc/self/mountinfo', 'latin1')
      .split('\n')
      .map((line) => line.split(' ')[4] ?? '')
      .filter((point) => point.startsWith(`${this.root}/`));
    for (const point of points.reverse()) execFileSync('umount', ['-l', point]);
  }

  // The daemon leaves its bridge and rules for the next one; a test's daemon has no next.
  #takeAwayNetwork(): void {
    const quietly = (program: string, ...args: string[]): string => {
      try {
        return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
      } catch {
        return '';
      }
    };
    const address = this.bip.split('/')[0]!;
    const link = /^\d+: (\S+)/m.exec(quietly('ip', '-o', '-4', 'addr', 'show', 'to', address))?.[1];
    if (!link) return;
    for (const table of quietly('nft', 'list', 'tables').matchAll(/table (\w+) (holdfast_\w+)/g))
      if (table[2] === `holdfast_${link}`) quietly('nft', 'delete', 'table', table[1]!, table[2]);
    for (const rule of quietly('iptables', '-S')
      .split('\n')
      .filter((r) => r.startsWith('-A') && r.includes(link)))
      quietly(
        'iptables',
        ...rule
          .replace('-A', '-D')
          .split(' ')
          .map((w) => w.replaceAll('"', '')),
      );
    quietly('ip', 'link', 'del', link);
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const daemon = this.#daemon!;
    daemon.kill(signal);
    await until(() => daemon.exitCode !== null || daemon.signalCode !== null);
  }

  #run(program: string, args: string[]): Command {
    const child = spawn(program, args, {
      env: { ...process.env, DOCKER_HOST: `unix://${this.socket}` },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.stdin.on('error', () => undefined);
    const exitCode = new Promise<number>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code, signal) => resolve(code ?? (signal ? 255 : 0)));
    });
    return {
      stdin: child.stdin,
      stdout: () => stdout,
      stderr: () => stderr,
      exitCode,
      result: exitCode.then((code) => ({ stdout, stderr, exitCode: code })),
    };
  }
}

function readlinks(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return []; // closed meanwhile
    }
  });
}

/** A cgroup's directories, one in each hierarchy. */
function cgroupDirectories(path: string): string[] {
  const mounted = '/sys/fs/cgroup';
  return ['.', ...readdirSync(mounted)]
    .map((hierarchy) => join(mounted, hierarchy, path))
    .filter((place) => existsSync(place));
}

/** Of containers and shims; their parents, which stay for the next daemon, do not count. */
function cgroupsBelow(path: string): string[] {
  return cgroupDirectories(path).flatMap((place) =>
    execFileSync('find', [place, '-mindepth', '1', '-type', 'd', '-not', '-path', join(place, 'shims')], {
      encoding: 'utf8',
    })
      .split('\n')
      .filter(Boolean),
  );
}

/** Removes a cgroup and the empty ones below it, from every hierarchy. @returns whether nothing of it is left */
export function removeCgroup(path: string): boolean {
  for (const place of cgroupDirectories(path)) {
    try {
      execFileSync('find', [place, '-depth', '-type', 'd', '-exec', 'rmdir', '{}', ';'], { stdio: 'ignore' });
    } catch {
      continue; // find(1) is not content when somebody else removes one meanwhile.
    }
  }
  return cgroupDirectories(path).length === 0;
}

function endNow(pid: number): string {
  try {
    const title = readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ');
    process.kill(pid, 'SIGKILL');
    return title;
  } catch {
    return 'which has ended since';
  }
}

/** Starts a daemon with `busybox:latest` in it. `dataBytes`: its data root is a disk of its own, of this size. */
export async function startEngine({ dataBytes, ...place }: { dataBytes?: number } & Place = {}): Promise<TestEngine> {
  const subnet = (process.pid + count++) % 200;
  const engine = new TestEngine(mkdtempSync(TEMPORARY), `${BRIDGES}.${subnet}.1/24`, place);
  if (dataBytes !== undefined) {
    mkdirSync(join(engine.root, 'data'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${dataBytes}`, 'tmpfs', join(engine.root, 'data')]);
  }
  await engine.startAgain();
  const made = await engine.api('POST', '/images/create?fromSrc=-&repo=busybox&tag=latest', busyboxTar(), {
    'Content-Type': 'application/x-tar',
  });
  if (made.status !== 200) throw new Error(`busybox could not be imported: ${made.text}`);
  return engine;
}
