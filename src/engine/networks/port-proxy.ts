/** The daemon's side of the port proxy (port-proxy-main.ts): starts it when needed, and sends it the ports. */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, mkdirSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Serial } from '../../async/serial.ts';
import { bindPort, listen } from '../../sys/inet.ts';
import type { Fd } from '../../sys/libc.ts';
import type { PortSetup } from './driver.ts';

export interface PortProxyDeps {
  /** Path of the proxy's socket. */
  socket: string;
  /** The bundle of port-proxy-main.ts. */
  bundle: string;
  log: { warn(message: string): void };
}

type ProxiedPort = Omit<PortSetup, 'via'>;

/** The proxy needs little memory: small semi-spaces keep its heap small. */
const NODE_FLAGS = ['--max-semi-space-size=1'];
const START_MS = 3_000;
const STEP_MS = 10;
const ANSWER_MS = 3_000;
/** How long after its death the proxy is restarted. */
const REVIVE_MS = 200;

export class PortProxy {
  #wanted: PortSetup[] = [];
  /** The table sent last, as JSON. */
  #sent = '[]';
  #connection: Socket | undefined;
  readonly #updates = new Serial();
  #starting = false;
  #closed = false;

  constructor(private readonly deps: PortProxyDeps) {}

  /**
   * Replaces the forwarded ports. Resolves when the proxy listens on them. Never rejects: a port that cannot be
   * forwarded is logged.
   */
  update(ports: PortSetup[]): Promise<void> {
    this.#wanted = ports;
    return this.#updates
      .run(() => this.#apply())
      .catch((error: unknown) => this.deps.log.warn(`port proxy: ${(error as Error).message}`));
  }

  /** Disconnects from the proxy; it keeps running. */
  close(): void {
    this.#closed = true;
    this.#connection?.destroy();
    this.#connection = undefined;
  }

  async #apply(): Promise<void> {
    const ports = this.#wanted.map(({ via: _, ...port }) => port);
    const table = JSON.stringify(ports);
    if (this.#connection && table === this.#sent) return;
    this.#sent = table;
    if (await this.#send(table)) return;
    if (ports.length > 0) this.#spawn(ports);
  }

  /** Returns false when no proxy is running, or it died before it answered. */
  async #send(table: string): Promise<boolean> {
    this.#connection ??= await this.#connect();
    const connection = this.#connection;
    if (!connection) return false;
    try {
      for (const reason of await request(connection, `{"version":1,"ports":${table}}\n`))
        this.deps.log.warn(`port proxy: ${reason}`);
      return true;
    } catch {
      connection.destroy();
      this.#connection = undefined;
      return false;
    }
  }

  /** Connects to a proxy that is running or starting; undefined when there is none. */
  async #connect(): Promise<Socket | undefined> {
    for (let waitedMs = 0; waitedMs < START_MS; waitedMs += STEP_MS) {
      const socket = await open(this.deps.socket);
      if (socket) return this.#watch(socket);
      if (!this.#starting) return undefined;
      await delay(STEP_MS);
    }
    return undefined;
  }

  /** Restarts the proxy when the connection ends, unless there is nothing to forward. */
  #watch(socket: Socket): Socket {
    socket.unref();
    socket.on('error', () => undefined);
    socket.once('close', () => {
      if (this.#connection !== socket) return;
      this.#connection = undefined;
      if (this.#closed || this.#wanted.length === 0) return;
      this.deps.log.warn('the port proxy exited: starting another');
      setTimeout(() => void this.update(this.#wanted), REVIVE_MS).unref();
    });
    return socket;
  }

  // The sockets listen before the proxy runs: clients that connect meanwhile wait in the backlog.
  #spawn(ports: ProxiedPort[]): void {
    const listeners = ports.flatMap((port) => {
      const fd = this.#bind(port);
      return fd === undefined ? [] : [{ port, fd }];
    });
    try {
      mkdirSync(dirname(this.deps.socket), { recursive: true });
      // An empty environment: NODE_OPTIONS is meant for the daemon, and some options cost 50 ms at start.
      const child = spawn(
        process.execPath,
        [...NODE_FLAGS, this.deps.bundle, this.deps.socket, JSON.stringify(listeners.map(({ port }) => port))],
        {
          detached: true,
          cwd: '/',
          env: {},
          stdio: ['ignore', 'ignore', 'ignore', ...listeners.map(({ fd }) => fd)],
        },
      );
      child.once('error', (error) => this.deps.log.warn(`port proxy: ${error.message}`));
      child.unref();
      this.#connectOnceStarted(child);
    } finally {
      for (const { fd } of listeners) closeSync(fd);
    }
  }

  #bind({ protocol, hostIp, hostPort }: ProxiedPort): Fd | undefined {
    try {
      const fd = bindPort(protocol, hostIp, hostPort);
      if (protocol === 'tcp') listen(fd);
      return fd;
    } catch (error) {
      this.deps.log.warn(`port proxy: ${(error as Error).message}`);
      return undefined;
    }
  }

  // In the background: the connection only serves to notice the proxy's death. Begins behind the queued updates, which
  // may connect first.
  #connectOnceStarted(child: ChildProcess): void {
    this.#starting = true;
    child.once('exit', () => (this.#starting = false));
    const queued = this.#updates.run(() => Promise.resolve());
    void queued.then(async () => {
      for (let waitedMs = 0; this.#starting && waitedMs < START_MS; waitedMs += STEP_MS) {
        await delay(STEP_MS, undefined, { ref: false });
        if (!this.#needsConnection()) break;
        const socket = await open(this.deps.socket);
        if (!socket) continue;
        if (this.#needsConnection()) this.#connection = this.#watch(socket);
        else socket.destroy();
        break;
      }
      this.#starting = false;
    });
  }

  #needsConnection = (): boolean => !this.#connection && !this.#closed;
}

/** undefined when no process listens there. */
function open(path: string): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => resolve(socket));
    socket.once('error', () => resolve(undefined));
  });
}

/** Sends a line and reads the line that answers it. @returns which ports failed, and why */
async function request(socket: Socket, line: string): Promise<string[]> {
  socket.ref();
  try {
    return await new Promise((resolve, reject) => {
      let answer = '';
      const timer = setTimeout(() => settle(() => reject(new Error('no answer'))), ANSWER_MS);
      const onData = (data: Buffer): void => {
        answer += data.toString();
        if (answer.endsWith('\n')) settle(() => resolve((JSON.parse(answer) as { failed: string[] }).failed));
      };
      const onClose = (): void => settle(() => reject(new Error('connection closed')));
      const settle = (then: () => void): void => {
        clearTimeout(timer);
        socket.off('data', onData).off('close', onClose);
        then();
      };
      socket.on('data', onData).once('close', onClose).write(line);
    });
  } finally {
    socket.unref();
  }
}
