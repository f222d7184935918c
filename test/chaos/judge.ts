/** Whether a container's log and events are those of its witness: nothing missing, doubled, or out of order. Pure. */
import { BURST_LINES, type WitnessRun } from './witness.ts';

export interface LifeEvent {
  action: string;
  /** Seconds since the boot. */
  uptime: number;
  attributes: Record<string, string>;
}

/** What may have been lost, as the faults of the run allow. */
export interface Allowance {
  /** How often the container's shim was killed: at most a chunk of output is lost each time. */
  shimKills: number;
  /** The disk was full for a while: lines are missing where a notice says so. */
  diskFull: boolean;
  /** The oldest log files are gone. */
  rotated: boolean;
  /** The log was read while the container ran: its end is not there yet. */
  unfinished: boolean;
}

const NOTICE = /^\[holdfast\] (\d+) lines \(\d+ bytes\) of output were dropped/;
/** More lines than a chunk of the shim's reads holds: a pipe is 64 KiB. */
const CHUNK_LINES = 10_000;

interface Line {
  run: number;
  number: number;
  /** The last line of a witness that ended by itself. */
  isEnd: boolean;
  /** Lines that a notice before it says were dropped. */
  dropped: number;
}

/** @returns what is wrong */
export function judgeLog(text: string, runs: readonly WitnessRun[], allowance: Allowance): string[] {
  const wrong: string[] = [];
  let kills = allowance.shimKills;
  const isExcused = (missing: number, dropped: number): boolean => {
    if (allowance.diskFull && (missing === dropped || (dropped > 0 && kills > 0))) return true;
    if (kills === 0 || missing > CHUNK_LINES) return false;
    kills--;
    return true;
  };
  const lines = parseLines(text, wrong);
  const seen = new Map<number, number>();
  let run = 0;
  let expected = 0;
  for (const [at, line] of lines.entries()) {
    if (line.run < run) wrong.push(`run ${line.run} after run ${run}`);
    if (line.run > run) {
      run = line.run;
      expected = allowance.rotated && at === 0 ? line.number : 1;
    }
    if (line.isEnd) expected--;
    if (line.number < expected) wrong.push(`run ${run}: line ${line.number} again`);
    const missing = line.number - expected;
    if (missing > 0 && !isExcused(missing, line.dropped))
      wrong.push(
        `run ${run}: ${missing} lines before ${line.number} are missing (${line.dropped} reported as dropped)`,
      );
    expected = line.number + 1;
    seen.set(run, line.number);
    if (line.isEnd && runs[run - 1]?.exit === undefined) wrong.push(`run ${run}: an end that the witness did not note`);
  }
  const ends = new Set(lines.filter(({ isEnd }) => isEnd).map((line) => line.run));
  const first = allowance.rotated ? (lines[0]?.run ?? Infinity) : 1;
  for (const { number, last, exit } of runs) {
    if (number < first || (allowance.unfinished && number === runs.length)) continue;
    const got = seen.get(number) ?? 0;
    if (got > last + BURST_LINES + 1) wrong.push(`run ${number}: line ${got}, but it wrote ${last}`);
    const isWhole = got >= last && (exit === undefined || ends.has(number));
    if (!isWhole && !allowance.diskFull && !isExcused(last - got + 1, 0))
      wrong.push(`run ${number}: the log ends at ${got} of ${last}${exit === undefined ? '' : ' and its end'}`);
  }
  return wrong;
}

function parseLines(text: string, wrong: string[]): Line[] {
  const lines: Line[] = [];
  let dropped = 0;
  for (const part of text.split('\n')) {
    const line = part.replace(/\r$/, '');
    if (line === '') continue;
    const notice = NOTICE.exec(line);
    if (notice) {
      dropped += Number(notice[1]);
      continue;
    }
    const found = /^(\d+) (end )?(\d+)$/.exec(line);
    if (!found) {
      wrong.push(`torn line ${JSON.stringify(line.slice(0, 80))}`);
      continue;
    }
    lines.push({ run: Number(found[1]), number: Number(found[3]), isEnd: found[2] !== undefined, dropped });
    dropped = 0;
  }
  return lines;
}

export interface EventFacts {
  /** Whether the container is gone: `destroy` is the last event then. */
  removed: boolean;
  /** Codes with which a run may end although its witness noted no end of its own. */
  killedCodes: readonly number[];
  /** How often an action must have happened, at least and at most. */
  counts: ReadonlyMap<string, readonly [least: number, most: number]>;
  /** Runs whose end no process saw: exit code 255 or 128+n is as good. */
  anyCode: boolean;
}

/** Two clocks are read at different moments, and /proc/uptime has a resolution of 10 ms. */
const CLOCK_SLACK_S = 0.05;

/** @param events of one container, as the API gives them. @returns what is wrong */
export function judgeEvents(events: readonly LifeEvent[], runs: readonly WitnessRun[], facts: EventFacts): string[] {
  const wrong: string[] = [];
  const actions = events.map(({ action }) => action);
  if (actions[0] !== 'create') wrong.push(`the first event is ${actions[0] ?? 'missing'}`);
  const count = (action: string): number => actions.filter((name) => name === action).length;
  if (count('create') !== 1) wrong.push(`${count('create')} create events`);
  if (count('destroy') !== (facts.removed ? 1 : 0)) wrong.push(`${count('destroy')} destroy events`);
  if (facts.removed && actions.at(-1) !== 'destroy') wrong.push(`${actions.at(-1) ?? 'nothing'} after destroy`);
  for (const [at, event] of events.entries())
    if (at > 0 && event.uptime < events[at - 1]!.uptime) wrong.push(`${event.action} is out of order`);
  for (const [action, [least, most]] of facts.counts)
    if (count(action) < least || count(action) > most)
      wrong.push(`${count(action)} ${action} events where ${least} to ${most} are right`);
  judgeRuns(events, runs, facts, wrong);
  return wrong;
}

function judgeRuns(
  events: readonly LifeEvent[],
  runs: readonly WitnessRun[],
  { killedCodes, anyCode }: EventFacts,
  wrong: string[],
): void {
  const rest = [...runs];
  let started = false;
  let dies = 0;
  for (const { action, attributes, uptime } of events) {
    if (action === 'start') {
      if (started) wrong.push(`start ${dies + 1} before the die of the run before`);
      started = true;
    }
    if (action !== 'die') continue;
    dies++;
    if (!started) wrong.push(`die ${dies} without a start`);
    started = false;
    const ofThis = rest.filter((run) => run.uptime <= uptime + CLOCK_SLACK_S);
    rest.splice(0, ofThis.length);
    const code = Number(attributes.exitCode);
    if (ofThis.length > 1) wrong.push(`${ofThis.length} runs of the witness before die ${dies}`);
    const expected =
      ofThis[0]?.exit === undefined ? killedCodes : [ofThis[0].exit, ...killedCodes.filter((c) => c === 137)];
    if (!anyCode && !expected.includes(code))
      wrong.push(`die ${dies} has code ${code} where ${expected.join(' or ')} is right`);
  }
  if (rest.length > (started ? 1 : 0)) wrong.push(`${rest.length} runs of the witness without a die event`);
}
