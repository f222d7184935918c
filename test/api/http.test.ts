import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Validator } from '@seriousme/openapi-schema-validator';
import { afterAll, beforeAll, expect, test } from 'vitest';
import YAML from 'yaml';
import { operations } from '../../src/api/contract.ts';
import type { Client } from '../../src/engine/client.ts';
import { Conflict, NotFound, NotModified } from '../../src/model/errors.ts';
import { serve, type Api } from '../support/api.ts';

const ID = 'a'.repeat(64);
let api: Api;
let created: unknown;
let listed: { limit: number; all: boolean; filters: Map<string, string[]> } | undefined;
let execStarted: Record<string, unknown> | undefined;
let stopped: Record<string, unknown> | undefined;
let gone = 0;
let hijacked: Client | undefined;
let images: string[] = [];

/** Plays the shim: sends back what it received as input. */
const echo = (client: Client): void => client.answer(`early=${client.early.toString()}`);

beforeAll(async () => {
  const container = {
    id: ID,
    name: 'c',
    config: { Tty: false, OpenStdin: true },
    hostConfig: { LogConfig: { Type: 'json-file' } },
    phase: 'ready',
    state: {},
  };
  const resolve = (reference: string) =>
    reference === 'slow'
      ? new Promise<never>(() => undefined)
      : reference === 'c' || reference === ID
        ? Promise.resolve(container)
        : Promise.reject(new NotFound(`No such container: ${reference}`));
  api = await serve({
    containers: {
      resolve,
      all: () => [],
      linkNames: () => new Map(),
      list: (query: typeof listed) => ((listed = query), Promise.resolve([])),
      create: (_name: unknown, request: unknown) => ((created = request), Promise.resolve({ id: ID, warnings: [] })),
      start: () => Promise.reject(new NotModified('')),
      stop: async (reference: string, options: Record<string, unknown>) => {
        await resolve(reference);
        stopped = options;
      },
      kill: (reference: string) => resolve(reference).then(() => undefined),
      resize: () => Promise.resolve(),
      prune: () => Promise.resolve({ deleted: [], reclaimed: 0 }),
      pause: () => Promise.reject(new Error('boom')),
      logs: (reference: string) =>
        resolve(reference).then(() =>
          Promise.reject(new Conflict('can not get logs from container which is dead or marked for removal')),
        ),
      attach: (_id: string, _options: unknown, client: Client) => {
        echo(client);
        return Promise.resolve();
      },
      wait: (_id: string, condition: string, client: Client) => {
        if (condition === 'removed') {
          hijacked = client;
          client.onGone(() => gone++);
          client.sendHead();
        } else client.answer('{"StatusCode":0}\n');
        return Promise.resolve();
      },
      inspectExec: (id: string) =>
        id === 'e'
          ? Promise.resolve({ id, containerId: ID })
          : Promise.reject(new NotFound(`No such exec instance: ${id}`)),
      startExec: (_id: string, options: Record<string, unknown>, client?: Client) => {
        execStarted = options;
        if (client) echo(client);
        return Promise.resolve();
      },
    },
    networks: { list: () => [] },
    images: { history: (name: string) => (images.push(name), []), find: () => undefined },
    events: {
      subscribe: () => ({
        [Symbol.asyncIterator]: () => ({ next: () => new Promise((resolve) => setTimeout(resolve, 60_000).unref()) }),
      }),
    },
    system: {
      versions: () =>
        Promise.resolve({
          kernel: '<&>',
          architecture: 'amd64',
          runtime: { name: 'runc', version: '', commit: '' },
          init: { name: 'tini', version: '', commit: '' },
        }),
    },
  });
});
afterAll(() => api.close());

