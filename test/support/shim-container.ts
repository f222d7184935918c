/**
 * A container under a real shim, without a daemon: the test adopts it over descriptor 3, then speaks to `ctl` and `fd`.
 * It runs busybox by runc.
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { parseJournal } from '../../src/protocol/journal-format.ts';
import type { AttachOptions, WaitCondition } from '../../src/protocol/messages.ts';
import type { JournalRecord, RecordType } from '../../src/protocol/records.ts';
import type { ExecSpec, ShimSpec } from '../../src/protocol/spec.ts';
import { deliverFd } from '../../src/sys/socket.ts';
import { hasExited, isDead, processesHolding } from './processes.ts';
import { HEAD, ShimConnection, TestClient } from './shim-connection.ts';
import { until } from './until.ts';

export interface ContainerOptions {
  command: string[];
  spec?: Partial<ShimSpec>;
  memory?: number;
  hostPid?: boolean;
  terminal?: boolean;
}

/** The commands of busybox that the tests' containers use. */
const APPLETS = 'sh sleep cat true false echo kill yes dd head stty seq usleep touch test ls readlink'.split(' ');

let count = 0;

/** The directories of one container, and the shims that serve it one after another. */
/** Absolute, as the daemon gives it to its shims: runc's init carries it in its command line. */
const RUNC = execFileSync('sh', ['-c', 'command -v runc'], { encoding: 'utf8' }).trim();

export class TestContainer {
  readonly id = `hf${process.pid.toString(16)}${(count++).toString(16).padStart(4, '0')}`.padEnd(64, '0');
  readonly base = mkdtempSync(join(tmpdir(), 'hs-'));
  readonly dir = join(this.base, 'd');
  readonly run = join(this.base, 'r');
  shim: ChildProcess | null = null;
  #relays: Server[] = [];
  #handed = 0;

  constructor(
    private readonly bundle: string,
    readonly o: ContainerOptions,
  ) {
    mkdirSync(this.dir, { mode: 0o700 });
    mkdirSync(this.run, { mode: 0o700 });
    const bin = join(this.run, 'rootfs/bin');
    mkdirSync(bin, { recursive: true });
    for (const d of ['proc', 'dev', 'tmp', 'sys']) mkdirSync(join(this.run, 'rootfs', d));
    copyFileSync('/usr/bin/busybox', join(bin, 'busybox'));
    for (const name of APPLETS) symlinkSync('busybox', join(bin, name));
    mkdirSync(join(this.run, 'rootfs/etc/notexec'), { recursive: true });
    this.writeSpec();
    writeFileSync(join(this.run, 'config.json'), JSON.stringify(this.config()));
  }

  get spec(): ShimSpec {
    return {
      version: 1,
      id: this.id,
      name: 'test',
      runtime: { path: RUNC, args: [], root: join(this.base, 'oci'), systemdCgroup: false },
      bundle: this.run,
      cgroup: `/holdfast-test/${this.id}`,
      shimCgroup: '',
      tty: this.o.terminal ?? false,
      openStdin: false,
      stdinOnce: false,
      consoleSize: [0, 0],
      stopSignal: 15,
      stopTimeout: 10,
      restart: { name: 'no', maximumRetryCount: 0 },
      autoRemove: false,
      log: { driver: 'json-file', path: join(this.dir, 'log'), maxSize: 0, maxFile: 1, attrs: {} },
      health: null,
      ports: [],
      slowClientMs: 60_000,
      ...this.o.spec,
    };
  }

  writeSpec(): void {
    writeFileSync(join(this.dir, 'spec.json'), JSON.stringify(this.spec));
  }

  /** An OCI process object for an exec. */
  process(args: string[]): Record<string, unknown> {
    return { ...this.config().process, args, terminal: false };
  }

