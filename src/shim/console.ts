/** A container's terminal: the socket on which its master arrives, and a stream over the master. */
import { closeSync, readSync } from 'node:fs';
import type { OnReadOpts, Socket } from 'node:net';
import { faultPoint } from '../sys/fault.ts';
import { makeNonBlocking, removeFile } from '../sys/file.ts';
import type { Fd } from '../sys/libc.ts';
import { accept, listenUnix, receiveFds } from '../sys/socket.ts';
import { handleStream } from './handle-stream.ts';

/** The socket for the runtime's `--console-socket`. The runtime connects and sends the master before it exits. */
export class ConsoleSocket {
  readonly path: string;
  /** -1 once closed. */
  #listener: Fd;

  constructor(path: string) {
    this.path = path;
    removeFile(path);
    this.#listener = listenUnix(path, 1);
    faultPoint('console.listens');
  }

  /** The terminal's master. Call it when the runtime has exited; it closes the socket. @throws Error */
  take(): Fd {
    const connection = accept(this.#listener);
    if (connection === undefined) throw new Error('the runtime sent no terminal');
    try {
      const [master, ...others] = receiveFds(connection)?.fds ?? [];
      others.forEach((fd) => closeSync(fd));
      if (master === undefined) throw new Error('the runtime sent no terminal');
      faultPoint('console.taken');
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
 * A paused stream that owns the terminal's `master`. Not a tty.ReadStream: libuv sets a tty to blocking writes, so a
 * process that does not read its input would block this one. net.Socket does not accept a terminal.
 */
export function terminalStream(master: Fd, onread: OnReadOpts): Socket {
  makeNonBlocking(master);
  return handleStream(master, onread);
}

/** Reads what is left in a terminal at its end: libuv takes a partial read together with POLLHUP for EOF. */
export function drainTerminal(master: Fd, buffer: Buffer, take: (bytes: Buffer) => void): void {
  for (;;) {
    let n: number;
    try {
      n = readSync(master, buffer);
    } catch {
      return; // EIO: the end. EAGAIN: empty, but a process still has the terminal open.
    }
    if (n === 0) return;
    take(buffer.subarray(0, n));
  }
}
