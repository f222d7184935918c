import { readFileSync } from 'node:fs';
import { defineConfig, type TestProjectInlineConfiguration } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import YAML from 'yaml';

const sql = {
  name: 'sql',
  load: (id: string) => (id.endsWith('.sql') ? `export default ${JSON.stringify(readFileSync(id, 'utf8'))}` : null),
};
// 'pre': before vite's own handling of the file type.
const yaml = {
  name: 'yaml',
  enforce: 'pre' as const,
  load: (id: string) =>
    id.endsWith('.yaml') ? `export default ${JSON.stringify(YAML.parse(readFileSync(id, 'utf8')))}` : null,
};
/** Files run in parallel, each with engines of its own: CI has two cores. HOLDFAST_ALONE=1 makes it one. */
const MAX_WORKERS = process.env.HOLDFAST_ALONE === '1' ? 1 : 2;
/**
 * Files that run one by one, after all others: they change host-wide state (the firewall's policy, bridge filtering),
 * or measure times.
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
  test: { name, include: [`test/${name}/**/*.test.ts`], exclude: ALONE, maxWorkers: MAX_WORKERS, ...real, ...options },
});
/**
 * Unit tests first: meanwhile scripts/test builds what later ones need. Short files last, so that no worker idles for
 * long at the end.
 */
const ORDER = ['unit', 'parts', 'api', 'faults', 'e2e', 'alone'];
class InOrder extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ project }: TestSpecification): number => ORDER.indexOf(project.name);
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
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
