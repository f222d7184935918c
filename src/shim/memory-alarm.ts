/** Reports memory events of a cgroup: on v1 through an eventfd (cgroup.event_control), on v2 through inotify. */
import { closeSync, openSync, watch, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventFd } from '../sys/file.ts';
import { handleStream } from './handle-stream.ts';

/** v1 reports an OOM just before the kill, v2 many events under pressure: events within this share one more call. */
const PAUSE_MS = 100;
const COUNTER_BYTES = 8;

export class MemoryAlarm {
  #source: { close(): void } | undefined;
  #pause: NodeJS.Timeout | undefined;

  constructor(
    cgroups: Map<string, string>,
    /** `isNew`: for an event; else it is the further call. */
    private readonly onAlarm: (isNew: boolean) => void,
  ) {
    const [v1, v2] = [cgroups.get('memory'), cgroups.get('')];
    try {
      if (v1 !== undefined) this.#source = watchV1(v1, () => this.#onEvent());
      else if (v2 !== undefined) this.#source = watchV2(v2, () => this.#onEvent());
    } catch {
      // No descriptor or inotify instance is left, or the container is gone: the counter is read at its end only.
    }
  }

  close(): void {
    clearTimeout(this.#pause);
    this.#source?.close();
    this.#source = undefined;
  }

  #onEvent(): void {
    if (this.#pause || !this.#source) return;
    this.onAlarm(true);
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      this.onAlarm(false);
    }, PAUSE_MS).unref();
  }
}

// Linux, admin-guide/cgroup-v1/memory.rst §10: the eventfd is signalled at every OOM and when the cgroup is removed.
function watchV1(directory: string, onEvent: () => void): { close(): void } {
  const counter = eventFd();
  try {
    const control = openSync(join(directory, 'memory.oom_control'), 'r');
    try {
      writeFileSync(join(directory, 'cgroup.event_control'), `${counter} ${control}`);
    } finally {
      closeSync(control);
    }
  } catch (error) {
    closeSync(counter);
    throw error;
  }
  const stream = handleStream(counter, { buffer: Buffer.alloc(COUNTER_BYTES), callback: () => (onEvent(), true) });
  stream.on('error', () => stream.destroy());
  stream.resume();
  return { close: () => void stream.destroy() };
}

function watchV2(directory: string, onEvent: () => void): { close(): void } {
  const watcher = watch(join(directory, 'memory.events'), { persistent: false }, onEvent);
  watcher.on('error', () => watcher.close());
  return watcher;
}
