import { describe, expect, test } from 'vitest';
import { Ignore, ignorePatterns } from '../../src/engine/build/ignore.ts';
import { InvalidParameter } from '../../src/model/errors.ts';

test.each<[string, string[], string[]]>([
  ['*.log', ['a.log'], ['d/a.log', 'a.logs', 'log']],
  ['**/*.log', ['a.log', 'd/a.log', 'd/e/a.log'], ['a.log.txt']],
  ['**', ['a', 'a/b'], []],
  ['dir', ['dir', 'dir/a', 'dir/a/b'], ['a/dir', 'dirs']],
  ['/dir/', ['dir', 'dir/a'], ['a/dir']],
  ['dir/**', ['dir/a', 'dir/a/b'], ['dirs/a']],
  ['dir/**/x', ['dir/x', 'dir/a/x', 'dir/a/b/x', 'dir/x/y'], ['dir/ax', 'x']],
  ['**/node_modules', ['node_modules/a', 'p/node_modules/b'], ['p/node_module']],
  ['a?c', ['abc'], ['a/c', 'ac']],
  ['[a-c]x', ['ax', 'cx'], ['dx', 'x']],
  ['[^a-c]x', ['dx'], ['ax']],
  ['\\*x', ['*x'], ['ax']],
  ['*/*.o', ['d/a.o', 'd/a.o/x'], ['a.o', 'd/e/a.o']],
  ['a*a*a*a*a*b', ['aaaaab'], ['a'.repeat(3_000)]],
  ['*\n!keep', ['a', 'b/keep'], ['keep', 'keep/x']],
  ['dir\n!dir/sub/k', ['dir/a', 'dir/sub/l'], ['dir/sub/k']],
  ['*\n!*.md\nREADME.md', ['a', 'README.md', 'x.txt'], ['b.md']],
  ['# a comment\n\n  spaced  \n#', ['spaced'], ['# a comment', '#']],
  ['\uFEFFa\r\nb\r\n', ['a', 'b'], ['c']],
  ['./a/../b', ['b'], ['a']],
  ['.', [], ['a']],
])('%j', (text, ignored, kept) => {
  const ignore = new Ignore(ignorePatterns(text));
  expect(ignored.filter((path) => !ignore.ignores(path))).toEqual([]);
  expect(kept.filter((path) => ignore.ignores(path))).toEqual([]);
});

describe('a directory that is ignored', () => {
  test.each([
    ['dir', 'dir', false],
    ['dir\n!dir/a', 'dir', true],
    ['dir\n!other/a', 'dir', false],
    ['*\n!a/b/c', 'a', true],
    ['*\n!a/b/c', 'a/x', false],
    ['*\n!a/*/c', 'a/x', true],
    ['*\n!**/c', 'a/x', true],
    ['*\n!*.md', 'a', true],
  ])('%j: something in %s may be kept: %s', (text, directory, expected) => {
    expect(new Ignore(ignorePatterns(text)).mayKeepBelow(directory)).toBe(expected);
  });
});

test.each(['[', '[a', 'a\\', '!'])('%j is rejected', (text) => {
  expect(() => new Ignore(ignorePatterns(text))).toThrow(InvalidParameter);
});
