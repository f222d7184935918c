/** A container's program that counts, and the check that its log is complete. */
import { existsSync, readFileSync } from 'node:fs';

/** Some 200 lines per second; on SIGTERM the last number. Each run counts from 1. */
export const COUNTING = [
  'trap \'echo "end $n"; exit 3\' TERM; n=0',
  'while :; do n=$((n+1)); echo "line $n"; [ $((n%20)) != 0 ] || { usleep 100000 & wait $!; }; done',
].join('; ');

/**
 * What is wrong with a json-file log, rotated files included: lines that are torn, repeated or missing. A killed shim
 * loses at most the chunk that it had read and not written yet, so `gaps` gaps are allowed.
 */
export function judgeLines(path: string, gaps: number): string[] {
  const files = [path];
  for (let i = 1; existsSync(`${path}.${i}`); i++) files.unshift(`${path}.${i}`);
  const texts = files.flatMap((file) => readFileSync(file, 'utf8').split('\n').filter(Boolean));
  const wrong: string[] = [];
  let last = 0;
  let missing = 0;
  for (const text of texts) {
    const [, what, digits] = /^(line|end) (\d+)\n$/.exec(logOf(text)) ?? [];
    const number = Number(digits);
    if (what === undefined) wrong.push(`torn: ${text.slice(0, 100)}`);
    // The signal can come between the count and its line.
    else if (what === 'end') missing += number === last || number === last + 1 ? 0 : 1;
    else if (number === 1) last = 0;
    else if (number <= last) wrong.push(`line ${number} after ${last}`);
    else if (number > last + 1) missing++;
    if (what === 'line') last = number;
  }
  if (missing > gaps) wrong.push(`lines are missing in ${missing} places`);
  return wrong.slice(0, 3).map((text) => `log: ${text}`);
}

function logOf(entry: string): string {
  try {
    return (JSON.parse(entry) as { log: string }).log;
  } catch {
    return '';
  }
}
