import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InvalidParameter } from '../../src/model/errors.ts';
import { parsePattern, replaced, withoutPrefix, withoutSuffix } from '../../src/engine/dockerfile/shell-pattern.ts';
import { expand, expandWord } from '../../src/engine/dockerfile/words.ts';

const variables = new Map([
  ['path', '/usr/local/lib/libc.so.6'],
  ['empty', ''],
  ['stars', 'a*b*c'],
  ['braces', 'a}b}c'],
]);

describe('patterns in substitutions', () => {
  test.each([
    ['${path#*/}', 'usr/local/lib/libc.so.6'],
    ['${path##*/}', 'libc.so.6'],
    ['${path%.*}', '/usr/local/lib/libc.so'],
    ['${path%%.*}', '/usr/local/lib/libc'],
    ['${path#/usr}', '/local/lib/libc.so.6'],
    ['${path#usr}', '/usr/local/lib/libc.so.6'],
    ['${path%?}', '/usr/local/lib/libc.so.'],
    ['${path/lib/LIB}', '/usr/local/LIB/libc.so.6'],
    ['${path//lib/LIB}', '/usr/local/LIB/LIBc.so.6'],
    ['${path/l*b/x}', '/usr/xc.so.6'],
    ['${path//\\//:}', ':usr:local:lib:libc.so.6'],
    ['${stars#a\\*}', 'b*c'],
    ['${braces%\\}c}', 'a}b'],
    ['${missing#x}', ''],
    ['${empty%%*}', ''],
    ['${path##"*"}', ''],
  ])('%s is %s', (word, expected) => {
    expect(expandWord(word, variables)).toBe(expected);
  });

  test.each(['${path#\\a}', '${path/x}', '${path/x/y', '${path#'])('%s is rejected', (word) => {
    expect(() => expandWord(word, variables)).toThrow(InvalidParameter);
  });

  test('match like the equivalent regular expression', () => {
    const letters = fc.stringMatching(/^[ab]{0,8}$/);
    const source = fc.stringMatching(/^[ab*?]{0,6}$/);
    fc.assert(
      fc.property(letters, source, (value, pattern) => {
        const regex = (stars: string): string => pattern.replaceAll('*', stars).replaceAll('?', '.');
        const parsed = parsePattern(pattern);
        // A question mark of the lazy star must not be taken for a wildcard.
        const lazy = pattern.replaceAll('?', '.').replaceAll('*', '.*?');
        expect(withoutPrefix(value, parsed, true)).toBe(value.replace(new RegExp(`^${regex('.*')}`), ''));
        expect(withoutPrefix(value, parsed, false)).toBe(value.replace(new RegExp(`^${lazy}`), ''));
        const reversed = (text: string): string => Array.from(text).reverse().join('');
        expect(withoutSuffix(value, parsed, false)).toBe(
          reversed(withoutPrefix(reversed(value), parsePattern(reversed(pattern)), false)),
        );
        expect(replaced(value, parsed, 'x', false)).toBe(value.replace(new RegExp(regex('.*')), 'x'));
      }),
    );
  });

  test('take no longer for patterns that make regular expressions backtrack', () => {
    const started = performance.now();
    expect(withoutPrefix('a'.repeat(2_000), parsePattern(`${'*a'.repeat(100)}b`), true)).toHaveLength(2_000);
    expect(performance.now() - started).toBeLessThan(5_000);
  });
});

test('a backtick can be the escape character', () => {
  expect(expandWord('c:\\x`$y`"', new Map(), { escape: '`' })).toBe('c:\\x$y"');
  expect(expandWord('"a`"b\\"', new Map(), { escape: '`' })).toBe('a"b\\');
});

test('for messages, quotes and unset variables stay as they are', () => {
  const shown = { quotes: 'kept', keepUnset: true } as const;
  expect(expandWord(`echo "$path" '$path' $nope \${nope:-x} \${nope/a/b}`, variables, shown)).toBe(
    `echo "/usr/local/lib/libc.so.6" '$path' $nope \${nope:-x} \${nope/a/b}`,
  );
  expect(expandWord(`it's "$empty"$path`, variables, { quotes: 'letters' })).toBe('it\'s ""/usr/local/lib/libc.so.6');
});

test('variables that are set and those that are not are told apart', () => {
  const { set, unset } = expand('$path ${empty:-x} ${nope} $$', variables);
  expect([...set]).toEqual(['path', 'empty']);
  expect([...unset]).toEqual(['nope', '$']);
});

test('any text is expanded or rejected', () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[a${}:#%/\\"'*? ]{0,12}$/), (word) => {
      try {
        expandWord(word, new Map([['a', 'a a']]));
      } catch (error) {
        expect(error).toBeInstanceOf(InvalidParameter);
      }
    }),
  );
});
