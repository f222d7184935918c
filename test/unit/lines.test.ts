/** Newline-delimited JSON between daemon and shim. */
import { describe, expect, test } from 'vitest';
import { LineSplitter } from '../../src/protocol/lines.ts';

const TEXT = 'one\n\n{"ключ":"€"}\nlast\n';

describe('LineSplitter', () => {
  test('returns every line of a chunk, empty ones included, without newlines', () => {
    expect(new LineSplitter().push(Buffer.from(TEXT))).toEqual(['one', '', '{"ключ":"€"}', 'last']);
  });

  test.each([1, 2, 3, 7])('returns the same lines from chunks of %i bytes that split characters', (size) => {
    const splitter = new LineSplitter();
    const bytes = Buffer.from(TEXT);
    const lines: string[] = [];
    for (let at = 0; at < bytes.length; at += size) lines.push(...splitter.push(bytes.subarray(at, at + size)));
    expect(lines).toEqual(['one', '', '{"ключ":"€"}', 'last']);
    expect(splitter.partialBytes).toBe(0);
  });

  test('holds an incomplete line back and reports its size in bytes', () => {
    const splitter = new LineSplitter();
    expect(splitter.push(Buffer.from('done\n€€'))).toEqual(['done']);
    expect(splitter.partialBytes).toBe(6);
    expect(splitter.push(Buffer.from('more'))).toEqual([]);
    expect(splitter.partialBytes).toBe(10);
    expect(splitter.push(Buffer.from('\nnext'))).toEqual(['€€more']);
    expect(splitter.partialBytes).toBe(4);
  });
});
