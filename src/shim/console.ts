/** A container's terminal: the socket its master arrives on, and a stream over that master. */
import { closeSync, readSync } from 'node:fs';
import type { OnReadOpts, Socket } from 'node:net';
import { makeNonBlocking, removeFile } from '../sys/file.ts';
import type { Fd } from '../sys/libc.ts';
import { accept, listenUnix, receiveFds } from '../sys/socket.ts';
import { handleStream } from './handle-stream.ts';

/** The socket for the runtime's `--console-socket`. The runtime connects and sends the master before it exits. */
export class ConsoleSocket {
  readonly path: string;
  #listener: Fd;

  constructor(path: string) {
    this.path = path;
    removeFile(path);
    this.#listener = listenUnix(path, 1);
  }

  /** The terminal's master, once the runtime has exited. */
  take(): Fd {
    const connection = accept(this.#listener);
    if (connection === undefined) throw new Error('the runtime sent no terminal');
    try {
      const [master, ...others] = receiveFds(connection)?.fds ?? [];
      others.forEach((fd) => closeSync(fd));
      if (master === undefined) throw new Error('the runtime sent no terminal');
      return master;
    } finally {
      closeSync(connection);
      this.close();
    }
  }

  close(): void {
    if (this.#listener < 0) return;
    closeSync(this.#listener);
    this.#listener = -1;
    removeFile(this.path);
  }
}

/**
 * A stream over a terminal's master, not yet reading. It owns `master`.
 * Not tty.ReadStream: libuv writes to a master blockingly, and a process that does not read would stop this one
 * (node-on-linux.md §3); net.Socket itself does not accept a terminal.
 */
export function terminalStream(master: Fd, onread: OnReadOpts): Socket {
  makeNonBlocking(master);
  return handleStream(master, onread);
}

/**
 * What is left in a terminal after its end: libuv takes a partial read with a hang-up for the end (node-on-linux.md
 * §3).
 */
export function drainTerminal(master: Fd, buffer: Buffer, take: (bytes: Buffer) => void): void {
  for (;;) {
    let n: number;
    try {
      n = readSync(master, buffer);
    } catch {
      return; // EIO: the end. EAGAIN: somebody still has it open, and there is nothing.
    }
    if (n === 0) return;
    take(buffer.subarray(0, n));
  }
}
