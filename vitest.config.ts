import { readFileSync } from 'node:fs';
import { defineConfig, type TestProjectInlineConfiguration } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import YAML from 'yaml';

const sql = {
  name: 'sql',
  load: (id: string) => (id.endsWith('.sql') ? `export default ${JSON.stringify(readFileSync(id, 'utf8'))}` : null),
};
// 'pre': before vite takes a file for what its ending says.
const yaml = {
  name: 'yaml',
  enforce: 'pre' as const,
  load: (id: string) =>
    id.endsWith('.yaml') ? `export default ${JSON.stringify(YAML.parse(readFileSync(id, 'utf8')))}` : null,
};
/**
 * Two files at a time keep both of CI's cores busy: each has engines of its own. With HOLDFAST_ALONE=1 a file answers
 * for the whole machine.
 */
const AT_ONCE = process.env.HOLDFAST_ALONE === '1' ? 1 : 2;
/**
 * One at a time, after all others: they change what every engine of the host lives with (a firewall's policy, filtered
 * bridges), or measure how soon something is there.
 */
const ALONE = [
  'test/parts/network-driver.test.ts',
  'test/e2e/network.test.ts',
  'test/e2e/network-reachability.test.ts',
  'test/faults/daemon-killed.test.ts',
];

const real = { pool: 'forks' as const, testTimeout: 120_000, hookTimeout: 120_000, teardownTimeout: 20_000 };
const project = (name: string, options: TestProjectInlineConfiguration['test']) => ({
  extends: true as const,
  test: { name, include: [`test/${name}/**/*.test.ts`], exclude: ALONE, maxWorkers: AT_ONCE, ...real, ...options },
});
/**
 * Unit tests first: meanwhile scripts/test has made what some of the others need. At the end short files, so that
 * neither worker waits long for the other.
 */
const ORDER = ['unit', 'parts', 'api', 'faults', 'e2e', 'alone'];
class InOrder extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ project }: TestSpecification): number => ORDER.indexOf(project.name);
    return (await super.sort(files)).sort((a, b) => place(a) - place(b));
  }
}

const setupFiles = 'test/support/nothing-left.ts';

export default defineConfig({
  plugins: [sql, yaml],
  test: {
    sequence: { sequencer: InOrder },
    projects: [
      project('unit', { testTimeout: 60_000, hookTimeout: 60_000 }),
      project('parts', { testTimeout: 60_000, hookTimeout: 60_000 }),
      project('api', {}),
      project('e2e', { setupFiles }),
      project('faults', { setupFiles }),
      project('alone', { include: ALONE, exclude: [], setupFiles, fileParallelism: false, maxWorkers: 1 }),
    ],
  },
});
