/** The chaos program's pure parts: its script, its judgement of logs and events, its shrinking. */
import { describe, expect, test } from 'vitest';
import { judgeEvents, judgeLog, type Allowance, type LifeEvent } from '../chaos/judge.ts';
import { afterUnknown, follow } from '../chaos/model.ts';
import { ROLES } from '../chaos/roles.ts';
import { format, generate, parse } from '../chaos/script.ts';
import { shrink } from '../chaos/shrink.ts';
import type { WitnessRun } from '../chaos/witness.ts';

test('a script depends on its seed alone, and is read back as it was written [chaos-script]', () => {
  const script = generate(7, 300);
  expect(generate(7, 300)).toEqual(script);
  expect(generate(8, 300)).not.toEqual(script);
  expect(parse(format(script))).toEqual(script);
});

const run = (number: number, last: number, exit?: number): WitnessRun => ({
  number,
  uptime: number * 10,
  hostname: '',
  last,
  exit,
});
const none: Allowance = { shimKills: 0, diskFull: false, rotated: false, unfinished: false };
const notice = (lines: number): string =>
  `[holdfast] ${lines} lines (9 bytes) of output were dropped: the log could not be written (ENOSPC)`;

describe('the judgement of a log [chaos-log]', () => {
  const judge = (lines: string[], runs: WitnessRun[], allowance: Partial<Allowance> = {}): string[] =>
    judgeLog(`${lines.join('\n')}\n`, runs, { ...none, ...allowance });
  const ended = [run(1, 3, 7)];

  test.each<[string, string[], WitnessRun[], Partial<Allowance>]>([
    ['a whole run', ['1 1', '1 2', '1 3', '1 end 3'], ended, {}],
    ['a killed run, one line ahead of its note', ['1 1', '1 2', '1 3', '1 4'], [run(1, 3)], {}],
    ['two runs', ['1 1', '1 end 1', '2 1', '2 end 1'], [run(1, 1, 0), run(2, 1, 0)], {}],
    ['a gap of a killed shim', ['1 1', '1 3', '1 end 3'], ended, { shimKills: 1 }],
    ['a gap that a full disk reported', ['1 1', notice(1), '1 3', '1 end 3'], ended, { diskFull: true }],
    ['a rotated log', ['1 3', '1 end 3'], ended, { rotated: true }],
    ['a log read while the container ran', ['1 1'], [run(1, 9)], { unfinished: true }],
    ['carriage returns of a terminal', ['1 1\r', '1 end 1\r'], [run(1, 1, 0)], {}],
  ])('%s is right', (_, lines, runs, allowance) => {
    expect(judge(lines, runs, allowance)).toEqual([]);
  });

  test.each<[string, string[], WitnessRun[], Partial<Allowance>]>([
    ['a missing line', ['1 1', '1 3', '1 end 3'], ended, {}],
    ['two gaps of one killed shim', ['1 1', '1 3', '1 5', '1 end 5'], [run(1, 5, 0)], { shimKills: 1 }],
    ['a notice of another number', ['1 1', notice(2), '1 3', '1 end 3'], ended, { diskFull: true }],
    ['a doubled line', ['1 1', '1 2', '1 2', '1 3', '1 end 3'], ended, {}],
    ['lines out of order', ['1 2', '1 1', '1 3', '1 end 3'], ended, {}],
    ['a torn line', ['1 1', '1 21', '1 ', '1 end 3'], ended, {}],
    ['a missing end', ['1 1', '1 2', '1 3'], ended, {}],
    ['a missing run', ['2 1', '2 end 1'], [run(1, 1, 0), run(2, 1, 0)], {}],
    ['an earlier run again', ['1 1', '1 end 1', '2 1', '1 1'], [run(1, 1, 0), run(2, 1)], {}],
  ])('%s is wrong', (_, lines, runs, allowance) => {
    expect(judge(lines, runs, allowance)).not.toEqual([]);
  });
});

describe('the judgement of events [chaos-events]', () => {
  const event = (action: string, uptime: number, attributes: Record<string, string> = {}): LifeEvent => ({
    action,
    uptime,
    attributes,
  });
  const whole = [
    event('create', 1),
    event('start', 9),
    event('die', 15, { exitCode: '7' }),
    event('start', 19),
    event('die', 25, { exitCode: '137' }),
    event('destroy', 26),
  ];
  const runs = [run(1, 3, 7), run(2, 5)];
  const judge = (events: LifeEvent[], counts: [string, [number, number]][] = []): string[] =>
    judgeEvents(events, runs, { removed: true, killedCodes: [137], counts: new Map(counts), anyCode: false });

  test('one start and one die with the right code per run are right', () => {
    expect(judge(whole)).toEqual([]);
  });

  test.each<[string, LifeEvent[]]>([
    ['a missing die', whole.filter((_, at) => at !== 2)],
    ['a doubled start', [...whole.slice(0, 2), whole[1]!, ...whole.slice(2)]],
    ['another exit code', whole.map((e) => (e.uptime === 15 ? event('die', 15, { exitCode: '0' }) : e))],
    ['no destroy', whole.slice(0, -1)],
    ['an event after destroy', [...whole, event('rename', 30)]],
    ['disorder', [whole[0]!, event('rename', 27), ...whole.slice(1)]],
  ])('%s is wrong', (_, events) => {
    expect(judge(events)).not.toEqual([]);
  });

  test('an operation that was answered has one event, one that was not has one at most', () => {
    const renamed = [whole[0]!, event('rename', 2), ...whole.slice(1)];
    expect(judge(renamed, [['rename', [1, 2]]])).toEqual([]);
    expect(judge(whole, [['rename', [1, 2]]])).not.toEqual([]);
    expect(judge(renamed, [['rename', [0, 0]]])).not.toEqual([]);
  });
});

test('the model follows an answer to the states that explain it [chaos-model]', () => {
  const [plain] = ROLES;
  expect([...follow('stop', plain!, new Set(['running', 'exited']), 204)]).toEqual(['exited']);
  expect([...follow('rm', plain!, new Set(['running', 'exited']), 409)]).toEqual(['running']);
  expect([...follow('pause', plain!, new Set(['exited']), 204)]).toEqual([]);
  expect([...afterUnknown('kill', plain!, new Set(['running']))].sort()).toEqual(['exited', 'running']);
});

describe('shrinking [chaos-shrink]', () => {
  const all = Array.from({ length: 100 }, (_, n) => n);

  test('finds the few actions that fail together, in their order', async () => {
    const fails = async (subset: readonly number[]): Promise<boolean> => [17, 18, 71].every((n) => subset.includes(n));
    expect(await shrink(all, fails)).toEqual([17, 18, 71]);
  });

  test('ends when its time is up, with a list that fails', async () => {
    let tries = 0;
    const fails = async (subset: readonly number[]): Promise<boolean> => subset.includes(42);
    const rest = await shrink(all, fails, () => tries++ > 6);
    expect(rest).toContain(42);
    expect(rest.length).toBeLessThan(100);
  });
});
