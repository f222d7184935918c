/** docs/proof.md names tests that are there. */
import { existsSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const rows = readFileSync('docs/proof.md', 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('| ') && !/^\| (clause|---) /.test(line));
const proofs = rows.flatMap((line) => line.slice(0, -2).split(' | ').at(-1)!.split('<br>'));

function isThere(proof: string): boolean {
  const [file, ...names] = proof.split(' › ');
  if (!existsSync(file!)) return false;
  const text = readFileSync(file!, 'utf8').replaceAll("\\'", "'");
  return names.every((name) => text.includes(name));
}

test('each test that is named is there', () => {
  expect(proofs.length).toBeGreaterThan(rows.length);
  expect(proofs.filter((proof) => !isThere(proof))).toEqual([]);
});
