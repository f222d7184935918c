/** How many of a container's processes the kernel has killed for want of memory, told at once. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { oomKills } from './cgroup.ts';
import { MemoryAlarm } from './memory-alarm.ts';

const EVENTS = 'memory.events';

/**
 * A cgroup that we made ourselves stays until the runtime deletes the container: its counter can be read after the end.
 * systemd
 * removes a scope the moment that it is empty, often before we get to look: there (on v2) the counter is what it was
 * when it was
 * last seen, and what it may have told last is taken from the slice above, whose counter holds those of all scopes in
 * it.
 */
export class OomWatch {
  #alarm: MemoryAlarm | undefined;
  #closed = false;
  /** A scope of systemd's on v2; undefined for others. */
  readonly #scope: string | undefined;
  #counted = 0;
  /** The counter of the slice when this one was last seen; undefined until something happened in this one. */
  #slice: number | undefined;
  readonly #sliceAtStart: number;

  /** `onKill` hears the number of all until now, and may hear one twice. */
  constructor(
    private readonly cgroups: Map<string, string>,
    private readonly onKill: (kills: number) => void,
    { removedBySystemd }: { removedBySystemd: boolean },
  ) {
    const unified = cgroups.get('');
    this.#scope = removedBySystemd && !cgroups.has('memory') ? unified : undefined;
    this.#sliceAtStart = this.#inSlice();
  }

  /** From now on it is told at once; what happened before, too. */
  arm(): void {
    if (this.#closed) return;
    this.#alarm = new MemoryAlarm(this.cgroups, () => this.#look());
    this.#count();
  }

  /** To be asked at once when the container has died, and before the runtime deletes it. */
  kills(): number {
    const before = this.#slice;
    // Gone, after something had happened to its memory, and the slice counts one more than when we last saw both.
    if (
      this.#scope !== undefined &&
      before !== undefined &&
      counter(this.#scope) === undefined &&
      this.#inSlice() > before
    )
      this.#counted++;
    this.#counted = Math.max(this.#counted, oomKills(this.cgroups));
    return this.#counted;
  }

  close(): void {
    this.#closed = true;
    this.#alarm?.close();
  }

  #count(): void {
    const before = this.#counted;
    this.#counted = Math.max(before, oomKills(this.cgroups));
    if (this.#counted > before) this.onKill(this.#counted);
  }

  #look(): void {
    this.#count();
    if (this.#scope === undefined) return;
    this.#slice ??= this.#sliceAtStart;
    if (counter(this.#scope) !== undefined) this.#slice = this.#inSlice();
  }

  #inSlice = (): number => (this.#scope === undefined ? 0 : (counter(dirname(this.#scope)) ?? 0));
}

function counter(directory: string): number | undefined {
  try {
    return Number(/^oom_kill (\d+)$/m.exec(readFileSync(join(directory, EVENTS), 'latin1'))?.[1] ?? 0);
  } catch {
    return undefined;
  }
}
