/** The shim's side of the bell (protocol/bell-format.ts). */
import { closeSync, openSync, writeSync } from 'node:fs';
import { encodeBell } from '../protocol/bell-format.ts';
import { removeFile } from '../sys/file.ts';
import { procStat } from '../sys/process.ts';
import type { LogError } from './shim-log.ts';

export class Bell {
  #fd: number | undefined;
  readonly #startTime = procStat(process.pid)?.startTime ?? '';

  /** Never throws: a daemon that finds no bell keeps a connection. */
  constructor(
    private readonly path: string,
    seq: number,
    private readonly logError: LogError,
  ) {
    try {
      // A dead shim's has the pid of that shim.
      removeFile(path);
      this.#fd = openSync(path, 'wx', 0o600);
    } catch (error) {
      logError('making the bell', error);
    }
    this.ring(seq);
  }

  /** The journal's last sequence number is `seq`. */
  ring(seq: number): void {
    if (this.#fd === undefined) return;
    try {
      writeSync(this.#fd, encodeBell({ pid: process.pid, startTime: this.#startTime, seq }), 0);
    } catch (error) {
      // Without room for its first line: a daemon must not rely on it.
      this.logError('ringing the bell', error);
      this.close();
    }
  }

  /** Removes the file. */
  close(): void {
    if (this.#fd === undefined) return;
    removeFile(this.path);
    closeSync(this.#fd);
    this.#fd = undefined;
  }
}
