// Runs the static checks and the test suites, and prints totals.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const argv = process.argv.slice(2);

const STATIC_CHECKS = [
  ['types', 'tsc', ['--noEmit']],
  ['borders', 'depcruise', ['--config', '.dependency-cruiser.cjs', 'src']],
  ['lint', 'eslint', ['.']],
  ['format', 'prettier', ['--check', '--log-level', 'warn', '.']],
];

let passed = 0;
let failed = 0;
let skipped = 0;
const failures = [];

/** Runs a program of node_modules. Resolves with whether it succeeded and what it wrote, if `capture`. */
function run(program, args, { capture }) {
  return new Promise((resolve) => {
    const output = capture ? 'pipe' : 'inherit';
    const child = spawn(join(root, 'node_modules/.bin', program), args, {
      cwd: root,
      stdio: ['ignore', output, output],
    });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (text += chunk));
    child.on('error', (error) => resolve({ ok: false, text: error.message }));
    child.on('close', (status) => resolve({ ok: status === 0, text }));
  });
}

async function check(name, program, args) {
  const { ok, text } = await run(program, args, { capture: true });
  console.log(`\n== ${name}: ${ok ? 'ok' : 'failed'}\n${text.trim()}`.trimEnd());
  if (ok) {
    passed++;
  } else {
    failed++;
    failures.push(name);
  }
}

async function runSuites() {
  const directory = mkdtempSync(join(tmpdir(), 'hf-report-'));
  try {
    const path = join(directory, 'report.json');
    const args = ['run', '--reporter=default', '--reporter=json', `--outputFile.json=${path}`, ...argv];
    const { ok, text } = await run('vitest', args, { capture: false });
    if (text) console.error(text);
    count(existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : undefined, ok);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function count(report, ok) {
  const before = failed;
  for (const file of report?.testResults ?? []) {
    const name = file.name.replace(root, '');
    const broken = file.assertionResults.filter((t) => t.status === 'failed');
    failures.push(...broken.map((t) => `${name}: ${t.fullName}`));
    failed += broken.length;
    // A file that does not load, or whose hooks fail, has failed without a failed test.
    if (file.status === 'failed' && broken.length === 0) {
      failed++;
      failures.push(`${name}: ${file.message || 'did not run'}`);
    }
  }
  passed += report?.numPassedTests ?? 0;
  skipped += (report?.numPendingTests ?? 0) + (report?.numTodoTests ?? 0);
  // vitest also fails for other reasons, such as an unhandled rejection.
  if (!ok && failed === before) {
    failed++;
    failures.push(report ? 'vitest reported an error outside the tests' : 'vitest ended without a report');
  }
}

if (argv.length === 0) await Promise.all(STATIC_CHECKS.map(([name, program, args]) => check(name, program, args)));
await runSuites();

if (failures.length > 0) console.log(`\nFailed:\n${failures.map((f) => `  ${f.split('\n')[0]}`).join('\n')}`);
console.log(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
process.exitCode = failed > 0 ? 1 : 0;
