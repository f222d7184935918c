/** Changed limits in the text of a config.json whose other parts must stay byte for byte. */
import { expect, test } from 'vitest';
import { withResources } from '../../src/engine/containers/bundle.ts';
import { SystemFault } from '../../src/model/errors.ts';

const HARD = '"rlimits":[{"type":"RLIMIT_NOFILE","hard":18446744073709551615}]';
const DEVICES = [{ allow: false, access: 'rwm' }];

test.each([
  ['what stands before and after it stays', `{"process":{${HARD}},"linux":{"resources":`, ',"sysctl":{}}}'],
  ['a string that looks like it', String.raw`{"process":{"env":["A=\"resources\":{}"]},"linux":{"resources":`, '}}'],
  ['an annotation of that name', '{"annotations":{"resources":"{"},"linux":{"resources":', '}}'],
])('%s', (_title, before, after) => {
  const old = JSON.stringify({ memory: { limit: 1 }, devices: DEVICES, note: 'a } and a \\" {' });
  const updated = withResources(`${before}${old}${after}`, { memory: { limit: 2 }, pids: { limit: -1 } });
  const limits = JSON.stringify({ memory: { limit: 2 }, pids: { limit: -1 }, devices: DEVICES });
  expect(updated).toBe(`${before}${limits}${after}`);
});

test('a config.json without limits, or that is cut off, is refused', () => {
  expect(() => withResources('{"linux":{}}', {})).toThrow(SystemFault);
  expect(() => withResources('{"linux":{"resources":{"memory":{', {})).toThrow(SystemFault);
});