const get = (path: string, method = 'GET'): Promise<string> =>
  api.raw(`${method} ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
const post = (path: string, body = '', headers = ''): Promise<string> =>
  api.raw(
    `POST ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${body.length}\r\n${headers}\r\n${body}`,
  );
const JSON_TYPE = 'Content-Type: application/json\r\n';
const create = (body: string, type = JSON_TYPE): Promise<string> => post('/containers/create', body, type);
const status = (answer: string): number => Number(answer.split(' ')[1]);
const bodyOf = (answer: string): string => answer.slice(answer.indexOf('\r\n\r\n') + 4);
const messageOf = (answer: string): string => (JSON.parse(bodyOf(answer)) as { message: string }).message;

test('the OpenAPI document is valid, and the server serves each of its operations [document-routes]', async () => {
  const document = YAML.parse(readFileSync('openapi.yaml', 'utf8')) as Record<string, unknown>;
  expect(await new Validator().validate(structuredClone(document))).toMatchObject({ valid: true });
  const described = Object.entries(document.paths as Record<string, Record<string, { operationId: string }>>).flatMap(
    ([path, methods]) =>
      Object.entries(methods).map(([method, { operationId }]) => `${operationId} ${method.toUpperCase()} ${path}`),
  );
  expect(operations.map((o) => `${o.id} ${o.method} ${o.path}`).sort()).toEqual(described.sort());
  expect(new Set(operations.map((o) => o.id)).size).toBe(operations.length);
});

test('JSON has the exact type, ends with a newline and does not escape HTML; every answer has the version headers', async () => {
  const { text } = await api.http
    .get('/version')
    .expect(200)
    .expect('content-type', 'application/json')
    .expect('api-version', '1.51')
    .expect('ostype', 'linux')
    .expect('docker-experimental', 'false')
    .expect('server', /^Docker\//);
  expect(text).toMatch(/"KernelVersion":"<&>".*\}\n$/);
  await api.http.get('/containers/nope/json').expect(404).expect('api-version', '1.51');
});

test('a request target may be an absolute URL, as clients of proxies send it', async () => {
  expect(bodyOf(await get('http://docker/v1.43/_ping'))).toBe('OK');
  expect(status(await get('http://docker/nonsense'))).toBe(404);
});

test('ping is text without a newline; by HEAD it has no body', async () => {
  await api.http.get('/_ping').expect(200, 'OK').expect('content-type', 'text/plain; charset=utf-8');
  const head = await get('/_ping', 'HEAD');
  expect(status(head)).toBe(200);
  expect(head).toMatch(/content-length: 0/i);
  expect(bodyOf(head)).toBe('');
});

test('versions in range are accepted; a version too new, too old or too old for the operation is rejected', async () => {
  await api.http.get('/v1.24/version').expect(200);
  await api.http
    .get('/v1.99/version')
    .expect(400, { message: 'client version 1.99 is too new. Maximum supported API version is 1.51' })
    .expect('api-version', '1.51');
  await api.http
    .get('/v1.12/version')
    .expect('content-type', /^text\/plain/)
    .expect(
      400,
      'client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version\n',
    );
  await api.http
    .post('/v1.24/containers/prune')
    .expect(400, { message: 'POST /containers/prune requires minimum API version 1.25' });
});

test('an unknown path or method is 404, OPTIONS is 200, an empty name redirects [http-odd-paths]', async () => {
  await api.http.get('/nope').expect(404, '{"message":"page not found"}\n');
  for (const path of ['/v1.99/nope', '/containers/json/']) await api.http.get(path).expect(404);
  await api.http.delete('/info').expect(404);
  await api.http.head('/containers/json').expect(404);
  await api.http.options('/anything').expect(200);
  const moved = await get('/containers//json');
  expect([status(moved), /location: (.*)\r/i.exec(moved)?.[1]]).toEqual([301, '/containers/json']);
  for (const [path, cleaned] of [
    ['/v1.44/images//json?all=1', '/v1.44/images/json?all=1'],
    ['//images/a//b/json', '/images/a/b/json'],
    ['http://docker/images//json', '/images/json'],
  ] as const)
    expect(/location: (.*)\r/i.exec(await get(path))?.[1]).toBe(cleaned);
  expect(status(await get('/containers/json?x=//'))).toBe(200);
  expect(status(await get('/v1.44/networks/?filters={}'))).toBe(200);
  expect(status(await get('/containers/%zz/json'))).toBe(400);
});

test('errors map to a status by kind, unknown ones to 500, 304 without a body', async () => {
  await api.http.get('/containers/x/json').expect(404, '{"message":"No such container: x"}\n');
  await api.http.post('/containers/c/pause').expect(500, { message: 'boom' });
  const unmodified = await post('/containers/c/start');
  expect([status(unmodified), bodyOf(unmodified)]).toEqual([304, '']);
  expect(unmodified).not.toMatch(/content-(type|length)/i);
  await api.http.post('/containers/x/kill').expect(404, { message: 'cannot kill container: x: No such container: x' });
});

test('booleans, integers and filters parse as Docker parses them', async () => {
  await api.http.get('/containers/json').query({ all: 'True', limit: -1, filters: '{"label":{"a=b":true}}' });
  expect(listed).toMatchObject({ all: true, limit: -1 });
  expect(listed!.filters.get('label')).toEqual(['a=b']);
  await api.http.get('/containers/json?all=None&all=1&limit=').query({ filters: '{"label":["x"]}' });
  expect(listed).toMatchObject({ all: false, limit: 0 });
  expect(listed!.filters.get('label')).toEqual(['x']);
  await api.http.get('/containers/json?filters=nonsense').expect(400, { message: 'invalid filter' });
  await api.http
    .get('/containers/json?limit=abc')
    .expect(400, { message: 'strconv.Atoi: parsing "abc": invalid syntax' });
  await api.http
    .post('/containers/x/resize?h=abc&w=1')
    .expect(400, { message: 'invalid resize height "abc": invalid syntax' });
  await api.http
    .post('/containers/x/resize?h=-100&w=1')
    .expect(400, { message: 'invalid resize height "-100": value out of range' });
  expect(status(await get('/containers/json?a;b'))).toBe(400);
  expect(status(await get('/containers/json?all=%zz'))).toBe(400);
  await api.http.post('/v1.41/containers/c/stop?signal=SIGINT&t=0');
  expect(stopped).toMatchObject({ timeout: 0, signal: '' });
});

test('excessive numbers and nesting depths are rejected', async () => {
  const since = async (value: string): Promise<string> =>
    messageOf(await get(`/containers/c/logs?stdout=1&since=${value}`));
  const range = 'invalid value for "since": strconv.ParseInt: parsing "9223372036854775808": value out of range';
  expect(await since('9223372036854775808')).toBe(range);
  expect(await since('9'.repeat(500_000))).toContain('value out of range');
  expect(await since('9223372036854775807')).toBe(
    'can not get logs from container which is dead or marked for removal',
  );
  const deep = await create(`{"Image":"x","Labels":${'['.repeat(1_000_000)}`);
  expect([status(deep), messageOf(deep)]).toEqual([400, 'invalid JSON: exceeded max depth']);
});

test('a query of 17 kB is accepted', async () => {
  await api.http.get(`/containers/json?x=${'y'.repeat(17_000)}`).expect(200);
});

test('bodies parse as in Go', async () => {
  expect(
    status(
      await create(
        '{"iMaGe":"busybox","Cmd":"ls","Tty":null,"Nonsense":1,"Labels":{"__proto__":"x","KeepCase":"y"},"HostConfig":{"portbindings":{"80/tcp":null},"Memory":null}}',
      ),
    ),
  ).toBe(201);
  expect(created).toEqual({
    Image: 'busybox',
    Cmd: ['ls'],
    Labels: Object.fromEntries([
      ['__proto__', 'x'],
      ['KeepCase', 'y'],
    ]),
    HostConfig: { PortBindings: { '80/tcp': null } },
  });
  const refusals: [string, string, string?][] = [
    ['', 'invalid JSON: EOF'],
    ['null', 'config cannot be empty in order to create a container'],
    ['{}', 'config cannot be empty in order to create a container'],
    ['{"HostConfig":{}}', 'config cannot be empty in order to create a container'],
    ['{', 'invalid JSON: unexpected EOF'],
    ['nonsense', "invalid JSON: invalid character 'o' in literal null (expecting 'u')"],
    ['{"Image":"a"}{"Image":"b"}', 'unexpected content after JSON'],
    [
      '{"Image":"a","Tty":"yes"}',
      'invalid JSON: json: cannot unmarshal string into Go struct field CreateRequest.Tty of type bool',
    ],
    [
      '{"Image":5}',
      'invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.Image of type string',
    ],
    [
      '{"Image":"a","Env":{}}',
      'invalid JSON: json: cannot unmarshal object into Go struct field CreateRequest.Env of type []string',
    ],
    [
      '{"HostConfig":{"Memory":"1g"}}',
      'invalid JSON: json: cannot unmarshal string into Go struct field HostConfig.HostConfig.Memory of type int64',
    ],
    [
      '{"HostConfig":{"Memory":9223372036854775808}}',
      'invalid JSON: json: cannot unmarshal number 9223372036854775808 into Go struct field HostConfig.HostConfig.Memory of type int64',
    ],
    [
      '{"HostConfig":{"ShmSize":-9223372036854775809}}',
      'invalid JSON: json: cannot unmarshal number -9223372036854775809 into Go struct field HostConfig.HostConfig.ShmSize of type int64',
    ],
    [
      '{"HostConfig":{"BlkioDeviceReadBps":[{"Rate":18446744073709551616}]}}',
      'invalid JSON: json: cannot unmarshal number 18446744073709551616 into Go struct field ThrottleDevice.HostConfig.BlkioDeviceReadBps.Rate of type uint64',
    ],
    [
      '{"Image":"a"}',
      "unsupported Content-Type header (text/plain): must be 'application/json'",
      'Content-Type: text/plain\r\n',
    ],
    ['{"Image":"a"}', 'malformed Content-Type header (): mime: no media type', ''],
  ];
  for (const [body, message, type] of refusals) {
    const answer = await create(body, type);
    expect([status(answer), messageOf(answer)]).toEqual([400, message]);
  }
  expect(status(await create('{"Image":"a"}', 'Content-Type: application/json; charset=utf-8\r\n'))).toBe(201);
  const chunked = await api.raw(
    'POST /containers/create HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  );
  expect(messageOf(chunked)).toBe('invalid JSON: got EOF while reading request body');
  // An operation that reads no JSON accepts any type.
  expect(status(await post('/containers/c/resize?h=1&w=1', 'x', 'Content-Type: text/plain\r\n'))).toBe(200);
});

test('image names keep their slashes, raw and escaped', async () => {
  images = [];
  for (const name of ['a/b/c', 'a%2Fb%2Fc', 'localhost:5000/x:1', `x@sha256:${'0'.repeat(64)}`])
    await get(`/v1.43/images/${name}/history`);
  expect(images).toEqual(['a/b/c', 'a/b/c', 'localhost:5000/x:1', `x@sha256:${'0'.repeat(64)}`]);
});

test('logs: errors come before the head, with their status', async () => {
  await api.http
    .get('/containers/c/logs')
    .expect(400, { message: 'Bad parameters: you must choose at least one stream' });
  await api.http.get('/containers/c/logs?stdout=1').expect(409);
  await api.http.get('/containers/x/logs?stdout=1').expect(404);
});

test('events: the head is sent before the first event, chunked', async () => {
  const answer = await api.raw('GET /events HTTP/1.1\r\nHost: x\r\n\r\n');
  expect(answer).toMatch(/transfer-encoding: chunked/i);
  expect(answer).toMatch(/content-type: application\/json\r/i);
});

const MUX = 'application/vnd.docker.multiplexed-stream';
const RAW = 'application/vnd.docker.raw-stream';

test('attach: 101 with Upgrade, with or without Connection; 200 raw without Upgrade', async () => {
  const path = '/containers/c/attach?stream=1&stdout=1';
  for (const connection of ['Connection: Upgrade\r\n', '']) {
    const answer = await api.raw(
      `POST ${path} HTTP/1.1\r\nHost: x\r\n${connection}Upgrade: tcp\r\nContent-Length: 0\r\n\r\n`,
    );
    expect(answer).toBe(
      `HTTP/1.1 101 UPGRADED\r\nContent-Type: ${MUX}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly=`,
    );
  }
  expect(
    await api.raw(`POST /v1.41${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n`),
  ).toContain(`Content-Type: ${RAW}`);
  expect(await api.raw(`POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n`)).toBe(
    `HTTP/1.1 200 OK\r\nContent-Type: ${RAW}\r\n\r\nearly=`,
  );
});

test('attach: the request body is not stdin, the bytes after it are; in one packet, in two, chunked, without Upgrade', async () => {
  const start = 'POST /containers/c/attach?stream=1&stdin=1 HTTP/1.1\r\nHost: x\r\n';
  const upgrade = `${start}Connection: Upgrade\r\nUpgrade: tcp\r\n`;
  const cases: (string | string[])[] = [
    `${upgrade}Content-Length: 13\r\n\r\n{"stdin":true}`.replace('13', '14') + 'hello',
    [`${upgrade}Content-Length: 14\r\n\r\n{"std`, 'in":true}hello'],
    [`${upgrade}Transfer-Encoding: chunked\r\n\r\n2\r\n{`, '}\r\n0\r\n\r\nhello'],
    `${start}Content-Length: 14\r\n\r\n{"stdin":true}hello`,
    `${start}Content-Length: 0\r\n\r\nhello`,
  ];
  for (const request of cases) expect(bodyOf(await api.raw(request))).toBe('early=hello');
});

