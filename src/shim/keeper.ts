/**
 * The keeper: a process that only holds descriptors open (FIFOs' read ends, stdin's write end, the terminal's master,
 * the init's pidfd, bound ports), so that a shim's death causes no EPIPE, EOF or hang-up in the container. The next
 * shim finds the keeper by its file and takes back what cannot be reopened by path, with pidfd_getfd(2).
 */
import { closeSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { removeFile } from '../sys/file.ts';
import type { Fd } from '../sys/libc.ts';
import {
  bootId,
  isNotedAlive,
  kill,
  pidfdGetfd,
  pidfdKill,
  pidfdOpen,
  procStat,
  SIGKILL,
  type NotedProcess,
} from '../sys/process.ts';
import { spawn } from '../sys/spawn.ts';
import type { Reaper } from './reaper.ts';

export interface KeptDescriptors {
  /** What Stdio.kept() returned, in its order. */
  stdio: Fd[];
  /** pidfd of the process that the stdio belongs to. */
  pidfd: Fd | null;
  ports: Fd[];
}

/** Contents of a keeper's file; the descriptor numbers are those in the keeper. */
interface KeeperNote extends KeptDescriptors, NotedProcess {}

const FIRST_KEPT = 3;
const SLEEP = ['/usr/bin/sleep', '/bin/sleep'].find(existsSync) ?? 'sleep';
/** Delay before a killed keeper is replaced, so that repeated kills cause no tight loop. */
const RENEW_MS = 500;

/** Keeps one process alive that holds what `descriptors` returns. */
export class Keeper {
  #pid: number | undefined;
  #renewal: NodeJS.Timeout | undefined;
  #ended = false;

  constructor(
    private readonly file: string,
    private readonly reaper: Reaper,
    private readonly descriptors: () => KeptDescriptors,
  ) {}

  get pid(): number | undefined {
    return this.#pid;
  }

  /** Starts a keeper, then ends the previous one: no descriptor is without a holder in between. */
  renew(): void {
    clearTimeout(this.#renewal);
    if (this.#ended) return;
    const previous = this.#pid;
    try {
      this.#pid = this.#spawn();
    } catch {
      this.#renewLater();
      return;
    }
    if (previous !== undefined) kill(previous, SIGKILL);
  }

  /** Ends the keeper and removes its file. */
  end(): void {
    this.#ended = true;
    clearTimeout(this.#renewal);
    if (this.#pid !== undefined) kill(this.#pid, SIGKILL);
    removeFile(this.file);
  }

  #spawn(): number {
    const kept = this.descriptors();
    const all = [...kept.stdio, ...(kept.pidfd === null ? [] : [kept.pidfd]), ...kept.ports];
    const pid = spawn({
      file: SLEEP,
      args: ['infinity'],
      env: {},
      descriptors: ['ignore', 'ignore', 'ignore', ...all],
      session: true,
    });
    this.reaper.watch(pid, () => {
      if (pid !== this.#pid) return;
      this.#pid = undefined;
      this.#renewLater();
    });
    this.#writeNote(pid, kept);
    return pid;
  }

  #renewLater(): void {
    if (!this.#ended) this.#renewal = setTimeout(() => this.renew(), RENEW_MS);
  }

  #writeNote(pid: number, kept: KeptDescriptors): void {
    let next = FIRST_KEPT;
    const note: KeeperNote = {
      pid,
      startTime: procStat(pid)?.startTime ?? '',
      boot: bootId(),
      stdio: kept.stdio.map(() => next++),
      pidfd: kept.pidfd === null ? null : next++,
      ports: kept.ports.map(() => next++),
    };
    writeFileSync(`${this.file}.new`, JSON.stringify(note), { mode: 0o600 });
    renameSync(`${this.file}.new`, this.file);
  }
}

/** What a dead shim's keeper still holds; nothing when the keeper is dead too. */
export class Inheritance {
  readonly #pidfd: Fd;
  readonly #note: KeeperNote | undefined;

  constructor(file: string) {
    const note = readNote(file);
    this.#note = note && isNotedAlive(note) ? note : undefined;
    this.#pidfd = this.#note ? pidfdOpen(this.#note.pid) : -1;
  }

  /** For Stdio.takeOver(). */
  get stdio(): { pidfd: Fd; fds: number[] } {
    return { pidfd: this.#pidfd, fds: this.#note?.stdio ?? [] };
  }

  /** Duplicates the held pidfd. */
  takePidfd = (): Fd | null =>
    typeof this.#note?.pidfd === 'number' ? pidfdGetfd(this.#pidfd, this.#note.pidfd) : null;

  /** Duplicates the held ports' sockets. */
  takePorts = (): Fd[] => (this.#note?.ports ?? []).map((fd) => pidfdGetfd(this.#pidfd, fd));

  /** Kills the keeper: every descriptor that is needed was taken. */
  close(): void {
    if (!this.#note) return;
    pidfdKill(this.#pidfd, SIGKILL);
    closeSync(this.#pidfd);
  }
}

function readNote(file: string): KeeperNote | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as KeeperNote;
  } catch {
    return undefined;
  }
}
