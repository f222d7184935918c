/** A connection to the DNS server's control socket. */
import { connect, type Socket } from 'node:net';
import { LineSplitter } from '../../protocol/lines.ts';
import type { DnsHello, DnsReloaded, DnsRequest } from './dns/tables.ts';

/** A server that does not answer for so long is taken for dead. */
const ANSWER_MS = 5_000;

export class DnsConnection {
  /** Requests that are not answered, in order. */
  readonly #waiting: ((failed: string[] | undefined) => void)[] = [];
  #open = true;

  private constructor(
    private readonly socket: Socket,
    /** The hash of the server's bundle. */
    readonly bundle: string,
  ) {
    socket.unref();
    socket.on('close', () => {
      this.#open = false;
      for (const answer of this.#waiting.splice(0)) answer(undefined);
    });
  }

  /** @returns undefined when no server listens there, or it does not answer */
  static open(path: string): Promise<DnsConnection | undefined> {
    return new Promise((resolve) => {
      const socket = connect(path);
      const lines = new LineSplitter();
      let connection: DnsConnection | undefined;
      const timer = setTimeout(() => socket.destroy(), ANSWER_MS);
      socket.on('error', () => socket.destroy());
      socket.once('close', () => {
        clearTimeout(timer);
        resolve(undefined);
      });
      socket.on('data', (chunk) => {
        for (const line of lines.push(chunk)) {
          const message = JSON.parse(line) as DnsHello | DnsReloaded;
          if ('failed' in message) {
            if (connection) connection.#answered(message.failed);
          } else {
            clearTimeout(timer);
            resolve((connection = new DnsConnection(socket, message.bundle)));
          }
        }
      });
    });
  }

  get isOpen(): boolean {
    return this.#open;
  }

  /**
   * Makes the server read its tables.
   * @returns which sockets it could not open, and why; undefined when it has ended, or is frozen
   */
  async reload(): Promise<string[] | undefined> {
    if (!this.#open) return undefined;
    this.socket.write(`${JSON.stringify({ op: 'reload' } satisfies DnsRequest)}\n`);
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.socket.destroy(), ANSWER_MS);
      this.#waiting.push((failed) => {
        clearTimeout(timer);
        resolve(failed);
      });
    });
  }

  /** Called once, when the connection has ended. */
  onClose(callback: () => void): void {
    this.socket.once('close', callback);
  }

  close(): void {
    this.socket.destroy();
  }

  #answered(failed: string[]): void {
    this.#waiting.shift()?.(failed);
  }
}