test('an invalid chunk size ends the request, not the daemon', async () => {
  const upgrade =
    'POST /containers/c/attach?stream=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nTransfer-Encoding: chunked\r\n\r\n';
  for (const size of ['-6', '-1', '+1', '0x1', '', 'g', '1g', '1 1', '123456789'])
    expect(await api.raw(`${upgrade}${size}\r\n`)).toBe('');
  expect(bodyOf(await api.raw(`${upgrade}2 ;a=b\r\n{}\r\n0\r\n\r\nhello`))).toBe('early=hello');
});

test('early input is kept up to a limit', async () => {
  const flood = async (request: string): Promise<Socket> => {
    const socket = await api.open();
    socket.on('error', () => undefined);
    socket.write(request);
    const more = (): boolean => socket.write(Buffer.alloc(1 << 20));
    socket.on('drain', () => socket.bytesWritten < 64 << 20 && more());
    more();
    return socket;
  };
  const waiting = await flood(
    'POST /containers/c/wait?condition=removed HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n',
  );
  await expect.poll(() => hijacked?.early.length).toBeGreaterThan(64 << 10);
  await sleep(200);
  expect(hijacked!.early.length).toBeLessThan(256 << 10);
  waiting.destroy();
  const stray = await flood('POST /containers/slow/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n');
  await expect.poll(() => stray.destroyed).toBe(true);
  expect(stray.bytesWritten).toBeLessThan(32 << 20);
});

