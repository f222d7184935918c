/** bench/run: takes each measurement on the engines in turn, so that noise affects all of them alike. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Engine, IMAGE } from './engine.ts';
import { LINES_BYTES, LINES_PATH, measures, type Measure } from './measures.ts';
import { aligned, markdown, table, type Row } from './table.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: 'string' }, only: { type: 'string' }, markdown: { type: 'boolean' } },
});
const engines = positionals.map((argument) => {
  const [, name, socket] = /^([\w.-]+)=(?:unix:\/\/)?(.+)$/.exec(argument) ?? [];
  if (!name || !socket) throw new Error(`${argument}: expected NAME=SOCKET`);
  return new Engine(name, socket);
});
const only = values.only?.split(',');
const chosen = measures.filter(({ name }) => !only || only.includes(name));
if (chosen.length === 0) throw new Error(`--only takes names of ${measures.map(({ name }) => name).join(', ')}`);

/** A tar archive of busybox and a file with lines of 100 bytes. */
function buildImage(): Buffer {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-bench-'));
  try {
    const path = join(directory, 'image.tar');
    writeFileSync(path, execFileSync(process.env.BENCH_IMAGE!, { maxBuffer: 64 * 1024 * 1024 }));
    writeFileSync(join(directory, LINES_PATH), `${'0123456789'.repeat(10).slice(1)}\n`.repeat(LINES_BYTES / 100 + 1));
    execFileSync('tar', ['-C', directory, '--owner=0', '--group=0', '-rf', path, `.${LINES_PATH}`]);
    return readFileSync(path);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function takeSamples(measure: Measure): Promise<Row> {
  const samples: number[][] = engines.map(() => []);
  const rounds = Number(values.rounds ?? measure.rounds);
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < engines.length; turn++) {
      const which = (round + turn) % engines.length;
      samples[which]!.push(await measure.sample(engines[which]!));
    }
  }
  return { measure, samples };
}

const archive = buildImage();
for (const engine of engines) {
  await engine.clear();
  await engine.call('POST', `/images/create?fromSrc=-&repo=${IMAGE.split(':')[0]}&tag=latest`, archive);
}
try {
  const rows: Row[] = [];
  for (const measure of chosen) {
    process.stderr.write(`${measure.title}…\n`);
    rows.push(await takeSamples(measure));
  }
  const lines = table(
    engines.map(({ name }) => name),
    rows,
  );
  console.log(values.markdown ? markdown(lines) : aligned(lines));
} finally {
  for (const engine of engines) {
    await engine.clear();
    await engine.call('DELETE', `/images/${IMAGE}?force=1`);
    engine.close();
  }
}
