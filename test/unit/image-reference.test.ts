import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InvalidParameter } from '../../src/model/errors.ts';
import { matchPath } from '../../src/engine/images/path-match.ts';
import {
  canonicalString,
  familiarMatch,
  familiarString,
  isIdPrefix,
  parseAnyReference,
  parseReference,
  tagNameOnly,
  targetReference,
  withTag,
} from '../../src/engine/images/reference.ts';

const hex = 'a'.repeat(64);
const digest = `sha256:${hex}`;

describe('parsing a name as users type it', () => {
  test.each([
    ['busybox', 'docker.io/library/busybox', 'busybox'],
    ['busybox:1', 'docker.io/library/busybox:1', 'busybox:1'],
    ['library/busybox', 'docker.io/library/busybox', 'busybox'],
    ['docker.io/busybox', 'docker.io/library/busybox', 'busybox'],
    ['docker.io/library/busybox', 'docker.io/library/busybox', 'busybox'],
    ['index.docker.io/busybox', 'docker.io/library/busybox', 'busybox'],
    ['index.docker.io/a/b:c', 'docker.io/a/b:c', 'a/b:c'],
    ['a/b', 'docker.io/a/b', 'a/b'],
    ['library/a/b', 'docker.io/library/a/b', 'library/a/b'],
    ['localhost/x', 'localhost/x', 'localhost/x'],
    ['localhost:5000/x:y', 'localhost:5000/x:y', 'localhost:5000/x:y'],
    ['reg.example.com/a/b/c:1', 'reg.example.com/a/b/c:1', 'reg.example.com/a/b/c:1'],
    ['127.0.0.1:5000/x', '127.0.0.1:5000/x', '127.0.0.1:5000/x'],
    ['[::1]:5000/x', '[::1]:5000/x', '[::1]:5000/x'],
    ['[2001:db8::1]/x:y', '[2001:db8::1]/x:y', '[2001:db8::1]/x:y'],
    ['HOST/x', 'HOST/x', 'HOST/x'],
    ['host:1/x', 'host:1/x', 'host:1/x'],
    ['a__b/c-d--e.f_g', 'docker.io/a__b/c-d--e.f_g', 'a__b/c-d--e.f_g'],
    [`busybox@${digest}`, `docker.io/library/busybox@${digest}`, `busybox@${digest}`],
    [`busybox:1@${digest}`, `docker.io/library/busybox:1@${digest}`, `busybox:1@${digest}`],
    [`busybox:${'t'.repeat(128)}`, `docker.io/library/busybox:${'t'.repeat(128)}`, `busybox:${'t'.repeat(128)}`],
    ['sha256:abc', 'docker.io/library/sha256:abc', 'sha256:abc'],
    [hex.slice(1), `docker.io/library/${hex.slice(1)}`, hex.slice(1)],
  ])('expands and abbreviates %s', (text, canonical, familiar) => {
    expect(canonicalString(parseReference(text))).toBe(canonical);
    expect(familiarString(parseReference(text))).toBe(familiar);
  });
});

describe('parsing an invalid name', () => {
  const invalid = 'invalid reference format';
  test.each([
    ['', invalid],
    [':', invalid],
    ['x:', invalid],
    ['x@', invalid],
    ['a:b:c', invalid],
    ['-x', invalid],
    ['x-', invalid],
    ['a//b', invalid],
    ['/a', invalid],
    ['a/', invalid],
    ['a b', invalid],
    ['a___b', invalid],
    ['a..b', invalid],
    ['x:-y', invalid],
    ['x:.y', invalid],
    [`x:${'t'.repeat(129)}`, invalid],
    ['x@sha256:abc', invalid],
    ['http://x', invalid],
    ['x\n', invalid],
    ['a.com:/x', invalid],
    ['x@sha256:' + 'g'.repeat(64), invalid],
    ['Foo', `${invalid}: repository name (library/Foo) must be lowercase`],
    ['UPPER/Case', `${invalid}: repository name (Case) must be lowercase`],
    ['a/B:c', `${invalid}: repository name (a/B) must be lowercase`],
    ['localhost/X', `${invalid}: repository name (X) must be lowercase`],
    [hex, `invalid repository name (${hex}), cannot specify 64-byte hexadecimal strings`],
    [`x@sha256:${'a'.repeat(32)}`, 'invalid checksum digest length'],
    [`x@md5:${'a'.repeat(32)}`, 'unsupported digest algorithm'],
    [`x@sha256:${'A'.repeat(64)}`, 'invalid checksum digest format'],
    ['a/'.repeat(150) + 'x', 'repository name must not be more than 255 characters'],
  ])('rejects %j', (text, message) => {
    expect(() => parseReference(text)).toThrow(new InvalidParameter(message));
  });
});

test('an id is not a name', () => {
  expect(parseAnyReference(hex)).toEqual({ id: digest });
  expect(parseAnyReference(digest)).toEqual({ id: digest });
  expect(parseAnyReference('x')).toEqual({ domain: 'docker.io', path: 'library/x' });
  expect(isIdPrefix(digest, 'aaa') && isIdPrefix(digest, 'sha256:aa') && isIdPrefix(digest, 'sha')).toBe(true);
  expect(isIdPrefix(digest, 'ab')).toBe(false);
});