test('attach: errors are text on the hijacked connection', async () => {
  const answer = await api.raw(
    'POST /containers/x/attach?stream=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n',
  );
  expect(answer).toMatch(/^HTTP\/1\.1 404 Not Found\r\nContent-Type: application\/vnd\.docker\.raw-stream\r\n/);
  expect(bodyOf(answer)).toBe('No such container: x\r\n');
  expect(
    bodyOf(
      await api.raw(
        'POST /containers/c/attach?detachKeys=nonsense HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n',
      ),
    ),
  ).toBe('Invalid detach keys (nonsense) provided\r\n');
});

test('exec start: the body decides; detached it is an ordinary answer, as is its 404', async () => {
  const start = (id: string, body: string): Promise<string> =>
    api.raw(
      `POST /exec/${id}/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n${JSON_TYPE}Content-Length: ${body.length}\r\n\r\n${body}in`,
    );
  const attached = await start('e', '{"detach":false,"Tty":true}');
  expect(attached).toMatch(
    /^HTTP\/1\.1 101 UPGRADED\r\nContent-Type: application\/vnd\.docker\.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nApi-Version: 1\.51\r\n/,
  );
  expect(bodyOf(attached)).toBe('early=in');
  expect(execStarted).toMatchObject({ tty: true, framed: false });
  expect(status(await start('e', '{"Detach":true}'))).toBe(200);
  const missing = await start('x', '{}');
  expect([status(missing), messageOf(missing)]).toEqual([404, 'No such exec instance: x']);
});

