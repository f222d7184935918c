/**
 * A container program that writes numbered lines, each with its own time, and the check that none is missing, doubled,
 * torn or late.
 */
import { readFileSync, existsSync } from 'node:fs';

/** Lines a second on each of both streams. */
const LINES_PER_SECOND = 2000;
const BATCHES_PER_SECOND = 20;

/**
 * Shell code: writes `stream number uptime-centiseconds` to both streams until /stop exists, then says how many.
 * The time is /proc/uptime's, the only clock of finer grain than a second that awk reads without a process per line.
 */
export const writerProgram = `exec awk 'BEGIN {
  per = ${LINES_PER_SECOND / BATCHES_PER_SECOND}; n = 0;
  while ((getline line < "/stop") < 0) {
    for (i = 0; i < per; i++) {
      getline up < "/proc/uptime"; close("/proc/uptime"); split(up, t, " "); n++;
      printf "out %d %s\\n", n, t[1]; printf "err %d %s\\n", n, t[1] > "/dev/stderr";
    }
    fflush(); fflush("/dev/stderr"); system("usleep ${1_000_000 / BATCHES_PER_SECOND}");
  }
  printf "last %d 0\\n", n; fflush();
}'`;

export interface Verdict {
  lines: number;
  /** What is wrong, in words; empty when nothing is. */
  faults: string[];
  /** Largest distance between a line's stamp and its own time, ms. */
  worstMs: number;
  /** How many lines are further off than the limit. */
  late: number;
}

/** Reads a json-file log with its rotated files and holds it against what the writer promised. */
export function judgeLog(path: string, limitMs: number): Verdict {
  // Wall time at boot, from the same clocks at one moment; /proc/uptime has 10 ms grain.
  const booted = Date.now() - Number(readFileSync('/proc/uptime', 'latin1').split(' ')[0]) * 1000;
  const next: Record<string, number> = { out: 1, err: 1 };
  const verdict: Verdict = { lines: 0, faults: [], worstMs: 0, late: 0 };
  let promised = -1;
  for (const text of logLines(path)) {
    let entry: { log: string; stream: string; time: string };
    try {
      entry = JSON.parse(text) as typeof entry;
    } catch {
      verdict.faults.push(`torn entry: ${text.slice(0, 80)}`);
      continue;
    }
    const found = /^(out|err|last) (\d+) ([\d.]+)\n$/.exec(entry.log);
    if (!found) {
      verdict.faults.push(`torn line: ${JSON.stringify(entry.log).slice(0, 80)}`);
      continue;
    }
    const [, stream = '', number, uptime] = found;
    if (stream === 'last') {
      promised = Number(number);
      continue;
    }
    verdict.lines++;
    if (Number(number) !== next[stream]) verdict.faults.push(`${stream}: ${number} after ${next[stream]! - 1}`);
    next[stream] = Number(number) + 1;
    const distance = Math.abs(Date.parse(entry.time) - (booted + Number(uptime) * 1000));
    verdict.worstMs = Math.max(verdict.worstMs, distance);
    if (distance > limitMs) verdict.late++;
  }
  if (promised < 0) verdict.faults.push('the last line is missing');
  else
    for (const stream of ['out', 'err'])
      if (next[stream] !== promised + 1) verdict.faults.push(`${stream} ends at ${next[stream]! - 1} of ${promised}`);
  verdict.faults.splice(20);
  return verdict;
}

function logLines(path: string): string[] {
  const files = [path];
  for (let i = 1; existsSync(`${path}.${i}`); i++) files.unshift(`${path}.${i}`);
  return files.flatMap((file) =>
    readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => line !== ''),
  );
}
