import { expect, test } from 'vitest';
import { frame, Stream } from '../../src/protocol/frames.ts';
import { unframe } from '../support/frames.ts';

test('a frame consists of type, three zeros, length and payload', () => {
  expect([...frame(Stream.stdout, Buffer.from('hi'))]).toEqual([1, 0, 0, 0, 0, 0, 0, 2, 104, 105]);
  expect([...frame(Stream.stderr, Buffer.alloc(70000)).subarray(0, 8)]).toEqual([2, 0, 0, 0, 0, 1, 0x11, 0x70]);
  expect(frame(Stream.error, Buffer.from('x'))[0]).toBe(3);
});

test('a frame copies its payload', () => {
  const payload = Buffer.from('abc');
  const framed = frame(Stream.stdout, payload);
  payload.fill(0);
  expect(unframe(framed)).toEqual({ 1: 'abc', 2: '', rest: 0 });
});
