import { describe, expect, test } from 'vitest';
import { InvalidDetachKeys, parseDetachKeys } from '../../src/protocol/detach-keys.ts';
import { DetachKeys } from '../../src/shim/detach-keys.ts';

describe('the list', () => {
  test.each([
    ['', [16, 17]],
    ['ctrl-p,ctrl-q', [16, 17]],
    ['a', [97]],
    ['ctrl-@', [0]],
    ['ctrl-a,ctrl-z', [1, 26]],
    ['ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_', [27, 28, 29, 30, 31]],
    ['DEL', [127]],
    ['ctrl-x,X,DEL,1', [24, 88, 127, 49]],
  ])('%j', (text, keys) => expect(parseDetachKeys(text)).toEqual(keys));

  test.each(['ctrl-', 'ctrl-A', 'ctrl-1', 'ctrl-aa', 'shift-a', 'ab', ',', 'a,', 'é', 'del', 'ctrl-p, ctrl-q'])(
    '%j is refused',
    (text) => {
      expect(() => parseDetachKeys(text)).toThrow(new InvalidDetachKeys(text));
      expect(() => parseDetachKeys(text)).toThrow(`Invalid detach keys (${text}) provided`);
    },
  );
});

const P = '\x10';
const Q = '\x11';

/** [what, keys, inputs as they arrive, what is passed after each, whether it ends detached] */
const rows: [string, number[], string[], string[], boolean][] = [
  ['no keys', [], [P, Q], [P, Q], false],
  ['ordinary typing', [16, 17], ['abc'], ['abc'], false],
  ['both at once', [16, 17], [P + Q], [''], true],
  ['one after the other', [16, 17], [P, Q], ['', ''], true],
  ['in the middle of a chunk', [16, 17], [`ab${P}${Q}cd`], ['ab'], true],
  ['over two chunks, with text around', [16, 17], [`ab${P}`, `${Q}cd`], ['ab', ''], true],
  ['broken in the next chunk', [16, 17], [P, 'x'], ['', `${P}x`], false],
  ['broken at once', [16, 17], [`${P}x${P}`], [`${P}x`], false],
  ['the breaking byte begins nothing new', [16, 17], [P, P, Q], ['', P + P, Q], false],
  ['a single key', [1], ['ab\x01c'], ['ab'], true],
  ['a long sequence, broken late', [97, 97, 98], ['a', 'a', 'c'], ['', '', 'aac'], false],
  ['a long sequence', [97, 97, 98], ['xaa', 'b'], ['x', ''], true],
  ['sequence after a broken one', [16, 17], [`${P}x${P}${Q}`], [`${P}x`], true],
];

test.each(rows)('%s', (_what, keys, inputs, passed, detached) => {
  const watch = new DetachKeys(keys);
  const seen = inputs.map((input) => watch.screen(Buffer.from(input)));
  expect(seen.map((s) => s.pass.toString())).toEqual(passed);
  expect(seen.at(-1)!.detached).toBe(detached);
});

test('what is held back at the end of the input is passed on', () => {
  const watch = new DetachKeys([16, 17]);
  watch.screen(Buffer.from(`a${P}`));
  expect(watch.end().toString()).toBe(P);
  expect(watch.end().toString()).toBe('');
});
