/** HTTP headers of registries: credentials and challenges. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ANONYMOUS, decodeCredentials, parseChallenges } from '../../src/engine/images/registry/credentials.ts';
import { refusal } from '../../src/engine/images/registry/failure.ts';
import { progressBar, progressLine } from '../../src/api/wire/progress.ts';

const encoded = (value: unknown, alphabet: 'base64' | 'base64url' = 'base64url'): string =>
  Buffer.from(JSON.stringify(value)).toString(alphabet);

describe('X-Registry-Auth', () => {
  test.each([
    ['a missing header', undefined],
    ['an empty object', 'e30='],
    ['garbage', '%%%'],
    ['text that is not JSON', Buffer.from('hello').toString('base64')],
    ['null', Buffer.from('null').toString('base64')],
  ])('%s means anonymous', (_, header) => expect(decodeCredentials(header)).toEqual(ANONYMOUS));
  test.each(['base64', 'base64url'] as const)('decodes user and password in %s [auth-basic]', (alphabet) => {
    expect(decodeCredentials(encoded({ username: 'ü?>', password: 'p:w' }, alphabet))).toEqual({
      ...ANONYMOUS,
      username: 'ü?>',
      password: 'p:w',
    });
  });
  test('decodes auth in place of user and password', () =>
    expect(decodeCredentials(encoded({ auth: Buffer.from('u:p:q').toString('base64') }))).toEqual({
      ...ANONYMOUS,
      username: 'u',
      password: 'p:q',
    }));
  test('decodes tokens', () =>
    expect(decodeCredentials(encoded({ identitytoken: 'i', registrytoken: 'r' }))).toEqual({
      ...ANONYMOUS,
      identityToken: 'i',
      registryToken: 'r',
    }));
  test('never throws, whatever the header is', () =>
    fc.assert(fc.property(fc.string(), (text) => void decodeCredentials(text))));
});

describe('WWW-Authenticate', () => {
  const read = (header: string | string[] | undefined): unknown =>
    parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);
  test('parses a bearer challenge', () =>
    expect(
      read('Bearer realm="https://a/t?x=1,2",service="r",scope="repository:a/b:pull,push",error="insufficient_scope"'),
    ).toEqual([
      [
        'bearer',
        { realm: 'https://a/t?x=1,2', service: 'r', scope: 'repository:a/b:pull,push', error: 'insufficient_scope' },
      ],
    ]));
  test('parses two challenges in one header, and escapes', () =>
    expect(read('Basic realm="a \\"b\\"", Bearer realm=x , service="s"')).toEqual([
      ['basic', { realm: 'a "b"' }],
      ['bearer', { realm: 'x', service: 's' }],
    ]));
  test('parses two headers', () =>
    expect(read(['Negotiate', 'Basic realm="a"'])).toEqual([
      ['negotiate', {}],
      ['basic', { realm: 'a' }],
    ]));
  test('returns nothing for a missing header', () => expect(read(undefined)).toEqual([]));
  test('terminates on any input', () => fc.assert(fc.property(fc.string(), (text) => void parseChallenges(text))));
});

describe('an error answer of a registry', () => {
  const errors = (...list: object[]): string => JSON.stringify({ errors: list });
  test.each([
    [404, errors({ code: 'MANIFEST_UNKNOWN', message: 'manifest unknown' }), 'manifest unknown: manifest unknown'],
    [401, '', 'unauthorized: authentication required'],
    [429, '{"details":"slow down"}', 'toomanyrequests: slow down'],
    [502, '<html>', 'received unexpected HTTP status: 502 Text'],
    [403, errors({ code: 'DENIED', message: 'a\u001b[31mb' }), 'denied: a[31mb'],
    [400, errors({ code: 'A_B', message: 'x' }, { code: 'C', message: 'y' }), 'errors:\na b: x\nc: y\n'],
  ])('with status %i and body %s becomes Docker’s message', (status, body, message) =>
    expect(refusal(status, 'Text', body, []).message).toBe(message),
  );
  test('about an insufficient token becomes Docker’s denial', () =>
    expect(refusal(401, '', '', parseChallenges('Bearer realm="x",error="insufficient_scope"'))).toMatchObject({
      code: 'DENIED',
      message: 'denied: requested access to the resource is denied',
    }));
});

describe('progress lines', () => {
  test.each([
    [{ id: '1', status: 'Pulling from library/a' }, '{"status":"Pulling from library/a","id":"1"}'],
    [
      { id: 'ab', status: 'Pulling fs layer', detail: {} },
      '{"status":"Pulling fs layer","progressDetail":{},"id":"ab"}',
    ],
    [
      { id: 'ab', status: 'Downloading', detail: { current: 500, total: 1000 } },
      '{"status":"Downloading","progressDetail":{"current":500,"total":1000},"progress":"[=========================>                         ]     500B/1kB","id":"ab"}',
    ],
    [{ aux: { Tag: 't' } }, '{"progressDetail":{},"aux":{"Tag":"t"}}'],
  ])('equal Docker’s: %# [progress-lines]', (progress, line) => expect(progressLine(progress)).toBe(`${line}\r\n`));
  test('never draw a bar beyond its width', () =>
    fc.assert(
      fc.property(
        fc.nat(),
        fc.integer({ min: 1 }),
        (current, total) => void expect(/^\[=*> *\]/.exec(progressBar(current, total))![0]).toHaveLength(53),
      ),
    ));
});
