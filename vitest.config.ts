import { readFileSync } from 'node:fs';
import { defineConfig } from 'vitest/config';
import YAML from 'yaml';

const sql = { name: 'sql', load: (id: string) => (id.endsWith('.sql') ? `export default ${JSON.stringify(readFileSync(id, 'utf8'))}` : null) };
// 'pre': before vite takes a file for what its ending says.
const yaml = { name: 'yaml', enforce: 'pre' as const, load: (id: string) => (id.endsWith('.yaml') ? `export default ${JSON.stringify(YAML.parse(readFileSync(id, 'utf8')))}` : null) };
const serial = { pool: 'forks' as const, fileParallelism: false, maxWorkers: 1, testTimeout: 120_000, hookTimeout: 120_000, teardownTimeout: 20_000 };
const nothingLeft = ['test/support/nothing-left.ts'];

export default defineConfig({
  plugins: [sql, yaml],
  test: {
    projects: [
      { extends: true, test: { name: 'unit', include: ['test/unit/**/*.test.ts'], testTimeout: 60_000, hookTimeout: 60_000 } },
      { extends: true, test: { name: 'api', include: ['test/api/**/*.test.ts'], ...serial } },
      { extends: true, test: { name: 'e2e', include: ['test/e2e/**/*.test.ts'], setupFiles: nothingLeft, ...serial } },
      { extends: true, test: { name: 'faults', include: ['test/faults/**/*.test.ts'], setupFiles: nothingLeft, ...serial } },
    ],
  },
});
