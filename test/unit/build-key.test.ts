import { expect, test } from 'vitest';
import type { Copy, Run } from '../../src/engine/build/graph.ts';
import { stepKey, type Contents } from '../../src/engine/build/key.ts';

const contents: Contents = {
  transfer: ({ path }) => Promise.resolve(`files of ${path}`),
  tree: (_source, path) => Promise.resolve(`tree of ${path}`),
};
const shown = { label: 'x', lines: { first: 1, last: 1 } };
const run: Run = {
  kind: 'run',
  base: { kind: 'scratch' },
  argv: ['a'],
  env: ['A=1', 'B=2'],
  user: '',
  directory: '/',
  mounts: [],
  network: 'default',
  insecure: false,
  proxy: {},
  ignoreCache: false,
  shown,
};
const copy: Copy = {
  kind: 'copy',
  base: { kind: 'scratch' },
  transfers: [
    {
      source: { kind: 'context', name: '' },
      path: '/a',
      isPattern: true,
      include: undefined,
      required: false,
      exclude: [],
      unpack: false,
    },
  ],
  destination: '/b',
  owner: '',
  mode: '',
  isLinked: false,
  ignoreCache: false,
  shown,
};
const bind = (path: string): Run['mounts'][number] => ({
  type: 'bind',
  target: '/m',
  source: { kind: 'context', name: '' },
  path,
  readOnly: true,
});
const key = (node: Run | Copy, base = 'base'): Promise<string> => stepKey(node, base, contents);

test.each<[string, Partial<Run>]>([
  ['place and label', { shown: { label: 'y', lines: { first: 9, last: 9 } } }],
  ['order of variables', { env: ['B=2', 'A=1'] }],
  ['proxies', { proxy: { HTTP_PROXY: 'x' } }],
  ['a request to run it again', { ignoreCache: true }],
])('%s do not change the key of a command', async (_what, change) => {
  expect(await key({ ...run, ...change })).toBe(await key(run));
});

test.each<[string, Partial<Run>]>([
  ['the command', { argv: ['a '] }],
  ['a variable', { env: ['A=1', 'B=3'] }],
  ['the user', { user: 'u' }],
  ['the directory', { directory: '/x' }],
  ['the network', { network: 'none' }],
  ['security', { insecure: true }],
  ['a mounted tree', { mounts: [bind('/x')] }],
])('%s changes the key of a command', async (_what, change) => {
  expect(await key({ ...run, ...change })).not.toBe(await key(run));
});

test('what a command is based on, and the files of its mounts, change its key', async () => {
  expect(await key(run, 'other')).not.toBe(await key(run));
  expect(await key({ ...run, mounts: [bind('/x')] })).not.toBe(await key({ ...run, mounts: [bind('/y')] }));
});

test('the files that are copied change the key, not the way they are named', async () => {
  const other: Copy = { ...copy, transfers: [{ ...copy.transfers[0]!, path: '/b' }] };
  expect(await key(other)).not.toBe(await key(copy));
  const named: Copy = { ...copy, transfers: [{ ...copy.transfers[0]!, isPattern: false, required: true }] };
  expect(await key(named)).toBe(await key(copy));
});

test('a linked copy does not depend on its base, unless a user has to be looked up there', async () => {
  const linked = { ...copy, isLinked: true };
  expect(await key(linked, 'other')).toBe(await key(linked));
  expect(await key({ ...linked, owner: '1:2' }, 'other')).toBe(await key({ ...linked, owner: '1:2' }));
  expect(await key({ ...linked, owner: 'u' }, 'other')).not.toBe(await key({ ...linked, owner: 'u' }));
});
