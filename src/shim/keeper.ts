/**
 * The keeper: a tiny process that only holds descriptors open (FIFOs' read ends, stdin's write end, pty master, the
 * init's
 * pidfd, bound ports), so that a shim's death is neither EPIPE nor EOF nor a hang-up. The next shim finds it by its
 * file
 * and takes back what has no path (node-on-linux.md §10).
 */
import { closeSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { removeFile } from '../sys/file.ts';
import type { Fd } from '../sys/libc.ts';
import { isAlive, kill, pidfdGetfd, pidfdKill, pidfdOpen, procStat, SIGKILL } from '../sys/process.ts';
import { spawn } from '../sys/spawn.ts';
import type { Reaper } from './reaper.ts';

export interface KeptDescriptors {
  /** What Stdio.kept() named, in its order. */
  stdio: Fd[];
  /** The pidfd of the process that it is about. */
  pidfd: Fd | null;
  ports: Fd[];
}

/** Contents of a keeper's file; the numbers are the keeper's own. */
interface KeeperNote extends KeptDescriptors {
  pid: number;
  startTime: string;
}

const FIRST_KEPT = 3;
const SLEEP = ['/usr/bin/sleep', '/bin/sleep'].find(existsSync) ?? 'sleep';
/** One that somebody kills is replaced, but not in a tight loop. */
const RENEW_MS = 500;

/** Sees to it that one keeper holds what `descriptors` names. */
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

  /** Starts a keeper; one that is there ends afterwards, so that nothing is let go that is still named. */
  renew(): void {
    clearTimeout(this.#renewal);
    if (this.#ended) return;
    const previous = this.#pid;
    try {
      this.#pid = this.#spawn();
    } catch {
      this.#renewSoon();
      return;
    }
    if (previous !== undefined) kill(previous, SIGKILL);
  }

  /** Lets go of everything. */
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
      this.#renewSoon();
    });
    this.#note(pid, kept);
    return pid;
  }

  #renewSoon(): void {
    if (!this.#ended) this.#renewal = setTimeout(() => this.renew(), RENEW_MS);
  }

  #note(pid: number, kept: KeptDescriptors): void {
    let next = FIRST_KEPT;
    const note: KeeperNote = {
      pid,
      startTime: procStat(pid)?.startTime ?? '',
      stdio: kept.stdio.map(() => next++),
      pidfd: kept.pidfd === null ? null : next++,
      ports: kept.ports.map(() => next++),
    };
    writeFileSync(`${this.file}.new`, JSON.stringify(note), { mode: 0o600 });
    renameSync(`${this.file}.new`, this.file);
  }
}

/** What the keeper of a dead shim still holds; nothing when it is dead too. */
export class Inheritance {
  readonly #pidfd: Fd;
  readonly #note: KeeperNote | undefined;

  constructor(file: string) {
    const note = readNote(file);
    this.#note = note && isAlive(note.pid, note.startTime) ? note : undefined;
    this.#pidfd = this.#note ? pidfdOpen(this.#note.pid) : -1;
  }

  /** For Stdio.takeOver(). */
  get stdio(): { pidfd: Fd; fds: number[] } {
    return { pidfd: this.#pidfd, fds: this.#note?.stdio ?? [] };
  }

  takePidfd = (): Fd | null =>
    typeof this.#note?.pidfd === 'number' ? pidfdGetfd(this.#pidfd, this.#note.pidfd) : null;
  takePorts = (): Fd[] => (this.#note?.ports ?? []).map((fd) => pidfdGetfd(this.#pidfd, fd));

  /** Everything that is wanted was taken: the old keeper ends. */
  release(): void {
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
