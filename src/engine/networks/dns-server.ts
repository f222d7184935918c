/**
 * The DNS server of user-defined networks: aardvark-dns, a process of its own that works without the daemon. It answers
 * on each bridge's address from the files in its directory, one per network, and forwards other questions to the host's
 * servers. dns-policy.ts decides what is in the files.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Serial } from '../../async/serial.ts';
import { faultPoint } from '../../sys/fault.ts';

/** Where distributions install it. */
const PROGRAMS = ['/usr/lib/podman/aardvark-dns', '/usr/libexec/podman/aardvark-dns'];
const PORT = 53;
const PID_FILE = 'aardvark.pid';
const START_MS = 5_000;
const WATCH_MS = 1_000;

export interface DnsServerDeps {
  /** Holds the tables and nothing else: aardvark-dns reads every file in it. */
  directory: string;
  log: { warn(message: string): void };
  /** Replaced in tests. */
  program?: string;
}

export class DnsServer {
  readonly #program: string | undefined;
  /** The tables on disk. */
  #written = new Map<string, string>();
  #timer: NodeJS.Timeout | undefined;
  readonly #changes = new Serial();
  #warned = false;

  constructor(private readonly deps: DnsServerDeps) {
    this.#program = deps.program ?? PROGRAMS.find((path) => existsSync(path));
  }

  /** Whether aardvark-dns is installed. */
  get available(): boolean {
    return this.#program !== undefined;
  }

  /** Takes over the previous daemon's tables and watches the server from now on. */
  start(tables: Map<string, string>): Promise<void> {
    this.#written = this.#readTables();
    this.#timer = setInterval(() => void this.#reviveIfDead(), WATCH_MS).unref();
    return this.publish(tables);
  }

  /**
   * Replaces all tables; resolves when the server has been signalled. Never rejects: a container without DNS is better
   * than none.
   */
  publish(tables: Map<string, string>): Promise<void> {
    return this.#serially(() => this.#publish(tables));
  }

  /** Stops watching; the server keeps running. */
  close(): void {
    clearInterval(this.#timer);
  }

  #serially(task: () => Promise<void>): Promise<void> {
    return this.#changes.run(task).catch((error: unknown) => this.deps.log.warn(`dns: ${(error as Error).message}`));
  }

  async #publish(tables: Map<string, string>): Promise<void> {
    if (tables.size === 0 && this.#written.size === 0) return;
    if (!this.available) {
      if (!this.#warned)
        this.deps.log.warn('aardvark-dns is not installed: containers cannot resolve other containers');
      this.#warned = true;
      return;
    }
    const changed = this.#writeTables(tables);
    if (changed || (tables.size > 0 && this.#pid() === undefined)) await this.#reload();
  }

  /** Returns whether a file changed. */
  #writeTables(tables: Map<string, string>): boolean {
    const { directory } = this.deps;
    let changed = false;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    for (const [name, text] of tables) {
      if (this.#written.get(name) === text) continue;
      // Written beside the directory, because every file in it is read as a table.
      const draft = `${directory}.new`;
      writeFileSync(draft, text, { mode: 0o600 });
      renameSync(draft, join(directory, name));
      this.#written.set(name, text);
      faultPoint('names.written');
      changed = true;
    }
    for (const name of [...this.#written.keys()].filter((known) => !tables.has(known))) {
      rmSync(join(directory, name), { force: true });
      this.#written.delete(name);
      changed = true;
    }
    return changed;
  }

  // On SIGHUP aardvark-dns reads its tables again, and exits when there are none.
  async #reload(): Promise<void> {
    const pid = this.#pid();
    if (pid !== undefined) process.kill(pid, 'SIGHUP');
    else if (this.#written.size > 0) await this.#spawn();
  }

  async #reviveIfDead(): Promise<void> {
    if (!this.available || !this.#isDead()) return;
    await this.#serially(async () => {
      if (!this.#isDead()) return;
      this.deps.log.warn('aardvark-dns exited: starting it again');
      await this.#spawn();
    });
  }

  #isDead = (): boolean => this.#written.size > 0 && this.#pid() === undefined;

  // The parent exits with 0 once its background process listens.
  #spawn(): Promise<void> {
    rmSync(join(this.deps.directory, PID_FILE), { force: true });
    return new Promise((resolve, reject) => {
      const child = spawn(this.#program!, ['--config', this.deps.directory, '-p', String(PORT), 'run'], {
        detached: true,
        cwd: '/',
        env: {},
        stdio: 'ignore',
        timeout: START_MS,
      });
      child.once('error', reject);
      child.once('exit', (code, signal) =>
        code === 0 ? resolve() : reject(new Error(`aardvark-dns exited with ${signal ?? code}`)),
      );
    });
  }

  /** PID of the server of this directory, if it is alive. */
  #pid(): number | undefined {
    try {
      const pid = Number(readFileSync(join(this.deps.directory, PID_FILE), 'latin1'));
      if (!(pid > 0)) return undefined;
      const args = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0');
      return args.includes(this.deps.directory) ? pid : undefined;
    } catch {
      return undefined;
    }
  }

  #readTables(): Map<string, string> {
    const { directory } = this.deps;
    if (!existsSync(directory)) return new Map();
    return new Map(
      readdirSync(directory)
        .filter((name) => name !== PID_FILE)
        .map((name) => [name, readFileSync(join(directory, name), 'utf8')]),
    );
  }
}
