/**
 * The daemon's side of the DNS server (dns/main.ts): writes its tables, starts it when needed, and replaces one of an
 * earlier release.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Serial } from '../../async/serial.ts';
import { faultPoint } from '../../sys/fault.ts';
import { endAardvark } from './aardvark.ts';
import { DnsConnection } from './dns-connection.ts';
import { DNS_FILES, type DnsTables } from './dns/tables.ts';

export interface DnsServerDeps {
  directory: string;
  /** The directory of aardvark-dns, which earlier releases used. */
  aardvark: string;
  /** The bundle of dns/main.ts. */
  bundle: string;
  /** What is to be resolved now. */
  tables: () => DnsTables;
  log: { warn(message: string): void };
}

/** The server needs little memory: small semi-spaces keep its heap small. */
const NODE_FLAGS = ['--max-semi-space-size=1', '--v8-pool-size=0'];
/** A server that was started and cannot be connected to within this time is given up. */
const START_MS = 30_000;
const STEP_MS = 5;
/** The delay before a dead server is replaced, doubled while servers die early. */
const REVIVE_MS = 10;
const MAX_REVIVE_MS = 5_000;
/** A server that lived for so long did not die early. */
const SOUND_MS = 10_000;
const MAX_LOG_BYTES = 1 << 20;

export class DnsServer {
  readonly #hash: string;
  /** The tables on disk. */
  #written: string | undefined;
  #isWanted = false;
  #connection: DnsConnection | undefined;
  readonly #changes = new Serial();
  /** A queued change that has not started. */
  #queued: Promise<void> | undefined;
  #reviveMs = REVIVE_MS;
  #startedAtMs = 0;
  /** Logged last. */
  #trouble = '';
  #closed = false;

  constructor(private readonly deps: DnsServerDeps) {
    this.#hash = hashOf(deps.bundle);
  }

