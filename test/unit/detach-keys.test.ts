import { describe, expect, test } from 'vitest';
import { InvalidDetachKeys, parseDetachKeys } from '../../src/protocol/detach-keys.ts';
import { DetachKeys } from '../../src/shim/detach-keys.ts';

describe('parsing detach keys', () => {
  test.each([
    ['', [16, 17]],
    ['ctrl-p,ctrl-q', [16, 17]],
    ['a', [97]],
    ['ctrl-@', [0]],
    ['ctrl-a,ctrl-z', [1, 26]],
    ['ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_', [27, 28, 29, 30, 31]],
    ['DEL', [127]],
    ['ctrl-x,X,DEL,1', [24, 88, 127, 49]],
  ])('accepts %j', (text, keys) => expect(parseDetachKeys(text)).toEqual(keys));

  test.each(['ctrl-', 'ctrl-A', 'ctrl-1', 'ctrl-aa', 'shift-a', 'ab', ',', 'a,', 'é', 'del', 'ctrl-p, ctrl-q'])(
    'rejects %j',
    (text) => {
      expect(() => parseDetachKeys(text)).toThrow(new InvalidDetachKeys(text));
      expect(() => parseDetachKeys(text)).toThrow(`Invalid detach keys (${text}) provided`);
    },
  );
});

const P = '\x10';
const Q = '\x11';

/** [name, keys, inputs as they arrive, what is passed on after each, whether it ends detached] */
const rows: [string, number[], string[], string[], boolean][] = [
  ['passes everything on when no keys are set', [], [P, Q], [P, Q], false],
  ['passes ordinary typing on', [16, 17], ['abc'], ['abc'], false],
  ['detaches on both keys in one chunk', [16, 17], [P + Q], [''], true],
  ['detaches on one key after the other', [16, 17], [P, Q], ['', ''], true],
  ['detaches in the middle of a chunk, dropping the rest', [16, 17], [`ab${P}${Q}cd`], ['ab'], true],
  ['detaches on a sequence across two chunks', [16, 17], [`ab${P}`, `${Q}cd`], ['ab', ''], true],
  ['passes the held key on when the next chunk breaks the sequence', [16, 17], [P, 'x'], ['', `${P}x`], false],
  ['passes on a sequence broken within one chunk', [16, 17], [`${P}x${P}`], [`${P}x`], false],
  ['does not start a new sequence with the byte that broke the last', [16, 17], [P, P, Q], ['', P + P, Q], false],
  ['detaches on a single key', [1], ['ab\x01c'], ['ab'], true],
  ['passes a long sequence on when its last key differs', [97, 97, 98], ['a', 'a', 'c'], ['', '', 'aac'], false],
  ['detaches on a long sequence', [97, 97, 98], ['xaa', 'b'], ['x', ''], true],
  ['detaches on a sequence after a broken one', [16, 17], [`${P}x${P}${Q}`], [`${P}x`], true],
];

test.each(rows)('%s', (_what, keys, inputs, passed, detached) => {
  const watch = new DetachKeys(keys);
  const seen = inputs.map((input) => watch.screen(Buffer.from(input)));
  expect(seen.map((s) => s.pass.toString())).toEqual(passed);
  expect(seen.at(-1)!.detached).toBe(detached);
});

test('passes a held key on at the end of the input', () => {
  const watch = new DetachKeys([16, 17]);
  watch.screen(Buffer.from(`a${P}`));
  expect(watch.end().toString()).toBe(P);
  expect(watch.end().toString()).toBe('');
});
