// Runs the checks and the test suites one after another, counts, and says so in a closing line.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const argv = process.argv.slice(2);

let passed = 0;
let failed = 0;
let skipped = 0;
const failures = [];

function run(program, args) {
  const { status, error } = spawnSync(join(root, 'node_modules/.bin', program), args, {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (error) console.error(error.message);
  return status === 0;
}

function check(name, program, args) {
  console.log(`\n== ${name}`);
  if (run(program, args)) return passed++;
  failed++;
  return failures.push(name);
}

function suites() {
  const directory = mkdtempSync(join(tmpdir(), 'hf-report-'));
  try {
    const path = join(directory, 'report.json');
    const ok = run('vitest', ['run', '--reporter=default', '--reporter=json', `--outputFile.json=${path}`, ...argv]);
    count(existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : undefined, ok);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function count(report, ok) {
  const before = failed;
  for (const file of report?.testResults ?? []) {
    const broken = file.assertionResults.filter((t) => t.status === 'failed');
    failures.push(...broken.map((t) => `${file.name.replace(root, '')}: ${t.fullName}`));
    failed += broken.length;
    // A file that cannot be loaded, or whose hooks fail, has failed though none of its tests did.
    if (file.status === 'failed' && broken.length === 0) {
      failed++;
      failures.push(`${file.name.replace(root, '')}: ${file.message || 'it did not run'}`);
    }
  }
  passed += report?.numPassedTests ?? 0;
  skipped += (report?.numPendingTests ?? 0) + (report?.numTodoTests ?? 0);
  // Whatever else vitest counts as failure, an unhandled rejection say, is one too.
  if (!ok && failed === before) {
    failed++;
    failures.push(report ? 'vitest reported an error outside the tests' : 'vitest ended without a report');
  }
}

if (argv.length === 0) {
  check('types', 'tsc', ['--noEmit']);
  check('borders', 'depcruise', ['--config', '.dependency-cruiser.cjs', 'src']);
}
suites();

if (failures.length > 0) console.log(`\nFailed:\n${failures.map((f) => `  ${f.split('\n')[0]}`).join('\n')}`);
console.log(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
process.exitCode = failed > 0 ? 1 : 0;
