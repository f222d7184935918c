/** Unpacks a layer in a jailed process (unpacker.ts). */
import { spawn, type StdioOptions } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { InvalidParameter, SystemFault } from '../errors.ts';
import { decodesHere, decompress, feed, type Compression } from './compression.ts';
import type { Report } from './unpacker.ts';

export type Unpacked = Extract<Report, { ok: true }>;

const MAX_STDERR = 2000;

export class Unpacker {
  /** `script` is the bundled unpacker. */
  constructor(private readonly script: string) {}

  /**
   * Unpacks `archive` into the empty directory `directory`; all of it is on disk afterwards.
   * An archive that turns out bad is still read to its end, behind the caller's back: its sender may listen for the answer only then.
   * @throws InvalidParameter when the archive is broken or tries to get out, SystemFault when the host fails
   */
  async unpack(archive: AsyncIterable<Buffer>, compression: Compression, directory: string, recipe: string): Promise<Unpacked> {
    // What this Node cannot decode itself is decoded before the jail: its programs are outside.
    const inside = compression === 'none' || decodesHere(compression);
    const source = inside ? archive : decompress(archive, compression);
    const child = this.#spawn(directory, inside ? compression : 'none', recipe);
    let fault: unknown;
    feed(source, child.stdin).catch((error: unknown) => {
      fault = error;
      // Cut off, not complete: the unpacker must not take it for an archive that ends here.
      child.process.kill('SIGKILL');
    });
    const report = await child.report;
    if (fault) throw fault;
    if (!report.ok) throw report.fault === 'archive' ? new InvalidParameter(`invalid archive: ${report.message}`) : new SystemFault(`unpacking failed: ${report.message}`);
    return report;
  }

  #spawn(directory: string, compression: Compression, recipe: string): { process: ReturnType<typeof spawn>; stdin: Writable; report: Promise<Report> } {
    const recipeFd = openSync(recipe, 'wx', 0o600);
    const stdio: StdioOptions = ['pipe', 'ignore', 'pipe', 'pipe', recipeFd];
    // A clean environment: NODE_OPTIONS and NODE_EXTRA_CA_CERTS are the daemon's, and the latter costs 50 ms.
    const child = spawn(process.execPath, [this.script, directory, compression, String(process.pid)], { stdio, env: {} });
    closeSync(recipeFd);
    return { process: child, stdin: child.stdin!, report: this.#report(child) };
  }

  async #report(child: ReturnType<typeof spawn>): Promise<Report> {
    const ended = new Promise<string>((resolve, reject) => {
      child.once('error', (error) => reject(new SystemFault(`cannot start the unpacker: ${error.message}`)));
      child.once('exit', (code, signal) => resolve(signal ?? `code ${code}`));
    });
    ended.catch(() => undefined);
    const [words, text] = await Promise.all([collect(child.stderr!, MAX_STDERR), collect(child.stdio[3] as Readable)]);
    const ending = await ended;
    if (text === '') throw new SystemFault(`the unpacker died (${ending}) ${words.trim()}`.trim());
    return JSON.parse(text) as Report;
  }
}

async function collect(stream: Readable, limit = Infinity): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    if (length < limit) chunks.push(chunk);
    length += chunk.length;
  }
  return Buffer.concat(chunks).toString();
}
