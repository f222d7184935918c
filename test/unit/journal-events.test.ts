import { expect, test } from 'vitest';
import { eventsOf } from '../../src/engine/events/from-journal.ts';
import type { HealthProbe, RecordBody } from '../../src/protocol/records.ts';
import { initialRunState, type RunState } from '../../src/protocol/runstate.ts';

const container = {
  id: 'c'.repeat(64),
  name: 'web',
  image: 'busybox',
  labels: { tier: 'front', image: 'a label of that name' },
};
const STARTED = 1_700_000_000_000_000_000n;
const WALL = STARTED + 12_999_999_999n;

const running: RunState = { ...initialRunState(), status: 'running', gen: 1, startedAt: String(STARTED) };
const withHealth = (status: 'starting' | 'healthy' | 'unhealthy'): RunState => ({
  ...running,
  health: { status, streak: 0, log: [] },
});
const commands: Record<string, string[]> = { e1: ['sh', '-c', 'ls -l'], e2: ['ls'] };

type Expected = [action: string, own?: Record<string, string>][];

test.each<[RecordBody, RunState, Expected]>([
  [{ type: 'adopted', shimPid: 1, bundle: 'b' }, running, []],
  [{ type: 'creating', operation: 'o' }, running, []],
  [{ type: 'created', pid: 1, startTime: '1' }, running, []],
  [{ type: 'started', pid: 1, startTime: '1', operation: 'o' }, initialRunState(), [['start']]],
  [{ type: 'failed', error: 'e', code: 127, operation: 'o' }, running, []],
  [
    { type: 'exited', code: 137, signal: 9, oomKilled: false },
    running,
    [['die', { exitCode: '137', execDuration: '12' }]],
  ],
  [
    { type: 'exited', code: 1, signal: 0, oomKilled: false },
    { ...running, startedAt: '' },
    [['die', { exitCode: '1', execDuration: '0' }]],
  ],
  [
    { type: 'exited', code: 1, signal: 0, oomKilled: false },
    { ...running, startedAt: String(WALL + 5_000_000_000n) },
    [['die', { exitCode: '1', execDuration: '0' }]],
  ],
  [
    { type: 'exited', code: 0, signal: 0, oomKilled: false },
    { ...running, restartAsked: true },
    [['die', { exitCode: '0', execDuration: '12' }], ['stop']],
  ],
  [{ type: 'restarting', count: 1, at: '1' }, running, []],
  [{ type: 'final', user: true }, running, []],
  [{ type: 'oom' }, running, [['oom']]],
  [{ type: 'paused' }, running, [['pause']]],
  [{ type: 'resumed' }, running, [['unpause']]],
  [{ type: 'killed', signal: 15 }, running, [['kill', { signal: '15' }]]],
  [{ type: 'stopped', operation: 'o' }, running, [['stop']]],
  [{ type: 'restarted', operation: 'o' }, running, [['restart']]],
  [{ type: 'stopping', operation: 'o', signal: 15, deadlineMs: 1, restart: false }, running, []],
  [{ type: 'shutdown' }, running, []],
  [{ type: 'health', status: 'starting', streak: 0 }, withHealth('healthy'), []],
  [{ type: 'health', status: 'healthy', streak: 0 }, withHealth('starting'), [['health_status: healthy']]],
  [{ type: 'health', status: 'healthy', streak: 0 }, running, [['health_status: healthy']]],
  [{ type: 'health', status: 'healthy', streak: 0 }, withHealth('healthy'), []],
  [{ type: 'health', status: 'unhealthy', streak: 3 }, withHealth('healthy'), [['health_status: unhealthy']]],
  [
    { type: 'exec-started', exec: 'e1', pid: 1, startTime: '1' },
    running,
    [['exec_start: sh -c ls -l', { execID: 'e1' }]],
  ],
  [{ type: 'exec-started', exec: 'e2', pid: 1, startTime: '1' }, running, [['exec_start: ls ', { execID: 'e2' }]]],
  [{ type: 'exec-started', exec: 'gone', pid: 1, startTime: '1' }, running, [['exec_start', { execID: 'gone' }]]],
  [{ type: 'exec-failed', exec: 'e2', error: 'x', code: 127 }, running, [['exec_start: ls ', { execID: 'e2' }]]],
  [{ type: 'exec-exited', exec: 'e1', code: 3 }, running, [['exec_die', { execID: 'e1', exitCode: '3' }]]],
  [{ type: 'attached' }, running, [['attach']]],
  [{ type: 'attached', exec: 'e1' }, running, []],
  [{ type: 'detached' }, running, [['detach']]],
  [{ type: 'detached', exec: 'e1' }, running, [['exec_detach', { execID: 'e1' }]]],
  [{ type: 'resized', height: 24, width: 80 }, running, [['resize', { height: '24', width: '80' }]]],
  [{ type: 'resized', exec: 'e1', height: 24, width: 80 }, running, []],
  [{ type: 'updated', restart: { name: 'no', maximumRetryCount: 0 } }, running, []],
])('%j', (body, before, expected) => {
  const record = { seq: 7, gen: 1, boot: 'b', wall: String(WALL), mono: '1', ...body };
  expect(eventsOf(record, container, { before, commandOf: (exec) => commands[exec], probe: undefined })).toEqual(
    expected.map(([action, own]) => ({
      type: 'container',
      action,
      actor: container.id,
      time: String(WALL),
      origin: { container: container.id, seq: 7 },
      attributes: { tier: 'front', ...own, image: 'busybox', name: 'web' },
    })),
  );
});

test('a health check emits the events of dockerd’s exec, with its own times, and exec_die only when it ended', () => {
  const record = {
    seq: 8,
    gen: 1,
    boot: 'b',
    wall: String(WALL),
    mono: '1',
    type: 'health' as const,
    status: 'unhealthy' as const,
    streak: 1,
  };
  const eventsOfProbe = (probe: Partial<HealthProbe>, before = withHealth('healthy')) =>
    eventsOf({ ...record, probe: { start: '100', end: '200', exitCode: 0, output: '', ...probe } }, container, {
      before,
      commandOf: () => undefined,
      probe: ['/bin/sh', '-c', 'true'],
    }).map(({ action, time, attributes: { execID, exitCode } }) => [action, time, execID, exitCode]);
  const [[, , id] = []] = eventsOfProbe({});
  expect(id).toMatch(/^[0-9a-f]{64}$/);
  const started = [
    ['exec_create: /bin/sh -c true', '100', id, undefined],
    ['exec_start: /bin/sh -c true', '100', id, undefined],
  ];
  const changed = ['health_status: unhealthy', String(WALL), undefined, undefined];
  expect(eventsOfProbe({ exitCode: 3 })).toEqual([...started, ['exec_die', '200', id, '3'], changed]);
  expect(eventsOfProbe({ exitCode: 3 }, withHealth('unhealthy'))).toEqual([...started, ['exec_die', '200', id, '3']]);
  expect(eventsOfProbe({ exitCode: -1, killed: 137 })).toEqual([...started, ['exec_die', '200', id, '137'], changed]);
  expect(eventsOfProbe({ exitCode: -1 })).toEqual([...started, changed]);
});
