/** Archives of layers, containers and their changes, written by the jailed packer process (packer-main.ts). */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { Fd } from '../../sys/libc.ts';
import { SystemFault } from '../../model/errors.ts';
import type { Change } from './upper-diff.ts';
import type { Job, Report } from './packer-main.ts';
import { REPLACED_FILE, TAR_SPLIT_FILE } from './tar-split.ts';

/** Digest and length of an archive. */
export interface Packed {
  digest: string;
  size: number;
}

type Chunks = AsyncGenerator<Buffer, Packed>;

/** The packer's first input descriptor. */
const INPUT = 4;
const MAX_STDERR_CHARS = 2000;

/** Each method yields the archive; the generator returns its digest and length. */
export class Archives {
  readonly #scratch: string;

  /**
   * @param script the bundled packer-main.ts
   * @param images the root directory of image data (paths.images())
   */
  constructor(
    private readonly script: string,
    images: string,
  ) {
    this.#scratch = join(images, 'scratch');
  }

  /**
   * All files below a directory. A descriptor, e.g. of a mounted rootfs, is closed; it keeps the mount alive if it is
   * unmounted meanwhile.
   */
  tree(root: string | Fd): Chunks {
    return typeof root === 'string'
      ? this.#run({ kind: 'tree', root })
      : this.#run({ kind: 'tree', root: `/proc/self/fd/${INPUT}` }, [root]);
  }

  /** All files of layers mounted over each other, topmost first. */
  stack = (layers: string[]): Chunks => this.#run({ kind: 'stack', layers, scratch: this.#makeScratch() });

  /** An overlay's upper directory as a layer. */
  upper = (root: string): Chunks => this.#run({ kind: 'upper', root });

  /**
   * Rebuilds a layer's original archive from the tar-split metadata in `home`.
   * @throws SystemFault when the layer's files were modified
   */
  async *layer(root: string, home: string, diffId: string): Chunks {
    const replaced = join(home, REPLACED_FILE);
    const inputs = [join(home, TAR_SPLIT_FILE), existsSync(replaced) ? replaced : '/dev/null'];
    const packed = yield* this.#run(
      { kind: 'recipe', root },
      inputs.map((path) => openSync(path, 'r')),
    );
    if (packed.digest !== diffId) throw new SystemFault(`the files of layer ${diffId} have changed on disk`);
    return packed;
  }

  /** What `upper` changes in `lower` (topmost first), ordered by path. */
  async changes(upper: string, lower: string[], signal?: AbortSignal): Promise<Change[]> {
    const chunks: Buffer[] = [];
    const job: Job = { kind: 'changes', upper, lower, scratch: this.#makeScratch() };
    for await (const chunk of this.#run(job, [], signal)) chunks.push(chunk);
    const lines = Buffer.concat(chunks)
      .toString()
      .split('\n')
      .filter((line) => line !== '');
    return lines.map((line) => JSON.parse(line) as Change);
  }

  // One mount point serves all jobs: each mounts in a namespace of its own.
  #makeScratch(): string {
    mkdirSync(this.#scratch, { recursive: true, mode: 0o700 });
    return this.#scratch;
  }

  // Kills the process when the consumer stops early, or on abort.
  async *#run(job: Job, inputs: Fd[] = [], signal?: AbortSignal): Chunks {
    // A clean environment: NODE_OPTIONS and NODE_EXTRA_CA_CERTS are the daemon's.
    const child = spawn(process.execPath, [this.script, String(process.pid), JSON.stringify(job)], {
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', ...inputs],
      env: {},
      ...(signal && { signal, killSignal: 'SIGKILL' }),
    });
    inputs.forEach((fd) => closeSync(fd));
    const exited = new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('exit', (code, signal) => resolve(signal ?? `code ${code}`));
    });
    let stderrTail = '';
    child.stderr!.on('data', (bytes: Buffer) => {
      stderrTail = (stderrTail + bytes.toString()).slice(-MAX_STDERR_CHARS);
    });
    let reportText = '';
    const reportPipe = child.stdio[3] as Readable;
    reportPipe.on('data', (bytes: Buffer) => (reportText += bytes.toString()));
    const reportClosed = new Promise<void>((resolve) => reportPipe.once('close', resolve));
    try {
      for await (const chunk of child.stdout!) yield chunk as Buffer;
      const exit = await exited;
      await reportClosed;
      if (reportText === '') throw new SystemFault(`the packer died (${exit}) ${stderrTail.trim()}`.trim());
      const report = JSON.parse(reportText) as Report;
      if (!report.ok) throw new SystemFault(`packing failed: ${report.message}`);
      return { digest: report.digest, size: report.size };
    } finally {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    }
  }
}
