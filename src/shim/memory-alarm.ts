/**
 * Rings when something happens to a cgroup's memory: on v1 through an eventfd (cgroup.event_control), on v2 through
 * inotify. No thread waits, nothing polls.
 */
import { closeSync, openSync, watch, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventFd } from '../sys/file.ts';
import { handleStream } from './handle-stream.ts';

/**
 * It comes a moment before the kill that it announces (v1), and again and again under pressure (v2): further ones share
 * the next look.
 */
const PAUSE_MS = 100;
const COUNTER_BYTES = 8;

export class MemoryAlarm {
  #source: { close(): void } | undefined;
  #pause: NodeJS.Timeout | undefined;

  constructor(
    cgroups: Map<string, string>,
    private readonly onAlarm: () => void,
  ) {
    const [v1, v2] = [cgroups.get('memory'), cgroups.get('')];
    try {
      if (v1 !== undefined) this.#source = watchV1(v1, () => this.#ring());
      else if (v2 !== undefined) this.#source = watchV2(v2, () => this.#ring());
    } catch {
      // No descriptor or inotify instance is left, or the container is gone already: then one look at the end has to
      // do.
    }
  }

  close(): void {
    clearTimeout(this.#pause);
    this.#source?.close();
    this.#source = undefined;
  }

  #ring(): void {
    if (this.#pause || !this.#source) return;
    this.onAlarm();
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      this.onAlarm();
    }, PAUSE_MS).unref();
  }
}

// Linux, admin-guide/cgroup-v1/memory.rst §10: the eventfd is written to at every OOM, and when the cgroup is removed.
function watchV1(directory: string, ring: () => void): { close(): void } {
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
  const stream = handleStream(counter, { buffer: Buffer.alloc(COUNTER_BYTES), callback: () => (ring(), true) });
  stream.on('error', () => stream.destroy());
  stream.resume();
  return { close: () => void stream.destroy() };
}

function watchV2(directory: string, ring: () => void): { close(): void } {
  const watcher = watch(join(directory, 'memory.events'), { persistent: false }, ring);
  watcher.on('error', () => watcher.close());
  return watcher;
}
