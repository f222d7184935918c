import { expect, test } from 'vitest';
import {
  hasOwnNetwork,
  hasOwnPids,
  joinedContainer,
  joinsContainer,
  modeJoining,
  networkOfMode,
} from '../../src/model/namespace-mode.ts';

test.each([
  ['', '', false, 'bridge'],
  ['default', '', false, 'bridge'],
  ['bridge', '', false, 'bridge'],
  ['host', '', false, 'host'],
  ['none', '', false, 'none'],
  ['container:abc', 'abc', true, undefined],
  ['container:', '', true, undefined],
  // A network may have this name; it joins no container.
  ['container', '', false, 'container'],
  ['a:b', '', false, 'a:b'],
])('%j: joins %j (%s), network %s', (mode, joined, joins, network) => {
  expect(joinedContainer(mode)).toBe(joined);
  expect(joinsContainer(mode)).toBe(joins);
  expect(networkOfMode(mode)).toBe(network);
});

test('a mode that joins a container is read back', () => {
  expect(joinedContainer(modeJoining('abc'))).toBe('abc');
});

test('only private and default modes give a namespace of its own', () => {
  expect(['', 'bridge', 'none', 'mynet'].every(hasOwnNetwork)).toBe(true);
  expect(['host', 'container:x'].some(hasOwnNetwork)).toBe(false);
  expect(['', 'private'].every(hasOwnPids)).toBe(true);
  expect(['host', 'container:x'].some(hasOwnPids)).toBe(false);
});
