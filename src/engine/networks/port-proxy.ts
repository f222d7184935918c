/**
 * The daemon's side of the port proxy (port-proxy-main.ts): starts it when there is something to forward, and tells it what.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, mkdirSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { bindPort, listen } from '../../sys/inet.ts';
import type { Fd } from '../../sys/libc.ts';
import type { PortSetup } from './driver.ts';

export interface PortProxyOptions {
  /** Its socket, in the exec root. */
  socket: string;
  /** The bundle of port-proxy-main.ts. */
  bundle: string;
  log: { warn(message: string): void };
}

/** It holds little: small spaces keep it so. */
const NODE_FLAGS = ['--max-semi-space-size=1'];
const START_MS = 3_000;
const STEP_MS = 10;
const ANSWER_MS = 3_000;
/** A proxy that was killed is started again after this. */
const REVIVE_MS = 200;

export class PortProxy {
  #wanted: PortSetup[] = [];
  #told = '[]';
  #connection: Socket | undefined;
  #queue: Promise<void> = Promise.resolve();
  #starting = false;
  #closed = false;

  constructor(private readonly options: PortProxyOptions) {}

  /**
   * Forwards exactly these ports from now on. Resolves when it listens on them, or has said why not. Never rejects: a
   * port that cannot be forwarded is logged.
   */
  update(ports: PortSetup[]): Promise<void> {
    this.#wanted = ports;
    this.#queue = this.#queue
      .then(() => this.#apply())
      .catch((error: Error) => this.options.log.warn(`port proxy: ${error.message}`));
    return this.#queue;
  }

  /** Lets go of the proxy; it goes on by itself. */
  close(): void {
    this.#closed = true;
    this.#connection?.destroy();
    this.#connection = undefined;
  }

  async #apply(): Promise<void> {
    const ports = this.#wanted.map(({ protocol, hostIp, hostPort, address, port }) => ({
      protocol,
      hostIp,
      hostPort,
      address,
      port,
    }));
    const table = JSON.stringify(ports);
    if (this.#connection && table === this.#told) return;
    this.#told = table;
    if (await this.#tell(table)) return;
    if (ports.length > 0) this.#spawn(ports);
  }

  /** False when there is no proxy to tell, or it ended over it. */
  async #tell(table: string): Promise<boolean> {
    this.#connection ??= await this.#reach();
    if (!this.#connection) return false;
    try {
      for (const reason of await ask(this.#connection, `{"version":1,"ports":${table}}\n`))
        this.options.log.warn(`port proxy: ${reason}`);
      return true;
    } catch {
      this.#connection?.destroy();
      this.#connection = undefined;
      return false;
    }
  }

  // A proxy that runs, or is just starting; undefined when there is none.
  async #reach(): Promise<Socket | undefined> {
    for (let waited = 0; waited < START_MS; waited += STEP_MS) {
      const socket = await open(this.options.socket);
      if (socket) return this.#adopt(socket);
      if (!this.#starting) return undefined;
      await delay(STEP_MS);
    }
    return undefined;
  }

  #adopt(socket: Socket): Socket {
    socket.unref();
    socket.on('error', () => undefined);
    socket.once('close', () => {
      if (this.#connection !== socket) return;
      this.#connection = undefined;
      if (this.#closed || this.#wanted.length === 0) return;
      this.options.log.warn('the port proxy has ended: starting another');
      setTimeout(() => void this.update(this.#wanted), REVIVE_MS).unref();
    });
    return socket;
  }

  // The sockets listen before the proxy is there: who connects meanwhile waits in the queue instead of being refused.
  #spawn(ports: Omit<PortSetup, 'via'>[]): void {
    const held = ports.flatMap((port) => {
      const fd = this.#hold(port);
      return fd === undefined ? [] : [{ port, fd }];
    });
    try {
      mkdirSync(dirname(this.options.socket), { recursive: true });
      // A clean environment: NODE_OPTIONS and the like are the daemon's own affair, and some cost 50 ms.
      const child = spawn(
        process.execPath,
        [...NODE_FLAGS, this.options.bundle, this.options.socket, JSON.stringify(held.map(({ port }) => port))],
        {
          detached: true,
          cwd: '/',
          env: {},
          stdio: ['ignore', 'ignore', 'ignore', ...held.map(({ fd }) => fd)],
        },
      );
      child.once('error', (error) => this.options.log.warn(`port proxy: ${error.message}`));
      child.unref();
      this.#awaitStart(child);
    } finally {
      for (const { fd } of held) closeSync(fd);
    }
  }

  #hold({ protocol, hostIp, hostPort }: Omit<PortSetup, 'via'>): Fd | undefined {
    try {
      const fd = bindPort(protocol, hostIp, hostPort);
      if (protocol === 'tcp') listen(fd);
      return fd;
    } catch (error) {
      this.options.log.warn(`port proxy: ${(error as Error).message}`);
      return undefined;
    }
  }

  // Nobody waits for this: the daemon wants the connection only to learn of the proxy's end.
  #awaitStart(child: ChildProcess): void {
    this.#starting = true;
    child.once('exit', () => (this.#starting = false));
    void this.#queue.then(async () => {
      for (let waited = 0; this.#starting && waited < START_MS; waited += STEP_MS) {
        await delay(STEP_MS, undefined, { ref: false });
        const socket = this.#connection ?? (this.#closed ? undefined : await open(this.options.socket));
        if (!socket && !this.#closed) continue;
        if (socket && !this.#connection) this.#connection = this.#adopt(socket);
        break;
      }
      this.#starting = false;
    });
  }
}

/** undefined when nobody listens there. */
function open(path: string): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => resolve(socket));
    socket.once('error', () => resolve(undefined));
  });
}

/** Sends a line and waits for the line that answers it. */
async function ask(socket: Socket, line: string): Promise<string[]> {
  socket.ref();
  try {
    return await new Promise((resolve, reject) => {
      let answer = '';
      const timer = setTimeout(() => settle(() => reject(new Error('no answer'))), ANSWER_MS);
      const take = (data: Buffer): void => {
        answer += data.toString();
        if (answer.endsWith('\n')) settle(() => resolve((JSON.parse(answer) as { failed: string[] }).failed));
      };
      const fail = (): void => settle(() => reject(new Error('it has ended')));
      const settle = (then: () => void): void => {
        clearTimeout(timer);
        socket.off('data', take).off('close', fail);
        then();
      };
      socket.on('data', take).once('close', fail).write(line);
    });
  } finally {
    socket.unref();
  }
}