  /** Takes over the server of the previous daemon, and watches it from now on. */
  async start(): Promise<void> {
    await this.publish();
    // Only now, so that the addresses are without a server for a moment only.
    await this.#serially(async () => {
      if (await endAardvark(this.deps.aardvark)) await this.#reload();
    });
  }

  /**
   * Resolves when the server answers by the tables of now. Never rejects: a container without DNS is better than none.
   */
  publish(): Promise<void> {
    this.#queued ??= this.#serially(async () => {
      this.#queued = undefined;
      await this.#publish();
    });
    return this.#queued;
  }

  /** Starts a server ahead of need, while the network of its first container is being set up. */
  prepare(): void {
    if (this.#connection || this.#changes.pending > 0 || this.#closed) return;
    void this.#serially(async () => void (await this.#connected({ isNeeded: true })));
  }

  /** Stops watching; the server keeps running while it has something to answer. */
  close(): void {
    this.#closed = true;
    this.#connection?.close();
    this.#connection = undefined;
  }

  #serially(task: () => Promise<void>): Promise<void> {
    return this.#changes.run(task).catch((error: unknown) => {
      this.#warn((error as Error).message);
      this.#reviveLater();
    });
  }

  async #publish(): Promise<void> {
    const tables = this.deps.tables();
    this.#isWanted = tables.networks.length > 0;
    const text = JSON.stringify(tables);
    const isNew = text !== this.#written;
    if (isNew && (this.#isWanted || this.#written !== undefined || this.#wasWritten())) this.#write(text);
    if (isNew || !this.#connection) await this.#reload();
  }

  #wasWritten(): boolean {
    return statSync(join(this.deps.directory, DNS_FILES.tables), { throwIfNoEntry: false }) !== undefined;
  }

  #write(text: string): void {
    const path = join(this.deps.directory, DNS_FILES.tables);
    this.#makeDirectory();
    writeFileSync(`${path}.new`, text, { mode: 0o600 });
    renameSync(`${path}.new`, path);
    this.#written = text;
    faultPoint('names.written');
  }

  #makeDirectory(): void {
    mkdirSync(this.deps.directory, { recursive: true, mode: 0o700 });
  }

  async #reload(): Promise<void> {
    if (this.#closed) return;
    // A server that ends just now is asked in vain.
    for (const last of [false, true]) {
      const connection = await this.#connected({ isNeeded: this.#isWanted });
      if (!connection) return;
      const failed = await connection.reload();
      if (failed === undefined && !last) continue;
      if (failed === undefined) throw new Error('the DNS server ends');
      if (failed.length > 0) this.#warn(failed.join(', '));
      else this.#trouble = '';
      return;
    }
  }

  /** A connection to a server of this release, which is started if need be; undefined when none is needed. */
  async #connected({ isNeeded }: { isNeeded: boolean }): Promise<DnsConnection | undefined> {
    const serves = ({ bundle }: DnsConnection): boolean => bundle === this.#hash || !isNeeded;
    if (this.#connection?.isOpen && serves(this.#connection)) return this.#connection;
    this.#connection?.close();
    this.#connection = undefined;
    const found = await DnsConnection.open(this.#socket);
    if (found && serves(found)) return this.#watch(found);
    if (!isNeeded) return undefined;
    const started = await this.#launch();
    if (started) return this.#watch(started);
    const failure = `the DNS server does not start: see ${join(this.deps.directory, DNS_FILES.log)}`;
    if (!found?.isOpen) throw new Error(failure);
    this.#warn(failure);
    return this.#watch(found);
  }

  /** Starts a server of this release; the one before, if any, makes way for it. */
  async #launch(): Promise<DnsConnection | undefined> {
    // Once more, in case the file was lost or damaged.
    if (this.#written !== undefined) this.#write(this.#written);
    const child = this.#spawn();
    const deadline = performance.now() + START_MS;
    while (performance.now() < deadline && !hasEnded(child)) {
      const connection = await DnsConnection.open(this.#socket);
      if (connection?.bundle === this.#hash) return connection;
      connection?.close();
      await delay(STEP_MS);
    }
    return undefined;
  }

  get #socket(): string {
    return join(this.deps.directory, DNS_FILES.control);
  }

  #watch(connection: DnsConnection): DnsConnection {
    this.#connection = connection;
    connection.onClose(() => {
      if (this.#connection !== connection) return;
      this.#connection = undefined;
      if (this.#closed || !this.#isWanted) return;
      this.#warn('the DNS server exited: starting another');
      this.#reviveLater();
    });
    return connection;
  }

  #reviveLater(): void {
    if (this.#closed || !this.#isWanted) return;
    if (performance.now() - this.#startedAtMs > SOUND_MS) this.#reviveMs = REVIVE_MS;
    setTimeout(() => void this.publish(), this.#reviveMs).unref();
    this.#reviveMs = Math.min(2 * this.#reviveMs, MAX_REVIVE_MS);
  }

  #spawn(): ChildProcess {
    this.#startedAtMs = performance.now();
    this.#makeDirectory();
    const log = join(this.deps.directory, DNS_FILES.log);
    const isLong = (statSync(log, { throwIfNoEntry: false })?.size ?? 0) > MAX_LOG_BYTES;
    const fd = openSync(log, isLong ? 'w' : 'a', 0o600);
    try {
      // An empty environment: NODE_OPTIONS is meant for the daemon, and some options cost 50 ms at start.
      const child = spawn(process.execPath, [...NODE_FLAGS, this.deps.bundle, this.deps.directory, this.#hash], {
        detached: true,
        cwd: '/',
        env: {},
        stdio: ['ignore', 'ignore', fd],
      });
      child.once('error', (error) => this.#warn(error.message));
      child.unref();
      return child;
    } finally {
      closeSync(fd);
    }
  }

  // A failure that lasts is logged once.
  #warn(message: string): void {
    if (message === this.#trouble) return;
    this.#trouble = message;
    this.deps.log.warn(`dns: ${message}`);
  }
}

const hasEnded = ({ exitCode, signalCode }: ChildProcess): boolean => exitCode !== null || signalCode !== null;

/** Tells servers of different builds apart. */
function hashOf(bundle: string): string {
  try {
    return createHash('sha256').update(readFileSync(bundle)).digest('hex').slice(0, 16);
  } catch {
    return '';
  }
}
