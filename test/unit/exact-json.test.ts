/** JSON with integers beyond 2^53. */
import { describe, expect, test } from 'vitest';
import { exactJson, parseExactJson } from '../../src/protocol/exact-json.ts';

describe('parsing', () => {
  test.each<[string, unknown]>([
    ['9007199254740991', 9007199254740991],
    ['9007199254740993', 9007199254740993n],
    ['-9223372036854775808', -9223372036854775808n],
    ['[1, 9223372036854775807 ,{"a":9223372036854771712}]', [1, 9223372036854775807n, { a: 9223372036854771712n }]],
    ['{"1":18446744073709551615}', { 1: 18446744073709551615n }],
    ['{"a":0.12345678901234567890,"b":1e16,"c":1000000000000000}', { a: 0.12345678901234568, b: 1e16, c: 1e15 }],
    ['[123456789012345678901]', [123456789012345680000]],
    [
      '["9007199254740993","x: 9007199254740993",9007199254740993]',
      ['9007199254740993', 'x: 9007199254740993', 9007199254740993n],
    ],
    ['["\\"[9007199254740993\\\\",[9007199254740993]]', ['"[9007199254740993\\', [9007199254740993n]]],
    ['{"number 5":"number 9","a":9007199254740993}', { 'number 5': 'number 9', a: 9007199254740993n }],
  ])('%s', (text, value) => expect(parseExactJson(text)).toEqual(value));

  test('a number of a million digits and as many escapes take no time', () => {
    expect(parseExactJson('9'.repeat(1_000_000))).toBe(Infinity);
    const text = '\\"'.repeat(500_000);
    expect(parseExactJson(`["${text}",9007199254740993]`)).toEqual(['"'.repeat(500_000), 9007199254740993n]);
  });

  test('what JSON.parse rejects is rejected', () => {
    expect(() => parseExactJson('[9007199254740993')).toThrow(SyntaxError);
  });
});

describe('writing', () => {
  test.each<[unknown, string]>([
    [{ a: 5, b: 'x' }, '{"a":5,"b":"x"}'],
    [{ a: 9223372036854775807n, b: [-1n] }, '{"a":9223372036854775807,"b":[-1]}'],
    [{ 'number 5': 'number 9', a: 9007199254740993n }, '{"number 5":"number 9","a":9007199254740993}'],
    [['"number 5"', 5n], '["\\"number 5\\"",5]'],
  ])('%o', (value, text) => expect(exactJson(value)).toBe(text));
});