test('wait: the head is sent at once, and a disconnect is noticed', async () => {
  const answer = await post('/containers/c/wait');
  expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
  expect(answer).toMatch(/Connection: close\r\n/);
  expect(bodyOf(answer)).toBe('{"StatusCode":0}\n');
  await api.http.post('/containers/c/wait?condition=never').expect(400, { message: 'invalid condition: "never"' });
  await api.http.post('/containers/x/wait').expect(404);

  const before = gone;
  const socket = await api.open();
  socket.write('POST /containers/c/wait?condition=removed HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n');
  expect(String(await new Promise((resolve) => socket.once('data', resolve)))).toMatch(/^HTTP\/1\.1 200 OK/);
  expect(hijacked!.head.length).toBe(0);
  socket.end();
  await expect.poll(() => gone).toBe(before + 1);
});

test('Expect: 100-continue: the body is asked for when it is read, and an early refusal is the only answer [http-continue]', async () => {
  const expectant = (path: string): string =>
    `POST ${path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n${JSON_TYPE}Content-Length: 13\r\n\r\n`;
  const refused = await api.raw(expectant('/v1.99/containers/create'));
  expect(refused).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
  expect(refused).toMatch(/\r\nConnection: close\r\n/i);
  expect(refused.match(/HTTP\/1\.1/g)).toHaveLength(1);
  const taken = await api.raw([expectant('/containers/create'), '{"Image":"a"}']);
  expect(taken).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 201 Created\r\n/);
  expect(taken).not.toMatch(/\r\nConnection: close\r\n/i);
});

test('attach by WebSocket: without a handshake a missing container is 404, another one 400 [websocket-refusals]', async () => {
  await api.http.get('/containers/x/attach/ws').expect(404, { message: 'No such container: x' });
  await api.http.get('/containers/c/attach/ws').expect(400, { message: 'not a WebSocket handshake' });
});
