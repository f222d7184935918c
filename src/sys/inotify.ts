/** Watches many files with one descriptor. inotify(7), read when the kernel raises SIGIO. */
import { closeSync, readSync } from 'node:fs';
import { check, declare, type Fd } from './libc.ts';

const initCall = declare('int inotify_init1(int flags)');
const addWatchCall = declare('int inotify_add_watch(int fd, const char *path, unsigned int mask)');
const removeWatchCall = declare('int inotify_rm_watch(int fd, int watch)');
const fcntlCall = declare('int fcntl(int fd, int command, long argument)');

export const IN_MODIFY = 0x2;
/** A process that had the file open for writing has closed it, or has died. */
export const IN_CLOSE_WRITE = 0x8;
/** Events were lost: more than fs.inotify.max_queued_events. */
export const IN_Q_OVERFLOW = 0x4000;
/** The watch has ended: the file is gone. */
export const IN_IGNORED = 0x8000;

const IN_CLOEXEC = 0o2000000;
const IN_NONBLOCK = 0o4000;
const F_SETFL = 4;
const F_SETOWN = 8;
const O_NONBLOCK = 0o4000;
const O_ASYNC = 0o20000;
/** struct inotify_event: wd, mask, cookie, and the length of the name that follows. */
const HEADER_BYTES = 16;
const READ_BYTES = 64 * 1024;

/** `watch` is -1 with IN_Q_OVERFLOW. */
export interface WatchEvent {
  watch: number;
  mask: number;
}

/** Only one per process: SIGIO does not say which descriptor it is for. */
export class Inotify {
  readonly #fd: Fd;
  readonly #onSignal: () => void;

  /**
   * Calls `onReadable` when events can be read. Node's event loop cannot poll this kind of descriptor, so its signal is
   * used: signal-driven I/O, inotify(7).
   * @throws Errno EMFILE at fs.inotify.max_user_instances, or at the limit of descriptors
   */
  constructor(onReadable: () => void) {
    this.#fd = check(initCall(IN_CLOEXEC | IN_NONBLOCK), 'inotify_init1');
    this.#onSignal = onReadable;
    // Before O_ASYNC: the default action of SIGIO is to end the process.
    process.on('SIGIO', this.#onSignal);
    try {
      check(fcntlCall(this.#fd, F_SETOWN, process.pid), 'fcntl');
      check(fcntlCall(this.#fd, F_SETFL, O_NONBLOCK | O_ASYNC), 'fcntl');
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /**
   * Watches a file. Returns the number that its events have. One file has one watch: adding it again returns the same.
   * @throws Errno ENOENT; ENOSPC at fs.inotify.max_user_watches
   */
  add(path: string, mask: number): number {
    return check(addWatchCall(this.#fd, path, mask), 'inotify_add_watch', path);
  }

  /** Ends a watch; does nothing when its file is gone. */
  remove(watch: number): void {
    removeWatchCall(this.#fd, watch);
  }

  /** All queued events. Never blocks. */
  read(): WatchEvent[] {
    const events: WatchEvent[] = [];
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    for (;;) {
      let length: number;
      try {
        length = readSync(this.#fd, buffer);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return events;
        throw error;
      }
      for (let at = 0; at + HEADER_BYTES <= length; at += HEADER_BYTES + buffer.readUInt32LE(at + 12))
        events.push({ watch: buffer.readInt32LE(at), mask: buffer.readUInt32LE(at + 4) });
    }
  }

  /** Stops reading. SIGIO stays handled: one that is on its way would end the process. */
  close(): void {
    closeSync(this.#fd);
    process.on('SIGIO', ignore).off('SIGIO', this.#onSignal);
  }
}

const ignore = (): void => undefined;
