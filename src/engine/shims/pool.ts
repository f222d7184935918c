/** Shims to be: processes that are started, know no container yet, and end with the daemon until one is given to them. */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Duplex } from 'node:stream';
import { faultPoint } from '../../sys/fault.ts';
import type { Adopt } from '../../protocol/messages.ts';
import { SystemFault } from '../errors.ts';
import type { ShimBundle } from './bundle.ts';

/** A shim that does not answer the adoption within this time is given up (it has journalled nothing). */
const ADOPTION_DEADLINE_MS = 20_000;
/** The pool is filled again this long after a take, so that the start that took one is not slowed. */
const REFILL_DELAY_MS = 250;
const NODE_FLAGS = ['--expose-gc', '--max-semi-space-size=1', '--v8-pool-size=0'];

interface Anonymous {
  process: ChildProcess;
  line: Duplex;
}

export class ShimPool {
  readonly #idle: Anonymous[] = [];
  #refill: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(private readonly bundle: ShimBundle, private readonly size: number, private readonly log: string) {
    mkdirSync(dirname(log), { recursive: true, mode: 0o700 });
  }

  /**
   * Gives a container to a shim. When it returns, the shim holds the container's lock, has journalled that, and listens.
   * @throws SystemFault with the shim's own words when it refused (another shim holds the lock)
   */
  async adopt(order: Omit<Adopt, 'op'>): Promise<void> {
    const shim = this.#take();
    faultPoint('adopt.before');
    try {
      const answer = await ask(shim, { op: 'adopt', ...order });
      faultPoint('adopt.after');
      if (answer.error !== undefined) throw new SystemFault(`the shim refused: ${answer.error}`);
    } finally {
      shim.line.destroy();
    }
  }

  /** Lets the anonymous ones go; the others stay with their containers. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#refill);
    for (const { line } of this.#idle.splice(0)) line.destroy();
  }

  #take(): Anonymous {
    for (;;) {
      const shim = this.#idle.shift() ?? this.#spawn();
      if (shim.process.exitCode !== null || shim.line.destroyed) continue;
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
    while (!this.#closed && this.#idle.length < this.size) this.#idle.push(this.#spawn());
  }

  #spawn(): Anonymous {
    const log = openSync(this.log, 'a', 0o600);
    try {
      // A clean environment: NODE_EXTRA_CA_CERTS alone would cost 50 ms a start (node-on-linux §8).
      const child = spawn(process.execPath, [...NODE_FLAGS, this.bundle.script], {
        detached: true, cwd: '/', env: { PATH: process.env.PATH ?? '', HOLDFAST_SHIM_BUNDLE: this.bundle.hash }, stdio: ['ignore', log, log, 'pipe'],
      });
      faultPoint('shim.spawned');
      child.unref();
      const line = child.stdio[3] as Duplex;
      line.on('error', () => line.destroy());
      (line as Duplex & { unref?: () => void }).unref?.();
      child.on('error', () => line.destroy());
      return { process: child, line };
    } finally {
      closeSync(log);
    }
  }
}

function ask(shim: Anonymous, order: Adopt): Promise<{ ready?: true; error?: string }> {
  return new Promise((resolve, reject) => {
    let text = '';
    const deadline = setTimeout(() => fail('it did not answer in time'), ADOPTION_DEADLINE_MS);
    const fail = (why: string): void => {
      clearTimeout(deadline);
      reject(new SystemFault(`could not give the container to a shim: ${why}`));
    };
    shim.line.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      const end = text.indexOf('\n');
      if (end < 0) return;
      clearTimeout(deadline);
      resolve(JSON.parse(text.slice(0, end)) as { ready?: true; error?: string });
    });
    shim.line.once('close', () => fail('it ended'));
    shim.line.write(`${JSON.stringify(order)}\n`);
  });
}
