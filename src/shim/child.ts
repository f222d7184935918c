/** A process whose death the shim must learn: a container's init, an exec, a health probe. */
import { closeSync, readFileSync, writeFileSync } from 'node:fs';
import { faultPoint } from '../sys/fault.ts';
import { removeFile } from '../sys/file.ts';
import type { Fd } from '../sys/libc.ts';
import { isAlive, pidfdKill, pidfdOpen, procStat } from '../sys/process.ts';
import { foreignDeath, unknownDeath, type Death, type Reaper } from './reaper.ts';

export class Child {
  readonly death: Promise<Death>;
  #dead = false;
  #resolveDeath!: (death: Death) => void;

  private constructor(
    readonly pid: number,
    readonly startTime: string,
    readonly pidfd: Fd | null,
    private readonly noteFile: string,
  ) {
    this.death = new Promise((resolve) => (this.#resolveDeath = resolve));
  }

  /** A child of this process, which may be dead already. `noteFile` records its death for a successor (see #died). */
  static spawned(pid: number, reaper: Reaper, noteFile: string): Child {
    const child = new Child(pid, procStat(pid)?.startTime ?? '', pidfdOpen(pid), noteFile);
    reaper.watch(pid, (death) => child.#died(death));
    return child;
  }

  /** A child of a dead shim, which may be dead by now. `heldPidfd` is the pidfd that its keeper held. */
  static inherited(
    known: { pid: number; startTime: string },
    heldPidfd: Fd | null,
    reaper: Reaper,
    noteFile: string,
  ): Child {
    const alive = isAlive(known.pid, known.startTime);
    const pidfd = heldPidfd ?? (alive ? pidfdOpen(known.pid) : null);
    const child = new Child(known.pid, known.startTime, pidfd, noteFile);
    const noted = readNote(noteFile);
    if (noted) child.#died(noted);
    else if (alive) reaper.watchForeign(known.pid, known.startTime, pidfd, (death) => child.#died(death));
    else child.#died(foreignDeath(known.pid, known.startTime, pidfd) ?? unknownDeath());
    return child;
  }

  get dead(): boolean {
    return this.#dead;
  }

  /** Sends a signal. False when the process is dead. */
  kill(signal: number): boolean {
    return !this.#dead && this.pidfd !== null && pidfdKill(this.pidfd, signal);
  }

  /** Closes the pidfd and removes the note. Call it once the death is in the journal. */
  close(): void {
    if (this.pidfd !== null) closeSync(this.pidfd);
    removeFile(this.noteFile);
    faultPoint('death.removed');
  }

  // The exit code can be reaped only once, and it is journalled only after the output is drained. The note keeps it for
  // a successor if this shim is killed in between.
  #died(death: Death): void {
    this.#dead = true;
    faultPoint('death.before');
    if (death.known) writeNote(this.noteFile, death);
    faultPoint('death.noted');
    this.#resolveDeath(death);
  }
}

/** A noted death, as serialized: times are ns, decimal. */
interface Note {
  code: number;
  signal: number;
  wall: string;
  mono: string;
}

function writeNote(file: string, { code, signal, at }: Death): void {
  const note: Note = { code, signal, wall: String(at.wall), mono: String(at.mono) };
  try {
    writeFileSync(file, JSON.stringify(note), { mode: 0o600 });
  } catch {
    // The exec root is full: the journal must suffice.
  }
}

function readNote(file: string): Death | undefined {
  try {
    const { code, signal, wall, mono } = JSON.parse(readFileSync(file, 'utf8')) as Note;
    return { code, signal, at: { wall: BigInt(wall), mono: BigInt(mono) }, known: true };
  } catch {
    return undefined;
  }
}
