/** Spare shims: processes started ahead of need. One without a container ends with the daemon. */
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { dirname } from 'node:path';
import { LineSplitter } from '../../protocol/lines.ts';
import type { Adopt } from '../../protocol/messages.ts';
import { faultPoint } from '../../sys/fault.ts';
import { reap } from '../../sys/process.ts';
import { socketPair } from '../../sys/socket.ts';
import { spawn } from '../../sys/spawn.ts';
import { SystemFault } from '../../model/errors.ts';
import type { ShimBundle } from './bundle.ts';

/** A shim that does not answer the order within this is given up. */
const ADOPTION_DEADLINE_MS = 60_000;
/** The pool is refilled this long after a take, so as not to slow down the start that took a shim. */
const REFILL_DELAY_MS = 250;
const NODE_FLAGS = ['--expose-gc', '--max-semi-space-size=1', '--v8-pool-size=0'];

/** The shim did not take the container: its files do not allow it, or another shim has it. */
export class ShimRefused extends SystemFault {}

/** A shim without a container. */
interface SpareShim {
  /** The shim's descriptor 3. */
  socket: Socket;
  dead: boolean;
}

export class ShimPool {
  readonly #spare: SpareShim[] = [];
  /** Every shim that this daemon started and has not reaped yet, by pid. */
  readonly #started = new Map<number, SpareShim>();
  readonly #reapDead = (): void => {
    for (const [pid, shim] of this.#started) {
      if (reap(pid) === undefined) continue;
      this.#started.delete(pid);
      shim.dead = true;
    }
  };
  #refill: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(
    private readonly bundle: ShimBundle,
    private readonly size: number,
    private readonly log: string,
  ) {
    mkdirSync(dirname(log), { recursive: true, mode: 0o700 });
    process.on('SIGCHLD', this.#reapDead);
  }

  /**
   * Assigns a container to a spare shim. On return the shim holds the container's lock, has journalled `adopted`, and
   * listens.
   * @throws ShimRefused with the shim's text (another shim holds the lock); SystemFault when it did not answer
   */
  async adopt(order: Omit<Adopt, 'op'>): Promise<void> {
    const { socket } = this.#take();
    faultPoint('adopt.before');
    try {
      const answer = await ask(socket, { op: 'adopt', ...order });
      faultPoint('adopt.after');
      if (answer.error !== undefined) throw new ShimRefused(`the shim refused: ${answer.error}`);
    } finally {
      socket.destroy();
    }
  }

  /** Ends the spare shims; those with a container keep running. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#refill);
    for (const { socket } of this.#spare.splice(0)) socket.destroy();
    process.off('SIGCHLD', this.#reapDead);
  }

  #take(): SpareShim {
    for (;;) {
      const shim = this.#spare.shift() ?? this.#spawn();
      if (shim.dead) {
        shim.socket.destroy();
        continue;
      }
      if (!this.#closed && this.#refill === undefined) {
        this.#refill = setTimeout(() => this.fill(), REFILL_DELAY_MS);
        this.#refill.unref();
      }
      return shim;
    }
  }

  /** Starts shims until `size` are spare. */
  fill(): void {
    clearTimeout(this.#refill);
    this.#refill = undefined;
    try {
      while (!this.#closed && this.#spare.length < this.size) this.#spare.push(this.#spawn());
    } catch {
      // For example the process limit. #take() tries again and reports the error.
    }
  }

  /** @throws Errno */
  #spawn(): SpareShim {
    const [ours, theirs] = socketPair();
    let log: number;
    try {
      log = openSync(this.log, 'a', 0o600);
    } catch (error) {
      closeSync(ours);
      closeSync(theirs);
      throw error;
    }
    const socket = new Socket({ fd: ours });
    socket.on('error', () => socket.destroy());
    socket.unref();
    try {
      // A clean environment: NODE_EXTRA_CA_CERTS alone would add 50 ms to each start.
      const pid = spawn({
        file: process.execPath,
        args: [...NODE_FLAGS, this.bundle.script],
        env: { PATH: process.env.PATH ?? '', HOLDFAST_SHIM_BUNDLE: this.bundle.hash, ...faultDirectory() },
        descriptors: ['ignore', log, log, theirs],
        session: true,
        directory: '/',
      });
      faultPoint('shim.spawned');
      const shim = { socket, dead: false };
      this.#started.set(pid, shim);
      return shim;
    } catch (error) {
      socket.destroy();
      throw error;
    } finally {
      closeSync(theirs);
      closeSync(log);
    }
  }
}

/** For a test that kills shims at their fault points. */
function faultDirectory(): Record<string, string> {
  const directory = process.env.HOLDFAST_FAULT_DIR;
  return directory === undefined ? {} : { HOLDFAST_FAULT_DIR: directory };
}

/** Sends the order and resolves with the answer. @throws SystemFault when the shim ends or does not answer in time */
function ask(socket: Socket, order: Adopt): Promise<{ ready?: true; error?: string }> {
  return new Promise((resolve, reject) => {
    const splitter = new LineSplitter();
    const fail = (reason: string): void => {
      clearTimeout(deadline);
      reject(new SystemFault(`could not assign the container to a shim: ${reason}`));
    };
    const deadline = setTimeout(() => fail('it did not answer in time'), ADOPTION_DEADLINE_MS);
    socket.on('data', (chunk: Buffer) => {
      const [line] = splitter.push(chunk);
      if (line === undefined) return;
      clearTimeout(deadline);
      resolve(JSON.parse(line) as { ready?: true; error?: string });
    });
    socket.once('close', () => fail('it ended'));
    socket.write(`${JSON.stringify(order)}\n`);
  });
}
