/** A process that the shim answers for: a container's init, or an exec. */
import { closeSync, readFileSync, writeFileSync } from 'node:fs';
import { removeFile } from '../sys/file.ts';
import type { Fd } from '../sys/libc.ts';
import { isAlive, pidfdKill, pidfdOpen, procStat } from '../sys/process.ts';
import { foreignDeath, unknownDeath, type Death, type Reaper } from './reaper.ts';

export class Child {
  readonly death: Promise<Death>;
  #dead = false;
  #setDeath!: (death: Death) => void;

  private constructor(
    readonly pid: number,
    readonly startTime: string,
    readonly pidfd: Fd | null,
    private readonly noteFile: string,
  ) {
    this.death = new Promise((resolve) => (this.#setDeath = resolve));
  }

  /** A child of this process, dead already perhaps. `noteFile`: where its end is written down at once (see #died). */
  static born(pid: number, reaper: Reaper, noteFile: string): Child {
    const child = new Child(pid, procStat(pid)?.startTime ?? '', pidfdOpen(pid), noteFile);
    reaper.watch(pid, (death) => child.#died(death));
    return child;
  }

  /** A dead shim's child, dead by now perhaps. `heldPidfd`: what its keeper held. */
  static adopted(
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

  /** False when it is dead. */
  kill(signal: number): boolean {
    return !this.#dead && this.pidfd !== null && pidfdKill(this.pidfd, signal);
  }

  /** Its end is in the journal: nothing more is owed to it. */
  release(): void {
    if (this.pidfd !== null) closeSync(this.pidfd);
    removeFile(this.noteFile);
  }

  // Once reaped nobody else can learn the code, and the journal gets it only after the output is drained: should this
  // shim be killed in between, the note tells the next one.
  #died(death: Death): void {
    this.#dead = true;
    if (death.known) writeNote(this.noteFile, death);
    this.#setDeath(death);
  }
}

function writeNote(file: string, { code, signal, at }: Death): void {
  try {
    writeFileSync(file, JSON.stringify({ code, signal, wall: String(at.wall), mono: String(at.mono) }), {
      mode: 0o600,
    });
  } catch {
    // A full exec root: then the journal alone has to do.
  }
}

function readNote(file: string): Death | undefined {
  try {
    const { code, signal, wall, mono } = JSON.parse(readFileSync(file, 'utf8')) as {
      code: number;
      signal: number;
      wall: string;
      mono: string;
    };
    return { code, signal, at: { wall: BigInt(wall), mono: BigInt(mono) }, known: true };
  } catch {
    return undefined;
  }
}
