/**
 * The server's bound sockets. A process beside the server holds them too, so that questions queue while no server runs;
 * the next server takes them from it with pidfd_getfd(2).
 */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Serial } from '../../../async/serial.ts';
import { duplicate, mkfifo } from '../../../sys/file.ts';
import { bindService, listen } from '../../../sys/inet.ts';
import type { Fd } from '../../../sys/libc.ts';
import { isAlive, kill, pidfdGetfd, pidfdOpen, procStat, SIGKILL } from '../../../sys/process.ts';
import { DNS_FILES } from './tables.ts';
import type { Transport } from './upstream.ts';

const PORT = 53;
const FIRST_HELD = 3;
/** Delay before a killed holder is replaced. */
const RENEW_MS = 500;
// Waits for `go`, sent once the holder is recorded, then forever. An unrecorded holder ends with its server.
const HOLD = 'read go && read forever <> "$0"';

/** `udp 10.1.0.1` */
export type SocketName = `${Transport} ${string}`;

interface Holder {
  pid: number;
  startTime: string;
  /** In the order of its descriptors. */
  sockets: SocketName[];
}

export class KeptSockets {
  readonly #sockets = new Map<SocketName, Fd>();
  readonly #changes = new Serial();
  /** On record. */
  #holders: Holder[] = [];
  /** What the holder that this process started holds. */
  #held: string | undefined;
  #ended = false;

  constructor(private readonly directory: string) {}

  /** Takes the sockets of the server before. */
  takeOver(): void {
    this.#holders = readHolders(this.#record).filter(({ pid, startTime }) => isAlive(pid, startTime));
    for (const holder of this.#holders) this.#takeFrom(holder);
  }

  /** A duplicate; undefined when the socket could not be opened. */
  get(name: SocketName): Fd | undefined {
    const fd = this.#sockets.get(name);
    return fd === undefined ? undefined : duplicate(fd);
  }

  /** Opens and closes sockets until there are these. @returns which could not be opened, and why */
  async set(names: readonly SocketName[]): Promise<string[]> {
    const failed: string[] = [];
    for (const [name, fd] of this.#sockets) {
      if (names.includes(name)) continue;
      closeSync(fd);
      this.#sockets.delete(name);
    }
    for (const name of names) {
      if (this.#sockets.has(name)) continue;
      try {
        this.#sockets.set(name, open(name));
      } catch (error) {
        failed.push(`${name}: ${(error as Error).message}`);
      }
    }
    await this.#changes.run(() => this.#renew());
    return failed;
  }

  /** Closes the sockets for good. */
  end(): void {
    this.#ended = true;
    for (const { pid, startTime } of this.#holders) if (isAlive(pid, startTime)) kill(pid, SIGKILL);
    for (const fd of this.#sockets.values()) closeSync(fd);
    this.#sockets.clear();
    rmSync(this.#record, { force: true });
  }

  /** From now on another server owns the sockets. */
  handOver(): void {
    this.#ended = true;
  }

  get #record(): string {
    return join(this.directory, DNS_FILES.holders);
  }

  #takeFrom({ pid, sockets }: Holder): void {
    let pidfd: Fd | undefined;
    try {
      pidfd = pidfdOpen(pid);
      for (const [i, name] of sockets.entries())
        if (!this.#sockets.has(name)) this.#sockets.set(name, pidfdGetfd(pidfd, FIRST_HELD + i));
    } catch (error) {
      // The holder has ended: its sockets are opened again.
      console.error('holder', pid, error);
    } finally {
      if (pidfd !== undefined) closeSync(pidfd);
    }
  }

  // The new holder is on record before it stays, and the old ones go only then.
  async #renew(): Promise<void> {
    const names = [...this.#sockets.keys()];
    if (this.#ended || this.#held === names.join()) return;
    const previous = this.#holders;
    if (names.length === 0) return void this.#replace(previous, []);
    const child = spawn('sh', ['-c', HOLD, this.#fifo()], {
      argv0: 'holdfast-dns-sockets',
      detached: true,
      cwd: '/',
      env: {},
      stdio: ['pipe', 'ignore', 'ignore', ...names.map((name) => this.#sockets.get(name)!)],
    });
    child.on('error', () => this.#renewLater());
    const { pid, stdin } = child;
    if (pid === undefined || !stdin) return;
    const holder: Holder = { pid, startTime: procStat(pid)?.startTime ?? '', sockets: names };
    this.#write([holder, ...previous]);
    child.once('exit', () => {
      if (!this.#holders.includes(holder)) return;
      this.#held = undefined;
      this.#renewLater();
    });
    child.unref();
    await new Promise<void>((resolve) => {
      stdin.on('error', () => resolve());
      stdin.end('go\n', () => resolve());
    });
    this.#replace(previous, [holder]);
  }

  #replace(previous: Holder[], next: Holder[]): void {
    // A successor may have taken over.
    if (this.#ended) return;
    this.#holders = next;
    this.#held = next[0]?.sockets.join() ?? '';
    for (const { pid, startTime } of previous) if (isAlive(pid, startTime)) kill(pid, SIGKILL);
    this.#write(next);
  }

  #renewLater(): void {
    if (!this.#ended) setTimeout(() => void this.#changes.run(() => this.#renew()), RENEW_MS);
  }

  #write(holders: Holder[]): void {
    writeFileSync(`${this.#record}.new`, JSON.stringify(holders), { mode: 0o600 });
    renameSync(`${this.#record}.new`, this.#record);
  }

  #fifo(): string {
    const path = join(this.directory, DNS_FILES.fifo);
    if (!existsSync(path)) mkfifo(path);
    return path;
  }
}

function open(name: SocketName): Fd {
  const [transport, address] = name.split(' ') as [Transport, string];
  const fd = bindService(transport, address, PORT);
  if (transport === 'tcp') listen(fd);
  return fd;
}

function readHolders(path: string): Holder[] {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Holder[];
  } catch {
    return [];
  }
}
