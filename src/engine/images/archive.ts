/** Archives of what lies on disk: layers, containers, their changes. Made by a jailed process (packer.ts). */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { Fd } from '../../sys/libc.ts';
import { SystemFault } from '../../model/errors.ts';
import type { Change } from './compare.ts';
import type { Job, Report } from './packer.ts';
import { RECIPE, REPLACED } from './tar-split.ts';

/** What was written, once all of it was read. */
export interface Packed {
  digest: string;
  size: number;
}

type Chunks = AsyncGenerator<Buffer, Packed>;

/** The first descriptor of those by which the packer gets what it is to read. */
const INPUT = 4;
const MAX_WORDS = 2000;

export class Archives {
  readonly #scratch: string;

  /** `script` is the bundled packer; `images` the directory of all that belongs to images. */
  constructor(
    private readonly script: string,
    images: string,
  ) {
    this.#scratch = join(images, 'scratch');
  }

  /**
   * All files below a directory, that of a mounted container say. A descriptor is closed, and keeps a mount that is
   * taken away meanwhile.
   */
  tree(root: string | Fd): Chunks {
    return typeof root === 'string'
      ? this.#run({ kind: 'tree', root })
      : this.#run({ kind: 'tree', root: `/proc/self/fd/${INPUT}` }, [root]);
  }

  /** All files of layers over each other, topmost first. */
  stack = (layers: string[]): Chunks => this.#run({ kind: 'stack', layers, scratch: this.#place() });

  /** An overlay's upper directory as a layer. */
  upper = (root: string): Chunks => this.#run({ kind: 'upper', root });

  /** A layer's own archive again, by its recipe in `home`. @throws SystemFault when its files are not what they were */
  async *layer(root: string, home: string, diffId: string): Chunks {
    const replaced = join(home, REPLACED);
    const packed = yield* this.#run(
      { kind: 'recipe', root },
      [join(home, RECIPE), existsSync(replaced) ? replaced : '/dev/null'].map((path) => openSync(path, 'r')),
    );
    if (packed.digest !== diffId) throw new SystemFault(`the files of layer ${diffId} have changed on disk`);
    return packed;
  }

  /** What `upper` changes of `lower` (topmost first), in order of the paths. */
  async changes(upper: string, lower: string[]): Promise<Change[]> {
    const chunks: Buffer[] = [];
    for await (const chunk of this.#run({ kind: 'changes', upper, lower, scratch: this.#place() })) chunks.push(chunk);
    return Buffer.concat(chunks)
      .toString()
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Change);
  }

  // Mount points of jobs' own mounts: one for all, as no job sees another's.
  #place(): string {
    mkdirSync(this.#scratch, { recursive: true, mode: 0o700 });
    return this.#scratch;
  }

  // Ends the process when its reader stops early.
  async *#run(job: Job, inputs: Fd[] = []): Chunks {
    // A clean environment: NODE_OPTIONS and NODE_EXTRA_CA_CERTS are the daemon's.
    const child = spawn(process.execPath, [this.script, String(process.pid), JSON.stringify(job)], {
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', ...inputs],
      env: {},
    });
    inputs.forEach((fd) => closeSync(fd));
    const ended = new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('exit', (code, signal) => resolve(signal ?? `code ${code}`));
    });
    let [words, text] = ['', ''];
    child.stderr!.on('data', (bytes: Buffer) => (words = (words + bytes.toString()).slice(-MAX_WORDS)));
    const told = child.stdio[3] as Readable;
    told.on('data', (bytes: Buffer) => (text += bytes.toString()));
    const closed = new Promise<void>((resolve) => told.once('close', resolve));
    try {
      for await (const chunk of child.stdout!) yield chunk as Buffer;
      const ending = await ended;
      await closed;
      if (text === '') throw new SystemFault(`the packer died (${ending}) ${words.trim()}`.trim());
      const report = JSON.parse(text) as Report;
      if (!report.ok) throw new SystemFault(`packing failed: ${report.message}`);
      return { digest: report.digest, size: report.size };
    } finally {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    }
  }
}
