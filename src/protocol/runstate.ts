/** A container's run state: a fold over its journal, used by shim and daemon. */
import type { HealthProbe, HealthStatus, JournalRecord, RestartPolicy } from './records.ts';

/** Docker keeps the last five probes (moby daemon/health.go, maxLogEntries). */
const HEALTH_LOG_ENTRIES = 5;
/** Docker's exit code for an unknown exit. */
const UNKNOWN_CODE = 255;

export type RunStatus = 'created' | 'starting' | 'running' | 'paused' | 'restarting' | 'exited';

export interface RunExec {
  pid: number;
  startTime: string;
  running: boolean;
  exitCode: number | null;
}

export interface RunState {
  status: RunStatus;
  gen: number;
  /** 0 unless an init is alive. */
  pid: number;
  /** Field 22 of the init's /proc/PID/stat: identifies the process together with its pid and the boot id. */
  pidStartTime: string;
  boot: string;
  /** Wall clock, ns since the epoch, decimal; '' = never. */
  startedAt: string;
  finishedAt: string;
  exitCode: number;
  oomKilled: boolean;
  error: string;
  restartCount: number;
  /** A client stopped it: the restart policy is disabled until the next start. */
  stoppedByUser: boolean;
  /** A client's restart has not reached its start yet. */
  restartAsked?: boolean;
  /** Dead and no restart pending; true for a container that never ran. */
  final: boolean;
  health: { status: HealthStatus; streak: number; log: HealthProbe[] } | null;
  /** Set by `update`; null = as in spec.json. */
  restart: RestartPolicy | null;
  /** Execs of the running generation that run or failed to start. */
  execs: Record<string, RunExec>;
}

export function initialRunState(): RunState {
  return {
    status: 'created',
    gen: 0,
    pid: 0,
    pidStartTime: '',
    boot: '',
    startedAt: '',
    finishedAt: '',
    exitCode: 0,
    oomKilled: false,
    error: '',
    restartCount: 0,
    stoppedByUser: false,
    final: true,
    health: null,
    restart: null,
    execs: {},
  };
}

/**
 * Applies one record. Pure: does not change `s`. Any record may be missing from a damaged journal: the records after
 * the gap still lead to a correct state.
 */
export function applyRecord(s: RunState, r: JournalRecord): RunState {
  const lacksCreating = r.gen > s.gen && r.type !== 'creating';
  if (!lacksCreating) return apply(s, r);
  return apply({ ...s, status: 'starting', gen: r.gen, boot: r.boot, final: false, execs: {} }, r);
}

function apply(s: RunState, r: JournalRecord): RunState {
  switch (r.type) {
    case 'creating':
      return {
        ...s,
        status: s.status === 'restarting' ? 'restarting' : 'starting',
        gen: r.gen,
        boot: r.boot,
        error: '',
        final: false,
        pid: 0,
        pidStartTime: '',
        execs: {},
        // As in moby, a start by a client resets the restart count; one by policy keeps it.
        ...(s.status === 'restarting' ? {} : { restartCount: 0, stoppedByUser: false }),
      };
    case 'created':
      return { ...s, pid: r.pid, pidStartTime: r.startTime };
    case 'started':
      return {
        ...s,
        status: 'running',
        pid: r.pid,
        pidStartTime: r.startTime,
        startedAt: r.wall,
        exitCode: 0,
        oomKilled: false,
        stoppedByUser: false,
        restartAsked: false,
        error: '',
        final: false,
      };
    case 'failed':
      return {
        ...s,
        status: s.startedAt ? 'exited' : 'created',
        pid: 0,
        pidStartTime: '',
        exitCode: r.code,
        error: r.error,
        health: null,
        ...(s.startedAt ? { finishedAt: r.wall } : {}),
      };
    case 'exited':
      return {
        ...s,
        status: 'exited',
        pid: 0,
        pidStartTime: '',
        finishedAt: r.wall,
        exitCode: r.code,
        oomKilled: r.oomKilled,
        error: r.error ?? '',
        execs: {},
      };
    case 'restarting':
      return { ...s, status: 'restarting', restartCount: r.count, pid: 0, pidStartTime: '' };
    case 'final': {
      const ended = { final: true, stoppedByUser: r.user || s.stoppedByUser };
      if (s.status === 'created' || s.status === 'exited') return { ...s, ...ended };
      if (s.status === 'restarting') return { ...s, ...ended, status: 'exited' };
      // The record `exited` or `failed` is missing.
      return {
        ...s,
        ...ended,
        status: 'exited',
        pid: 0,
        pidStartTime: '',
        finishedAt: r.wall,
        exitCode: UNKNOWN_CODE,
        error: 'the record of its end is damaged: its exit code is not known',
        execs: {},
      };
    }
    case 'oom':
      return { ...s, oomKilled: true };
    case 'paused':
      return { ...s, status: 'paused' };
    case 'resumed':
      return { ...s, status: 'running' };
    case 'stopping':
      return { ...s, stoppedByUser: !r.restart, restartAsked: r.restart };
    case 'health':
      return {
        ...s,
        health: {
          status: r.status,
          streak: r.streak,
          log: r.probe ? [...(s.health?.log ?? []), r.probe].slice(-HEALTH_LOG_ENTRIES) : (s.health?.log ?? []),
        },
      };
    case 'exec-started':
      return {
        ...s,
        execs: { ...s.execs, [r.exec]: { pid: r.pid, startTime: r.startTime, running: true, exitCode: null } },
      };
    case 'exec-failed':
      return { ...s, execs: { ...s.execs, [r.exec]: { pid: 0, startTime: '', running: false, exitCode: r.code } } };
    case 'exec-exited':
      return { ...s, execs: without(s.execs, r.exec) };
    case 'updated':
      return { ...s, restart: r.restart };
    default:
      return s;
  }
}

const without = (execs: Record<string, RunExec>, id: string): Record<string, RunExec> => {
  const { [id]: _, ...rest } = execs;
  return rest;
};
