/**
 * docs/proof.md and docs/faults.md name tests by the id at the end of their title, `[like-this]`. Every id must exist
 * exactly once, in the file that the document gives, and every id in a title must be used by a document.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const ID = String.raw`\[([a-z][a-z0-9]*(?:-[a-z0-9]+)+)\]`;
/** A title is a string that ends in a space and an id, and is an argument or a property: a comma follows. */
const TITLE_END = new RegExp(` ${ID}['"\`],`, 'g');

const idsIn = (text: string, pattern: RegExp): string[] => [...text.matchAll(pattern)].map(([, id]) => id!);
const filesBelow = (directory: string, ending: string): string[] =>
  readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(ending))
    .map((name) => join(directory, name));

const titleIds = filesBelow('test', '.ts').flatMap((file) =>
  idsIn(readFileSync(file, 'utf8'), TITLE_END).map((id) => ({ id, file })),
);

interface Proof {
  file: string;
  ids: string[];
}
/** The cells of the column `tests`, of every table in a document. */
function testCells(document: string): string[] {
  let column = -1;
  return readFileSync(document, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('| ') && !line.startsWith('| --- '))
    .flatMap((line) => {
      const cells = line.slice(2, -2).split(' | ');
      const isHeader = cells.includes('tests');
      if (isHeader) column = cells.indexOf('tests');
      return isHeader ? [] : [cells[column]!];
    });
}

const DOCUMENTS = ['docs/proof.md', 'docs/faults.md'];
const FAULTS = 44;
const cells = DOCUMENTS.flatMap(testCells);
const proofs = cells
  .filter((cell) => cell !== '')
  .flatMap((cell) => cell.split('<br>'))
  .map((entry): Proof => ({ file: entry.split(' ')[0]!, ids: idsIn(entry, new RegExp(ID, 'g')) }));

test('no two tests share an id', () => {
  const ids = titleIds.map(({ id }) => id);
  expect(ids.filter((id, i) => ids.indexOf(id) !== i)).toEqual([]);
});

test('every clause and every fault names existing tests', () => {
  expect(testCells('docs/proof.md')).not.toContain('');
  expect(proofs.filter(({ file }) => !existsSync(file))).toEqual([]);
  const missing = proofs.flatMap(({ file, ids }) =>
    ids
      .filter((id) => !titleIds.some((title) => title.id === id && title.file === file))
      .map((id) => `${file} [${id}]`),
  );
  expect(missing).toEqual([]);
});

test('docs/faults.md has a row for each fault, with a test unless it needs a boot', () => {
  const rows = readFileSync('docs/faults.md', 'utf8').matchAll(/^\| (\d+) \| .* \| (.*) \| (.*) \|$/gm);
  const found = [...rows].map(([, number, tests = '', verdict = '']) => ({ number: Number(number), tests, verdict }));
  expect(found.map(({ number }) => number)).toEqual(Array.from({ length: FAULTS }, (_, i) => i + 1));
  expect(found.filter(({ tests, verdict }) => tests === '' && !verdict.startsWith('needs a real boot'))).toEqual([]);
});

test('every id in a title is used by a document', () => {
  const documents = filesBelow('docs', '.md').map((file) => readFileSync(file, 'utf8'));
  const used = new Set(documents.flatMap((text) => idsIn(text, new RegExp(ID, 'g'))));
  expect(titleIds.filter(({ id }) => !used.has(id))).toEqual([]);
});
