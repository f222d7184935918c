/** Work for a client ends when the client disconnects: unpacking, spooling and comparing cost a core each. */
import { readdirSync, readFileSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { encodeHeader, newEntry, TRAILER } from '../../src/engine/images/tar-writer.ts';
import { checksum } from '../../src/engine/images/tar.ts';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const { ok } = dockerOf<{ Id: string }>(() => engine);

const ENDS_MS = 60_000;
/** Compressed, one of these is a few tens of kilobytes, and takes a second to unpack. */
const ENTRIES_AT_ONCE = 50_000;

/** A gzip stream may consist of several, so that a long archive needs not be built. */
const repeated = (part: Buffer, count: number): Buffer =>
  Buffer.concat([...Array.from({ length: count }, () => gzipSync(part)), gzipSync(TRAILER)]);

/** An archive of less than a megabyte that keeps an unpacker busy: the same file, made again and again. */
const LONG = repeated(
  Buffer.concat(Array.from({ length: ENTRIES_AT_ONCE }, () => encodeHeader(newEntry('file', 'd/f')))),
  20,
);

/** The engine's processes that run this script. */
const workers = (script: string): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'latin1');
        return command.includes(script) && command.includes(`\0${engine.pid}\0`);
      } catch {
        return false; // ended meanwhile
      }
    });

/** Sends a request, waits for `busy`, and disconnects without reading an answer. */
async function abandon(method: string, path: string, busy: () => boolean, body: Buffer): Promise<void> {
  const headers = { 'Content-Type': 'application/x-tar', 'Content-Length': body.length };
  const sent = http.request({ socketPath: engine.socket, method, path, headers, agent: false });
  sent.on('error', () => undefined);
  sent.end(body);
  try {
    await until(busy, ENDS_MS);
  } finally {
    sent.destroy();
  }
}

describe('the client disconnects', () => {
  test('from an upload into a container: its worker ends [client-gone-put-archive]', async () => {
    const id = await ok('create', '--name', 'target', 'busybox', 'true');
    const path = `/containers/${id}/archive?path=/`;
    await abandon('PUT', path, () => workers('archiver.cjs').length > 0, LONG);
    await until(() => workers('archiver.cjs').length === 0, ENDS_MS);
    const { text } = await engine.api('GET', `/events?since=0&until=${Date.now() / 1000 + 1}`);
    expect(text).toContain('"Action":"create"');
    expect(text).not.toContain('extract-to-dir');
  });

  test('from an import: its unpacker ends, and nothing is left [client-gone-import]', async () => {
    const before = readdirSync(join(engine.root, 'data/images/layers'));
    const path = '/images/create?fromSrc=-&repo=abandoned&tag=latest';
    await abandon('POST', path, () => workers('unpacker.cjs').length > 0, LONG);
    await until(() => workers('unpacker.cjs').length === 0, ENDS_MS);
    await until(() => readdirSync(join(engine.root, 'data/images/layers')).length === before.length, ENDS_MS);
    expect(await ok('images', '-q', 'abandoned')).toBe('');
  });

  test('from a load: the archive is not spooled to its end [client-gone-load]', async () => {
    const text = '6 k=x\n'.repeat(170_000);
    const header = encodeHeader(newEntry('file', 'pax', { size: text.length }));
    header.write('x', 156);
    header.write(`${checksum(header).toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    const padding = Buffer.alloc((512 - (text.length % 512)) % 512);
    const one = Buffer.concat([header, Buffer.from(text), padding, encodeHeader(newEntry('file', 'f'))]);
    const spools = (): string[] =>
      readdirSync(join(engine.root, 'data/images')).flatMap((name) =>
        name === 'tmp' ? readdirSync(join(engine.root, 'data/images/tmp')) : [],
      );
    await abandon('POST', '/images/load', () => spools().length > 0, repeated(one, 300));
    await until(() => spools().length === 0, ENDS_MS);
  });
});
