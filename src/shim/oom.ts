/** Whether the kernel killed any of a container's processes for want of memory. */
import { readFileSync, watch, type FSWatcher } from 'node:fs';
import { dirname, join } from 'node:path';
import { oomKills } from './cgroup.ts';

const EVENTS = 'memory.events';

/**
 * A cgroup that we made ourselves stays until the runtime deletes the container: its counter can be read after the end. systemd
 * removes a scope the moment that it is empty, often before we get to look: there the counter is watched (on v2, as containerd
 * does), and what it may have told last is taken from the slice above, whose counter holds those of all scopes in it.
 */
export class OomWatch {
  #watcher: FSWatcher | undefined;
  #counted = 0;
  /** The counter of the slice when this one was last seen; undefined until something happened in this one. */
  #slice: number | undefined;
  #sliceAtStart = 0;

  constructor(private readonly cgroups: Map<string, string>, { removedBySystemd }: { removedBySystemd: boolean }) {
    const unified = cgroups.get('');
    if (!removedBySystemd || unified === undefined || cgroups.has('memory')) return;
    this.#sliceAtStart = this.#inSlice(unified);
    try {
      this.#watcher = watch(join(unified, EVENTS), { persistent: false }, () => this.#look(unified));
      this.#watcher.on('error', () => this.close());
    } catch {
      // No inotify instance is left, or the container is gone already: then one look at the end has to do.
    }
  }

  /** To be asked at once when the container has died, and before the runtime deletes it. */
  kills(): number {
    const unified = this.cgroups.get('');
    // Gone, after something had happened to its memory, and the slice counts one more than when we last saw both.
    const before = this.#slice;
    if (this.#watcher && unified !== undefined && before !== undefined && counter(unified) === undefined && this.#inSlice(unified) > before) this.#counted++;
    return Math.max(this.#counted, oomKills(this.cgroups));
  }

  close(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
  }

  #look(unified: string): void {
    this.#slice ??= this.#sliceAtStart;
    const count = counter(unified);
    if (count === undefined) return;
    this.#counted = Math.max(this.#counted, count);
    this.#slice = this.#inSlice(unified);
  }

  #inSlice = (unified: string): number => counter(dirname(unified)) ?? 0;
}

function counter(directory: string): number | undefined {
  try {
    return Number(/^oom_kill (\d+)$/m.exec(readFileSync(join(directory, EVENTS), 'latin1'))?.[1] ?? 0);
  } catch {
    return undefined;
  }
}
