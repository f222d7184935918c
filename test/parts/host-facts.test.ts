/** What the engine finds out about the host that it runs on. */
import { expect, test } from 'vitest';
import { thisHost } from '../../src/engine/spec/host.ts';

test('finds the CPUs, cgroup controls, capabilities, limits and kernel of this host', () => {
  const { cpus, controls, capabilities, limits, kernel } = thisHost();
  expect(cpus).toBeGreaterThan(0);
  expect(controls.size).toBeGreaterThan(3);
  expect(capabilities).toContain('CAP_CHOWN');
  expect(limits.get('nofile')!.hard).toBeGreaterThan(0);
  expect(kernel[0]).toBeGreaterThanOrEqual(5);
});
