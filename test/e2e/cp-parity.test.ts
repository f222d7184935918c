/**
 * Runs every `docker cp` of cp-cases.ts against Debian's dockerd and against Holdfast: output, exit code and resulting
 * files must be equal. Only a real dockerd shows what Docker does in each case.
 */
import { execFile, execFileSync, spawn } from 'node:child_process';
import { lstatSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { busyboxTar } from '../support/busybox.ts';
import { copyCases, CONTAINERS, copyDifferences, TREE, type CopyCase } from './cp-cases.ts';
import { startDockerd, type Dockerd } from '../support/dockerd.ts';
import { DOCKER } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { request } from '../support/http.ts';

const MIN_CASES = 120;
const PARALLEL_COPIES = 3;
const VOLUMES = ['-v', 'kept:/volume', '-v', 'ro:/ro:ro'];
/** A file time older than this was preserved by the copy. */
const LONG_AGO = new Date('2010-01-01');

interface Outcome {
  exitCode: number;
  printed: string;
  inside: string[];
  volume: string[];
  outside: string[];
}

interface Inspected {
  GraphDriver: { Data: { MergedDir: string } };
  Mounts: { Name: string; Source: string }[];
}

/**
 * One of the two engines. Each case has directories of its own: in the container's /w and /volume, and as the client's
 * working directory.
 */
class Side {
  readonly #root = mkdtempSync(join(tmpdir(), 'hf-cp-'));
  readonly #copied = new Map<CopyCase, { exitCode: number; printed: string }>();
  readonly #directories = new Map<CopyCase, { inside: string; volume: string; outside: string }>();

  constructor(private readonly socket: string) {}

  async prepare(): Promise<void> {
    const made = await request(this.socket, 'POST', '/images/create?fromSrc=-&repo=busybox&tag=latest', busyboxTar(), {
      'Content-Type': 'application/x-tar',
    });
    if (made.status >= 400) throw new Error(made.text);
    for (const name of CONTAINERS)
      await this.#ok(
        ...['run', '-d', '--name', name, '--hostname', 'host', ...(name === 'read-only' ? ['--read-only'] : [])],
        ...VOLUMES,
        ...['busybox', 'sleep', '100000'],
      );
    await this.#makeDirectories();
    await this.#ok('kill', 'stopped');
  }

  async run(): Promise<void> {
    const queue = [...this.#directories].map(([copy, { outside }]) => ({ copy, outside }));
    const worker = async (): Promise<void> => {
      for (let item = queue.shift(); item !== undefined; item = queue.shift())
        this.#copied.set(item.copy, await this.#copy(item.copy, item.outside));
    };
    await Promise.all(Array.from({ length: PARALLEL_COPIES }, worker));
    await this.#ok('start', 'stopped');
  }

  outcome(copy: CopyCase): Outcome {
    const { inside, volume, outside } = this.#directories.get(copy)!;
    return { ...this.#copied.get(copy)!, inside: listing(inside), volume: listing(volume), outside: listing(outside) };
  }

  async dispose(): Promise<void> {
    for (const name of CONTAINERS) await request(this.socket, 'DELETE', `/containers/${name}?force=1`);
    for (const name of ['kept', 'ro']) await request(this.socket, 'DELETE', `/volumes/${name}`);
    rmSync(this.#root, { recursive: true, force: true });
  }

  // Prepared from the host by one script: hundreds of `docker exec` would take minutes.
  async #makeDirectories(): Promise<void> {
    const template = join(this.#root, 'template');
    const roots = new Map<string, { inside: string; volume: string }>();
    for (const name of CONTAINERS) {
      const { GraphDriver, Mounts } = (await request(this.socket, 'GET', `/containers/${name}/json`)).json as Inspected;
      roots.set(name, {
        inside: join(GraphDriver.Data.MergedDir, 'w'),
        volume: Mounts.find(({ Name }) => Name === 'kept')!.Source,
      });
    }
    const script = ['set -e; umask 022', `mkdir ${template}; cd ${template}; ${TREE}`];
    for (const [number, copy] of copyCases.entries()) {
      const index = String(number).padStart(3, '0');
      const { inside, volume } = roots.get(containerOf(copy))!;
      const directories = {
        inside: join(inside, index),
        volume: join(volume, index),
        outside: join(this.#root, index),
      };
      this.#directories.set(copy, directories);
      script.push(
        `mkdir -p ${inside} ${directories.volume}; echo kept >${directories.volume}/kept; cp -a ${template} ${directories.inside}; cp -a ${template} ${directories.outside}`,
      );
      script.push(
        `mkdir -p ${directories.outside}/holder/file; cd ${directories.inside}; ${copy.inside ?? ''}\ncd ${directories.outside}; ${copy.outside ?? ''}`,
      );
    }
    await promisify(execFile)('sh', ['-c', script.join('\n')]);
  }

  async #copy(copy: CopyCase, cwd: string): Promise<{ exitCode: number; printed: string }> {
    const index = cwd.slice(-3);
    const args = copy.args.map((word) =>
      word.replace(/^C:/, `${containerOf(copy)}:`).replace(/(:\/*w|:.*\/w|\/volume)(?=\/|$)/, `$1/${index}`),
    );
    const stdin = copy.stdin === undefined ? undefined : execFileSync('sh', ['-c', copy.stdin], { cwd });
    const { exitCode, output, stderr } = await this.#docker(['cp', ...args], { cwd, stdin });
    const table =
      copy.archive && exitCode === 0
        ? execFileSync('tar', ['--numeric-owner', '-tvf', '-'], { input: output, encoding: 'utf8' }).replace(
            /\d{4}-\d\d-\d\d \d\d:\d\d/g,
            (time) => (new Date(time) < LONG_AGO ? 'old' : 'new'),
          )
        : output.toString();
    // Whether the client reports a broken pipe depends on timing; drop those lines.
    return {
      exitCode,
      printed: `${table}${stderr.replace(/^time=.*\n/gm, '')}`.replaceAll(cwd, '<here>').replaceAll(`/${index}`, ''),
    };
  }

  async #ok(...args: string[]): Promise<void> {
    const { exitCode, stderr } = await this.#docker(args, {});
    if (exitCode !== 0) throw new Error(`docker ${args.join(' ')}: ${stderr}`);
  }

  #docker(
    args: string[],
    { cwd = this.#root, stdin = Buffer.alloc(0) }: { cwd?: string; stdin?: Buffer | undefined },
  ): Promise<{ exitCode: number; output: Buffer; stderr: string }> {
    const child = spawn(DOCKER, args, {
      cwd,
      env: { ...process.env, DOCKER_HOST: `unix://${this.socket}` },
    });
    const output: Buffer[] = [];
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.stdin.on('error', () => undefined);
    child.stdin.end(stdin);
    return new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (exitCode) => resolve({ exitCode: exitCode ?? 255, output: Buffer.concat(output), stderr }));
    });
  }
}

const containerOf = (copy: CopyCase): string => copy.container ?? 'running';

/** Each file below `root`: mode, owner, whether its time was preserved, content or link target. */
function listing(root: string): string[] {
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .sort()
    .map((name) => {
      const path = join(root, name);
      const found = lstatSync(path);
      if (found.isSymbolicLink()) return `${name} -> ${readlinkSync(path)}`;
      return `${name} ${found.mode.toString(8)} ${found.uid}:${found.gid} ${found.mtime < LONG_AGO ? 'old' : 'new'} ${found.isFile() ? readFileSync(path, 'utf8').slice(0, 60) : ''}`;
    });
}

let holdfast: TestEngine;
let dockerd: Dockerd;
let [ours, theirs]: Side[] = [];

beforeAll(async () => {
  [holdfast, dockerd] = await Promise.all([startEngine(), startDockerd()]);
  [ours, theirs] = [new Side(holdfast.socket), new Side(dockerd.socket)];
  await Promise.all([ours.prepare(), theirs.prepare()]);
  await Promise.all([ours.run(), theirs.run()]);
}, 600_000);

afterAll(async () => {
  await theirs?.dispose();
  await dockerd?.[Symbol.asyncDispose]();
  await ours?.dispose();
  await holdfast?.[Symbol.asyncDispose]();
});

describe('docker cp behaves the same on dockerd and on Holdfast [cp-parity]', () => {
  test(`at least ${MIN_CASES} distinct cases are compared`, () => {
    expect(copyCases.length).toBeGreaterThanOrEqual(MIN_CASES);
    expect(new Set(copyCases.map(({ name }) => name)).size).toBe(copyCases.length);
  });

  for (const copy of copyCases) {
    test(copy.name, () => {
      const [here, there] = [ours!.outcome(copy), theirs!.outcome(copy)];
      const difference = copyDifferences[copy.name];
      if (!difference) return void expect(here).toEqual(there);
      const { reason, ...otherwise } = difference;
      expect(here, 'the difference no longer exists: remove it from copyDifferences').not.toEqual(there);
      expect(here, reason).toEqual({ ...there, ...otherwise });
    });
  }
});
