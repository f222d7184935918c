/** Decisions of the shim that need no container. */
import { describe, expect, test } from 'vitest';
import type { RecordBody, RestartPolicy } from '../../src/protocol/records.ts';
import { applyRecord, initialRunState } from '../../src/protocol/runstate.ts';
import { reduceIntents, initialIntents } from '../../src/shim/pending-intents.ts';
import { classify, startFailure } from '../../src/shim/failure.ts';
import { goDuration, judge, nextProbeIn } from '../../src/shim/health.ts';
import { isPassing, next, type Phase } from '../../src/shim/phase.ts';
import { decide, nextBackoff, type Circumstances } from '../../src/shim/restart-policy.ts';
import { lastErrorIn } from '../../src/protocol/runtime-log.ts';
import { RuntimeFailure } from '../../src/shim/runtime.ts';
import { plan, type Living } from '../../src/shim/takeover.ts';

describe('the restart policy', () => {
  const death = (more: Partial<Circumstances> = {}): Circumstances => ({
    code: 1,
    ranMs: 50,
    stoppedByUser: false,
    shutdown: false,
    restartCount: 0,
    backoffMs: 0,
    ...more,
  });
  const policy = (name: RestartPolicy['name'], maximumRetryCount = 0): RestartPolicy => ({ name, maximumRetryCount });

  test.each([
    ['no: stays down after a failure', policy('no'), death(), false],
    ['always: restarts after a failure', policy('always'), death(), true],
    ['always: restarts after success', policy('always'), death({ code: 0 }), true],
    ['always: stays down when stopped by a user', policy('always'), death({ stoppedByUser: true }), false],
    ['always: stays down when the host shuts down', policy('always'), death({ shutdown: true }), false],
    ['unless-stopped: restarts after success', policy('unless-stopped'), death({ code: 0 }), true],
    [
      'unless-stopped: stays down when stopped by a user',
      policy('unless-stopped'),
      death({ stoppedByUser: true }),
      false,
    ],
    ['on-failure: stays down after success', policy('on-failure'), death({ code: 0 }), false],
    ['on-failure: restarts after the hundredth failure', policy('on-failure'), death({ restartCount: 100 }), true],
    ['on-failure:2 restarts after one failure', policy('on-failure', 2), death({ restartCount: 1 }), true],
    ['on-failure:2 stays down after two', policy('on-failure', 2), death({ restartCount: 2 }), false],
  ])('%s', (_, p, d, restart) => expect(decide(p, d).restart).toBe(restart));

  test('the back-off doubles up to a minute and is reset after ten seconds of running', () => {
    const delays: number[] = [];
    for (let ms = 0, n = 0; n < 12; n++) delays.push((ms = nextBackoff(ms, 0)));
    expect(delays).toEqual([100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
    expect(nextBackoff(60_000, 10_000)).toBe(100);
    expect(nextBackoff(800, 9_999)).toBe(1600);
  });
});

describe('health status', () => {
  const timing = { sinceStartMs: 60_000, startPeriodMs: 0, retries: 3 };
  test.each([
    [{ status: 'starting', streak: 0 }, 0, timing, { status: 'healthy', streak: 0 }],
    [{ status: 'starting', streak: 0 }, 1, timing, { status: 'starting', streak: 1 }],
    [{ status: 'starting', streak: 2 }, 1, timing, { status: 'unhealthy', streak: 3 }],
    [{ status: 'healthy', streak: 0 }, -1, timing, { status: 'healthy', streak: 1 }],
    [{ status: 'unhealthy', streak: 9 }, 2, timing, { status: 'unhealthy', streak: 10 }],
    [{ status: 'unhealthy', streak: 9 }, 0, timing, { status: 'healthy', streak: 0 }],
    [
      { status: 'starting', streak: 0 },
      1,
      { ...timing, sinceStartMs: 5, startPeriodMs: 10 },
      { status: 'starting', streak: 0 },
    ],
    [
      { status: 'healthy', streak: 0 },
      1,
      { ...timing, sinceStartMs: 5, startPeriodMs: 10 },
      { status: 'healthy', streak: 1 },
    ],
  ] as const)('%o with exit code %i changes as in Docker', (before, code, t, after) =>
    expect(judge(before, code, t)).toEqual(after),
  );

  test('the start interval applies during the start period until the container is healthy', () => {
    const spec = { argv: [], interval: 30_000, timeout: 0, startPeriod: 10_000, startInterval: 1_000, retries: 0 };
    expect([
      nextProbeIn('starting', 5_000, spec),
      nextProbeIn('healthy', 5_000, spec),
      nextProbeIn('starting', 10_000, spec),
    ]).toEqual([1_000, 30_000, 30_000]);
  });

  test.each([
    [0, '0s'],
    [300, '300ms'],
    [1500, '1.5s'],
    [30_000, '30s'],
    [90_000, '1m30s'],
    [3_600_000, '1h0m0s'],
  ])('%i ms prints as %s', (ms, text) => expect(goDuration(ms)).toBe(text));
});

describe('start failures', () => {
  test.each([
    ['exec: "nope": executable file not found in $PATH', 127],
    ['exec: "/x": stat /x: no such file or directory', 127],
    ['mounting "/a" to rootfs: not a directory', 127],
    ['exec: "/etc": permission denied', 126],
    ['exec: "/etc": is a directory', 126],
    ['something else', 128],
  ])('%s gives exit code %i', (text, code) => expect(classify(text).code).toBe(code));

  test('get the phrases from which clients derive the code', () => {
    expect(classify('exec: "/etc": is a directory').message).toMatch(/is a directory: permission denied$/);
    expect(classify('x: not a directory').message).toContain('Are you trying to mount a directory onto a file');
  });

  test('an exec that fails for another reason gives 126', () =>
    expect(startFailure('exec', new RuntimeFailure('whatever'))).toEqual({
      message: 'OCI runtime exec failed: whatever: unknown',
      code: 126,
    }));

  test('the runtime’s last logged error is found', () => {
    expect(lastErrorIn('{"level":"warning","msg":"w"}\n{"level":"error","msg":"e"}\nnot json\n')).toBe('e');
    expect(lastErrorIn('')).toBeUndefined();
  });
});

describe('lifecycle phases', () => {
  test('allow only the operations that make sense', () => {
    expect(next('idle', 'create', 'c')).toBe('creating');
    expect(() => next('running', 'create', 'c')).toThrow('container c is running');
    expect(() => next('paused', 'pause', 'c')).toThrow('container c is already paused');
    expect(() => next('running', 'resume', 'c')).toThrow('Container c is not paused');
    expect(() => next('idle', 'pause', 'c')).toThrow('container c is not running');
  });
  test('passing phases are waited for', () => {
    const phases: Phase[] = [
      'idle',
      'creating',
      'created',
      'starting',
      'running',
      'paused',
      'ending',
      'backoff',
      'between',
    ];
    expect(phases.filter(isPassing)).toEqual(['creating', 'created', 'starting', 'ending', 'between']);
  });
});

describe('what a shim does after its predecessor died', () => {
  const stopping: RecordBody = { type: 'stopping', operation: 's', signal: 15, deadlineMs: 10_000, restart: false };
  const run: RecordBody[] = [
    { type: 'creating', operation: 'a' },
    { type: 'created', pid: 9, startTime: '1' },
    { type: 'started', pid: 9, startTime: '1', operation: 'a' },
  ];
  const exited: RecordBody = { type: 'exited', code: 1, signal: 0, oomKilled: false };
  const restarting: RecordBody = { type: 'restarting', count: 1, at: '5000000' };

  const found = (bodies: RecordBody[], boot: string, living: Living | null = null) => {
    let [state, pending] = [initialRunState(), initialIntents()];
    bodies.forEach((b, i) => {
      const record = { seq: i + 1, gen: 1, boot: 'this', wall: '1', mono: '1', ...b };
      state = applyRecord(state, record);
      pending = reduceIntents(pending, record);
    });
    return { state, pending, boot, living };
  };

  test.each([
    ['no record at all', [], 'rest', 'rest'],
    ['creating', run.slice(0, 1), 'clear fail', 'fail'],
    ['created', run.slice(0, 2), 'clear fail', 'fail'],
    ['running', run, 'adopt', 'lost'],
    ['paused', [...run, { type: 'paused' }], 'adopt', 'lost'],
    ['being stopped', [...run, stopping], 'adopt', 'lost'],
    ['exited', [...run, exited], 'decide', 'finish'],
    ["dead in a client's restart", [...run, { ...stopping, restart: true }, exited], 'await-restart client', 'finish'],
    ['in the back-off', [...run, exited, restarting], 'await-restart policy', 'finish'],
    [
      'being restarted by policy',
      [...run, exited, restarting, { type: 'creating', operation: '' }],
      'clear retry',
      'finish',
    ],
    [
      'being restarted by a client',
      [...run, { ...stopping, restart: true }, exited, { type: 'creating', operation: 's' }],
      'clear retry',
      'fail',
    ],
    ['failed', [...run.slice(0, 1), { type: 'failed', error: 'x', code: 127, operation: 'a' }], 'finish', 'finish'],
    ['final', [...run, exited, { type: 'final', user: false }], 'rest', 'rest'],
  ] as [string, RecordBody[], string, string][])('%s', (_, records, sameBoot, laterBoot) => {
    const planned = (boot: string): string => Object.values(plan(found(records, boot))).join(' ');
    expect([planned('this'), planned('later')]).toEqual([sameBoot, laterBoot]);
  });

  const final: RecordBody = { type: 'final', user: false };
  test.each([
    ['nothing', [], 'running', 9, 'adopt-found running'],
    ['nothing', [], 'paused', 9, 'adopt-found paused'],
    ['nothing', [], 'created', 9, 'clear-found'],
    ['creating', run.slice(0, 1), 'running', 9, 'adopt-found running'],
    ['created', run.slice(0, 2), 'created', 9, 'clear fail'],
    ['created', run.slice(0, 2), 'running', 9, 'clear fail'],
    ['running', run, 'running', 9, 'adopt'],
    ['running, as another process', run, 'running', 10, 'adopt-found running'],
    ['paused', [...run, { type: 'paused' }], 'paused', 9, 'adopt'],
    ['dead', [...run, exited], 'running', 10, 'adopt-found running'],
    ['in the back-off', [...run, exited, restarting], 'running', 10, 'adopt-found running'],
    ['final', [...run, exited, final], 'running', 10, 'adopt-found running'],
    ['final', [...run, exited, final], 'created', 10, 'clear-found'],
    ['final, with that pid', [...run, exited, final], 'running', 9, 'adopt-found running'],
  ] as [string, RecordBody[], Living['status'], number, string][])(
    'an incomplete journal says %s, %#: the runtime is believed',
    (_, records, status, pid, expected) => {
      const living = { status, pid, startTime: '1', gen: 2 };
      const { living: same, ...step } = { living: undefined, ...plan(found(records, 'this', living)) };
      expect(Object.values(step).join(' ')).toBe(expected);
      if (same) expect(same).toBe(living);
    },
  );

  test('a stop keeps its deadline; it ends with its own record, a kill with the container', () => {
    const kill: RecordBody = {
      type: 'stopping',
      operation: 'k',
      signal: 9,
      deadlineMs: -1,
      restart: false,
      kill: true,
    };
    expect(found([...run, stopping], 'this').pending.intents).toMatchObject([
      { operation: 's', deadlineMs: 10_000, sent: false },
    ]);
    expect(found([...run, stopping, { type: 'killed', signal: 15 }], 'this').pending.intents).toMatchObject([
      { sent: true },
    ]);
    expect(
      found([...run, stopping, kill, exited, { type: 'final', user: true }], 'this').pending.intents,
    ).toMatchObject([{ operation: 's' }]);
    expect(
      found([...run, stopping, exited, { type: 'final', user: true }, { type: 'stopped', operation: 's' }], 'this')
        .pending.intents,
    ).toEqual([]);
  });
});
