/** Counts the OOM kills of a container as they happen. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { oomKills, waitsForMemory } from './cgroup.ts';
import { MemoryAlarm } from './memory-alarm.ts';

const EVENTS = 'memory.events';

/**
 * A cgroup that the runtime made stays until the runtime deletes the container, so its counter can be read after the
 * death. systemd removes a scope as soon as it is empty, often before its counter could be read (on v2): then the last
 * counter seen is used, and a last kill is inferred from the parent slice, whose counter includes its scopes.
 */
export class OomWatch {
  #alarm: MemoryAlarm | undefined;
  #closed = false;
  /** Directory of a systemd scope on v2; undefined for any other cgroup. */
  readonly #scope: string | undefined;
  #counted = 0;
  /** OOMs at which nothing was killed. */
  #waits = 0;
  /** The slice's counter when the scope was last seen; undefined until the scope had a memory event. */
  #slice: number | undefined;
  readonly #sliceAtStart: number;

  /** `onKill` gets the total so far, perhaps twice the same. */
  constructor(
    private readonly cgroups: Map<string, string>,
    private readonly onKill: (kills: number) => void,
    { removedBySystemd }: { removedBySystemd: boolean },
  ) {
    const unified = cgroups.get('');
    this.#scope = removedBySystemd && !cgroups.has('memory') ? unified : undefined;
    this.#sliceAtStart = this.#inSlice();
  }

  /** Starts to report kills, including those that have happened already. */
  arm(): void {
    if (this.#closed) return;
    this.#alarm = new MemoryAlarm(this.cgroups, (isNew) => this.#onAlarm(isNew));
    this.#count();
  }

  /** The total. Call it as soon as the container has died, before the runtime deletes it. */
  kills(): number {
    const before = this.#slice;
    const scopeIsGone = this.#scope !== undefined && counter(this.#scope) === undefined;
    // The scope had a memory event, and the slice has counted a kill since: it was probably this scope's.
    if (scopeIsGone && before !== undefined && this.#inSlice() > before) this.#counted++;
    this.#counted = Math.max(this.#counted, this.#inCgroup());
    return this.#counted;
  }

  close(): void {
    this.#closed = true;
    this.#alarm?.close();
  }

  #count(): void {
    const before = this.#counted;
    this.#counted = Math.max(before, this.#inCgroup());
    if (this.#counted > before) this.onKill(this.#counted);
  }

  #onAlarm(isNew: boolean): void {
    // Without a killer, v1 reports that the processes wait; Docker's oom event is for that too.
    if (isNew && waitsForMemory(this.cgroups)) this.#waits++;
    this.#count();
    if (this.#scope === undefined) return;
    this.#slice ??= this.#sliceAtStart;
    if (counter(this.#scope) !== undefined) this.#slice = this.#inSlice();
  }

  #inCgroup = (): number => oomKills(this.cgroups) + this.#waits;

  #inSlice = (): number => (this.#scope === undefined ? 0 : (counter(dirname(this.#scope)) ?? 0));
}

function counter(directory: string): number | undefined {
  try {
    return Number(/^oom_kill (\d+)$/m.exec(readFileSync(join(directory, EVENTS), 'latin1'))?.[1] ?? 0);
  } catch {
    return undefined;
  }
}
