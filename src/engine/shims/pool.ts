/**
 * Shims to be: processes that are started, know no container yet, and end with the daemon until one is given to them.
 */
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { dirname } from 'node:path';
import { faultPoint } from '../../sys/fault.ts';
import { reap } from '../../sys/process.ts';
import { socketPair } from '../../sys/socket.ts';
import { spawn } from '../../sys/spawn.ts';
import type { Adopt } from '../../protocol/messages.ts';
import { SystemFault } from '../../model/errors.ts';
import type { ShimBundle } from './bundle.ts';

/** A shim that does not answer the adoption within this time is given up (it has journalled nothing). */
const ADOPTION_DEADLINE_MS = 20_000;
/** The pool is filled again this long after a take, so that the start that took one is not slowed. */
const REFILL_DELAY_MS = 250;
const NODE_FLAGS = ['--expose-gc', '--max-semi-space-size=1', '--v8-pool-size=0'];

interface Anonymous {
  line: Socket;
  dead: boolean;
}

export class ShimPool {
  readonly #idle: Anonymous[] = [];
  /** All that this daemon started and that are not collected yet. */
  readonly #started = new Map<number, Anonymous>();
  readonly #collect = (): void => {
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
    process.on('SIGCHLD', this.#collect);
  }

  /**
   * Gives a container to a shim. When it returns, the shim holds the container's lock, has journalled that, and
   * listens.
   * @throws SystemFault with the shim's own words when it refused (another shim holds the lock)
   */
  async adopt(order: Omit<Adopt, 'op'>): Promise<void> {
    const { line } = this.#take();
    faultPoint('adopt.before');
    try {
      const answer = await ask(line, { op: 'adopt', ...order });
      faultPoint('adopt.after');
      if (answer.error !== undefined) throw new SystemFault(`the shim refused: ${answer.error}`);
    } finally {
      line.destroy();
    }
  }

  /** Lets the anonymous ones go; the others stay with their containers. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#refill);
    for (const { line } of this.#idle.splice(0)) line.destroy();
    process.off('SIGCHLD', this.#collect);
  }

  #take(): Anonymous {
    for (;;) {
      const shim = this.#idle.shift() ?? this.#spawn();
      if (shim.dead) {
        shim.line.destroy();
        continue;
      }
      if (!this.#closed && this.#refill === undefined) {
        this.#refill = setTimeout(() => this.fill(), REFILL_DELAY_MS);
        this.#refill.unref();
      }
      return shim;
    }
  }

  /** Starts as many as are to be ready. */
  fill(): void {
    clearTimeout(this.#refill);
    this.#refill = undefined;
    try {
      while (!this.#closed && this.#idle.length < this.size) this.#idle.push(this.#spawn());
    } catch {
      // No room for processes, say: whoever takes one then tries for itself and is told.
    }
  }

  /** @throws Errno */
  #spawn(): Anonymous {
    const [ours, theirs] = socketPair();
    let log: number;
    try {
      log = openSync(this.log, 'a', 0o600);
    } catch (error) {
      closeSync(ours);
      closeSync(theirs);
      throw error;
    }
    const line = new Socket({ fd: ours });
    line.on('error', () => line.destroy());
    line.unref();
    try {
      // A clean environment: NODE_EXTRA_CA_CERTS alone would cost 50 ms a start (node-on-linux §8).
      const pid = spawn({
        file: process.execPath,
        args: [...NODE_FLAGS, this.bundle.script],
        env: { PATH: process.env.PATH ?? '', HOLDFAST_SHIM_BUNDLE: this.bundle.hash },
        descriptors: ['ignore', log, log, theirs],
        session: true,
        directory: '/',
      });
      faultPoint('shim.spawned');
      const shim = { line, dead: false };
      this.#started.set(pid, shim);
      return shim;
    } catch (error) {
      line.destroy();
      throw error;
    } finally {
      closeSync(theirs);
      closeSync(log);
    }
  }
}

function ask(line: Socket, order: Adopt): Promise<{ ready?: true; error?: string }> {
  return new Promise((resolve, reject) => {
    let text = '';
    const deadline = setTimeout(() => fail('it did not answer in time'), ADOPTION_DEADLINE_MS);
    const fail = (why: string): void => {
      clearTimeout(deadline);
      reject(new SystemFault(`could not give the container to a shim: ${why}`));
    };
    line.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      const end = text.indexOf('\n');
      if (end < 0) return;
      clearTimeout(deadline);
      resolve(JSON.parse(text.slice(0, end)) as { ready?: true; error?: string });
    });
    line.once('close', () => fail('it ended'));
    line.write(`${JSON.stringify(order)}\n`);
  });
}