  private config() {
    const namespaces = ['ipc', 'uts', 'mount', 'network', ...(this.o.hostPid ? [] : ['pid'])].map((type) => ({ type }));
    return {
      ociVersion: '1.0.2',
      process: {
        terminal: this.o.terminal ?? false,
        user: { uid: 0, gid: 0 },
        args: this.o.command,
        env: ['PATH=/bin', 'TERM=xterm'],
        cwd: '/',
        oomScoreAdj: 0,
        capabilities: Object.fromEntries(
          ['bounding', 'effective', 'permitted'].map((set) => [set, ['CAP_KILL', 'CAP_CHOWN', 'CAP_DAC_OVERRIDE']]),
        ),
      },
      root: { path: 'rootfs', readonly: false },
      hostname: 'c',
      mounts: [
        { destination: '/proc', type: 'proc', source: 'proc' },
        { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=65536k'] },
        {
          destination: '/dev/pts',
          type: 'devpts',
          source: 'devpts',
          options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620'],
        },
      ],
      linux: {
        cgroupsPath: this.spec.cgroup,
        namespaces,
        resources: {
          devices: [{ allow: false, access: 'rwm' }],
          ...(this.o.memory ? { memory: { limit: this.o.memory, swap: this.o.memory } } : {}),
        },
      },
    };
  }

  /** Starts a shim that adopts the container, and connects to it. */
  async adopt(): Promise<ShimConnection> {
    await this.spawn();
    return this.connect();
  }

  /** Starts a shim that adopts the container, without connecting to it. */
  async spawn(): Promise<void> {
    const child = spawn(process.execPath, ['--expose-gc', this.bundle], {
      detached: true,
      cwd: '/',
      env: {},
      stdio: ['ignore', 'inherit', 'inherit', 'pipe'],
    });
    this.shim = child;
    const line = child.stdio[3] as Duplex;
    line.on('error', () => {});
    const answer = await new Promise<string>((resolve, reject) => {
      line.once('data', (chunk: Buffer) => resolve(chunk.toString()));
      line.once('close', () => reject(new Error('the shim ended')));
      line.write(`${JSON.stringify({ op: 'adopt', container: this.id, dir: this.dir, run: this.run })}\n`);
    });
    line.destroy();
    const { error } = JSON.parse(answer) as { error?: string };
    if (error !== undefined) throw new Error(error);
  }

  async connect(): Promise<ShimConnection> {
    const socket = connect(join(this.run, 'ctl'));
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    return new ShimConnection(socket);
  }

  /** Creates and starts the container. @returns the pid of its init */
  async start(ctl: ShimConnection, operation = 'op-start'): Promise<number> {
    await ctl.ask<'create'>({ op: 'create', operation });
    return (await ctl.ask<'start'>({ op: 'start', operation })).pid;
  }

  /** Hands a new connection over through the shim's `fd` socket. @returns the client's end and the token */
  async handOver(): Promise<{ client: TestClient; handed: { token: string; head: string; early: string } }> {
    const path = join(this.base, `c${this.#handed++}`);
    const server = createServer({ pauseOnConnect: true });
    this.#relays.push(server);
    const [accepted, socket] = await new Promise<[Socket, Socket]>((resolve) => {
      server.listen(path, () => {
        const near = connect({ path, allowHalfOpen: true });
        server.once('connection', (far: Socket) => resolve([far, near]));
      });
    });
    const token = `t${this.#handed}`;
    deliverFd(
      join(this.run, 'fd'),
      Buffer.from(token),
      (accepted as unknown as { _handle: { fd: number } })._handle.fd,
    );
    accepted.destroy();
    server.close();
    return { client: new TestClient(socket), handed: { token, head: Buffer.from(HEAD).toString('base64'), early: '' } };
  }

  async wait(ctl: ShimConnection, condition: WaitCondition): Promise<TestClient> {
    const { client, handed } = await this.handOver();
    await ctl.ask<'wait'>({ op: 'wait', client: handed, condition });
    return client;
  }

  async attach(ctl: ShimConnection, options: Partial<AttachOptions> = {}): Promise<TestClient> {
    const { client, handed } = await this.handOver();
    await ctl.ask<'attach'>({ op: 'attach', client: handed, options: { ...ATTACH, ...options } });
    return client;
  }

  exec(args: string[], more: Partial<ExecSpec> = {}): ExecSpec {
    const id = (++this.#handed).toString(16).padStart(12, 'e').padEnd(64, '0');
    return {
      id,
      tty: false,
      consoleSize: [0, 0],
      attachStdin: false,
      attachStdout: true,
      attachStderr: true,
      detachKeys: [],
      process: this.process(args),
      ...more,
    };
  }

  /** The records in the journal file. */
  get journal(): JournalRecord[] {
    return existsSync(join(this.dir, 'journal')) ? parseJournal(readFileSync(join(this.dir, 'journal'))).records : [];
  }

  get types(): RecordType[] {
    return this.journal.map((r) => r.type);
  }

  find<T extends RecordType>(type: T): Extract<JournalRecord, { type: T }>[] {
    return this.journal.filter((r): r is Extract<JournalRecord, { type: T }> => r.type === type);
  }

  get log(): string {
    return existsSync(join(this.dir, 'log'))
      ? readFileSync(join(this.dir, 'log'), 'utf8')
          .split('\n')
          .filter(Boolean)
          .map((l) => (JSON.parse(l) as { log: string }).log)
          .join('')
      : '';
  }

  until<T extends RecordType>(type: T, ms?: number): Promise<Extract<JournalRecord, { type: T }>> {
    return until(() => this.find(type).at(-1), ms);
  }

  async killShim(): Promise<void> {
    const shim = this.shim!;
    const gone = new Promise((resolve) => shim.once('exit', resolve));
    shim.kill('SIGKILL');
    await gone;
  }

  async shimEnds(ms = 8000): Promise<void> {
    await until(() => hasExited(this.shim!), ms);
  }

  #keepers = (): number[] =>
    readdirSync(this.run)
      .filter((name) => name.endsWith('.keeper'))
      .map((name) => (JSON.parse(readFileSync(join(this.run, name), 'utf8')) as { pid: number }).pid);

  /** Kills and removes whatever is left of the container and its shims. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.shim && !hasExited(this.shim)) this.shim.kill('SIGKILL');
    for (const server of this.#relays) server.close();
    await new Promise((resolve) =>
      spawn('runc', ['--root', join(this.base, 'oci'), 'delete', '--force', this.id], { stdio: 'ignore' }).on(
        'exit',
        resolve,
      ),
    );
    for (const pid of new Set([...processesHolding(this.base), ...this.#keepers()]))
      if (!isDead(pid)) process.kill(pid, 'SIGKILL');
    rmSync(this.base, { recursive: true, force: true });
  }
}

const ATTACH: AttachOptions = {
  stdin: false,
  stdout: true,
  stderr: true,
  stream: true,
  logs: false,
  framed: true,
  detachKeys: [],
};
