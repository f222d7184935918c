import { readFileSync } from 'node:fs';
import { defineConfig } from 'vitest/config';
import YAML from 'yaml';

const sql = { name: 'sql', load: (id: string) => (id.endsWith('.sql') ? `export default ${JSON.stringify(readFileSync(id, 'utf8'))}` : null) };
// 'pre': before vite takes a file for what its ending says.
const yaml = { name: 'yaml', enforce: 'pre' as const, load: (id: string) => (id.endsWith('.yaml') ? `export default ${JSON.stringify(YAML.parse(readFileSync(id, 'utf8')))}` : null) };
// Being brought to green: run by name, as in HOLDFAST_ALL=1 npx vitest run test/faults/fault-points.test.ts.
const unfinished = process.env.HOLDFAST_ALL ? [] : ['test/faults/fault-points.test.ts'];
const serial = { pool: 'forks' as const, fileParallelism: false, maxWorkers: 1, testTimeout: 120_000, hookTimeout: 120_000, teardownTimeout: 20_000, retry: 1 };
const nothingLeft = ['test/support/nothing-left.ts'];

export default defineConfig({
  plugins: [sql, yaml],
  test: {
    projects: [
      { extends: true, test: { name: 'unit', include: ['test/unit/**/*.test.ts'], testTimeout: 60_000, hookTimeout: 60_000, retry: 2 } },
      { extends: true, test: { name: 'api', include: ['test/api/**/*.test.ts'], ...serial } },
      { extends: true, test: { name: 'e2e', include: ['test/e2e/**/*.test.ts'], setupFiles: nothingLeft, ...serial } },
      { extends: true, test: { name: 'faults', include: ['test/faults/**/*.test.ts'], exclude: unfinished, setupFiles: nothingLeft, ...serial } },
    ],
  },
});