test('a new name must be valid and unambiguous', () => {
  expect(targetReference('', 'x')).toBeUndefined();
  expect(familiarString(targetReference('x', '')!)).toBe('x:latest');
  expect(familiarString(targetReference('x:1', '2')!)).toBe('x:2');
  expect(() => targetReference('sha256', 'x')).toThrow(
    'refusing to create an ambiguous tag using digest algorithm as name',
  );
  expect(() => targetReference(`x@${digest}`, '')).toThrow('refusing to create a tag with a digest reference');
  expect(() => targetReference('x', 'a b')).toThrow('invalid tag format');
});

test('every valid reference survives parsing and printing unchanged [reference-round-trip]', () => {
  const word = fc.stringMatching(/^[a-z0-9]{1,6}$/);
  const component = fc
    .tuple(word, fc.array(fc.tuple(fc.constantFrom('.', '_', '__', '-', '---'), word), { maxLength: 2 }))
    .map(([first, rest]) => first + rest.flat().join(''));
  const path = fc.array(component, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/'));
  const domain = fc.oneof(
    fc.constant('localhost'),
    fc.stringMatching(/^[a-z0-9]{1,5}(\.[a-z0-9]{1,5}){1,2}(:[0-9]{1,5})?$/),
  );
  const tag = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}$/);
  fc.assert(
    fc.property(fc.option(domain), path, fc.option(tag), fc.boolean(), (domain, path, tag, digested) => {
      const text = `${domain ? `${domain}/` : ''}${path}${tag ? `:${tag}` : ''}${digested ? `@${digest}` : ''}`;
      fc.pre(!/^[a-f0-9]{64}$/.test(text));
      // With a dot in it, the first of several components is a host, and a host has no underscore.
      fc.pre(!/^(?=[^/]*\.)[^/]*_[^/]*\//.test(text));
      const reference = parseReference(text);
      // Parsing either spelling again gives the same reference.
      expect(parseReference(familiarString(reference))).toEqual(reference);
      expect(parseReference(canonicalString(reference))).toEqual(reference);
      expect(tagNameOnly(tagNameOnly(reference))).toEqual(tagNameOnly(reference));
      if (tag) expect(withTag({ ...reference, tag: undefined }, tag).tag).toBe(tag);
    }),
  );
});

test('any text parses to a reference or throws InvalidParameter [reference-any-text]', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[a-zA-Z0-9/:@._-]{0,40}$/)), (text) => {
      try {
        parseReference(text);
      } catch (error) {
        expect(error).toBeInstanceOf(InvalidParameter);
      }
    }),
  );
});

describe('patterns', () => {
  test.each([
    ['*', 'abc', true],
    ['*', 'a/b', false],
    ['*/*', 'a/b', true],
    ['a*c', 'abbbc', true],
    ['a?c', 'abc', true],
    ['a?c', 'a/c', false],
    ['[a-c]x', 'bx', true],
    ['[^a-c]x', 'bx', false],
    ['[^a-c]x', 'dx', true],
    ['\\*', '*', true],
    ['\\*', 'a', false],
    ['a.c', 'abc', false],
    ['[\\]]', ']', true],
    ['[x\\-z]', '-', true],
    ['**', 'abc', true],
    ['', '', true],
    ['a+', 'a+', true],
    ['[z-a]', 'b', false],
    ['*a*b', 'xa/ab', false],
    ['*/*/c', 'a/b/c', true],
    ['*b*', 'abab', true],
    ['*ab', 'aab', true],
    ['a*', 'a', true],
    ['*', '', true],
    ['?', '', false],
    ['?', '😀', true],
    ['é?', 'éx', true],
    ['a-b', 'a-b', true],
  ])('pattern %s matches %s: %s', (pattern, text, expected) => {
    expect(matchPath(pattern, text)).toBe(expected);
  });

  test.each(['[', '[]', '[a', '[-]', '[a-]', '\\', '[\\', '[^]'])('%s is not a pattern', (pattern) => {
    expect(() => matchPath(pattern, 'x')).toThrow('syntax error in pattern');
  });

  test('many stars match in linear time', () => {
    const began = performance.now();
    expect(matchPath(`${'*a'.repeat(30)}b`, 'a'.repeat(10_000))).toBe(false);
    expect(performance.now() - began).toBeLessThan(1_000);
  });

  test('a reference matches with and without its tag', () => {
    const reference = parseReference('a/b:1.2');
    for (const pattern of ['a/b', 'a/b:1.2', 'a/*', '*/b:*']) expect(familiarMatch(pattern, reference)).toBe(true);
    for (const pattern of ['b', '*', 'a/b:1', 'docker.io/a/b']) expect(familiarMatch(pattern, reference)).toBe(false);
  });

  test('every text matches its own escaped form', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) =>
        matchPath(Array.from(text, (c) => `\\${c}`).join(''), text),
      ),
    );
  });
});
