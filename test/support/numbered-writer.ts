/**
 * A container program that writes numbered lines with their times, and the check that no line is missing, duplicated,
 * torn or late.
 */
import { readFileSync, existsSync } from 'node:fs';

/** Lines per second on each of the two streams. */
const LINES_PER_SECOND = 2000;
const BATCHES_PER_SECOND = 20;

/**
 * Shell code: writes `STREAM NUMBER UPTIME` to both streams until /stop exists, then the number of lines. The time is
 * that of /proc/uptime, the only sub-second clock that awk reads without starting a process per line.
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
  /** Descriptions of what is wrong. */
  faults: string[];
  /** Largest difference between a line's log time and the time that it contains, ms. */
  worstMs: number;
  /** Number of lines that differ by more than the limit. */
  late: number;
}

/** Checks a json-file log, rotated files included, against what the writer wrote. @param limitMs for late lines */
export function judgeLog(path: string, limitMs: number): Verdict {
  // Wall time of the boot: both clocks read at one moment. /proc/uptime has a resolution of 10 ms.
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
