/** Derives Docker's events from a shim's journal records. */
import { createHash } from 'node:crypto';
import type { HealthProbe, JournalRecord } from '../../protocol/records.ts';
import type { RunState } from '../../protocol/runstate.ts';
import type { NewEvent } from '../../model/event.ts';

/** The container as it appears in its events. */
export interface EventSubject {
  id: string;
  /** Without the leading slash. */
  name: string;
  /** As given at create. */
  image: string;
  labels: Record<string, string>;
}

/** What a record itself does not contain. */
export interface Context {
  /** The run state before this record. */
  before: RunState;
  /** argv of an exec; undefined when it has been forgotten. */
  commandOf: (exec: string) => string[] | undefined;
  /** argv of the health check. */
  probe: string[] | undefined;
}

/** The attributes of a container's event: its labels, the event's own attributes, its image and name. */
export const attributesOf = (container: EventSubject, own: Record<string, string> = {}): Record<string, string> => ({
  ...container.labels,
  ...own,
  ...(container.image && { image: container.image }),
  name: container.name,
});

/** Docker's events for one record, in order. Most records cause none or one. */
export function eventsOf(record: JournalRecord, container: EventSubject, context: Context): NewEvent[] {
  return actionsOf(record, container, context).map(([action, own, time]) => ({
    type: 'container',
    action,
    actor: container.id,
    attributes: attributesOf(container, own),
    time: time ?? record.wall,
    origin: { container: container.id, seq: record.seq },
  }));
}

/** `time` is the record's by default. */
type Action = [action: string, own?: Record<string, string>, time?: string];

function actionsOf(r: JournalRecord, { id }: EventSubject, { before, commandOf, probe }: Context): Action[] {
  switch (r.type) {
    case 'started':
      return [['start']];
    case 'exited': {
      const execDuration = String(secondsBetween(before.startedAt, r.wall));
      const die: Action = ['die', { exitCode: String(r.code), execDuration }];
      // dockerd reports a restart as a stop and a start.
      return before.restartAsked ? [die, ['stop']] : [die];
    }
    case 'killed':
      return [['kill', { signal: String(r.signal) }]];
    case 'stopped':
      return [['stop']];
    case 'restarted':
      return [['restart']];
    case 'oom':
      return [['oom']];
    case 'paused':
      return [['pause']];
    case 'resumed':
      return [['unpause']];
    case 'health':
      return healthActions(r, id, before, probe);
    // dockerd reports exec_start before it runs the command, so also for one that cannot be run.
    case 'exec-started':
    case 'exec-failed':
      return [[withCommand('exec_start', commandOf(r.exec)), { execID: r.exec }]];
    case 'exec-exited':
      return [['exec_die', { execID: r.exec, exitCode: String(r.code) }]];
    case 'attached':
      return r.exec ? [] : [['attach']];
    case 'detached':
      return [r.exec ? ['exec_detach', { execID: r.exec }] : ['detach']];
    case 'resized':
      return r.exec ? [] : [['resize', { height: String(r.height), width: String(r.width) }]];
    case 'adopted':
    case 'creating':
    case 'created':
    case 'failed':
    case 'restarting':
    case 'final':
    case 'stopping':
    case 'shutdown':
    case 'updated': // The daemon records `update` itself.
      return [];
  }
}

function healthActions(
  { probe, seq, status }: Extract<JournalRecord, { type: 'health' }>,
  id: string,
  before: RunState,
  argv: string[] | undefined,
): Action[] {
  const actions = probe ? probeActions(probe, execIdOf(id, seq), argv) : [];
  // Every start sets `starting`, which dockerd does not report.
  if (status !== 'starting' && status !== before.health?.status) actions.push([`health_status: ${status}`]);
  return actions;
}

/**
 * dockerd runs a health probe as an exec and reports it as one; exec_die is missing if no process could be created. The
 * journal has one record per probe, written at its end.
 */
function probeActions(
  { start, end, exitCode, killed }: HealthProbe,
  execID: string,
  argv: string[] | undefined,
): Action[] {
  const code = killed ?? exitCode;
  const actions: Action[] = [
    [withCommand('exec_create', argv), { execID }, start],
    [withCommand('exec_start', argv), { execID }, start],
  ];
  if (code >= 0) actions.push(['exec_die', { execID, exitCode: String(code) }, end]);
  return actions;
}

/** A probe has no exec id. This one is derived from its record, so a replay yields the same. */
const execIdOf = (container: string, seq: number): string =>
  createHash('sha256').update(`${container} ${seq}`).digest('hex');

/** `exec_start: sh -c ls`. A command without arguments is followed by a space, as in dockerd. */
export const withCommand = (action: string, argv: string[] | undefined): string =>
  argv ? `${action}: ${argv[0] ?? ''} ${argv.slice(1).join(' ')}` : action;

/** 0 if `from` is '' (never started). */
const secondsBetween = (from: string, to: string): number =>
  from === '' ? 0 : Math.max(0, Number((BigInt(to) - BigInt(from)) / 1_000_000_000n));
