/** What a shim wrote down becomes what `docker events` tells. */
import { createHash } from 'node:crypto';
import type { HealthProbe, JournalRecord } from '../../protocol/records.ts';
import type { RunState } from '../../protocol/runstate.ts';
import type { NewEvent } from '../../model/event.ts';

/** The container as its events show it. */
export interface EventSubject {
  id: string;
  /** Without the slash. */
  name: string;
  /** As given at create. */
  image: string;
  labels: Record<string, string>;
}

/** What a record alone does not tell. */
export interface Context {
  /** The run state before this record. */
  before: RunState;
  /** argv of an exec; undefined when nothing is known of it any more. */
  commandOf: (exec: string) => string[] | undefined;
  /** argv of a health check. */
  probe: string[] | undefined;
}

/** The attributes of every event about a container: its labels, the event's own, and who it is. */
export const attributesOf = (container: EventSubject, own: Record<string, string> = {}): Record<string, string> => ({
  ...container.labels,
  ...own,
  ...(container.image && { image: container.image }),
  name: container.name,
});

/** Docker's events for one record, in order; most records have none or one. Pure. */
export function eventsOf(record: JournalRecord, container: EventSubject, context: Context): NewEvent[] {
  return happenings(record, container, context).map(([action, own, time]) => ({
    type: 'container',
    action,
    actor: container.id,
    attributes: attributesOf(container, own),
    time: time ?? record.wall,
    origin: { container: container.id, seq: record.seq },
  }));
}

/** Its time is the record's, unless it says another. */
type Happening = [action: string, own?: Record<string, string>, time?: string];

function happenings(r: JournalRecord, { id }: EventSubject, { before, commandOf, probe }: Context): Happening[] {
  switch (r.type) {
    case 'started':
      return [['start']];
    case 'exited':
      // A restart is a stop and a start, as dockerd tells it.
      return [
        ['die', { exitCode: String(r.code), execDuration: String(secondsBetween(before.startedAt, r.wall)) }],
        ...(before.restartAsked ? [['stop'] as Happening] : []),
      ];
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
      // Every start begins with `starting`, of which dockerd tells nothing.
      return [
        ...(r.probe ? probed(r.probe, execIdOf(id, r.seq), probe) : []),
        ...(r.status === 'starting' || r.status === before.health?.status
          ? []
          : [[`health_status: ${r.status}`] as Happening]),
      ];
    // dockerd announces an exec before it tries: also one whose command cannot be run.
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
    // The daemon, who was asked for it, tells of an update itself.
    case 'updated':
      return [];
  }
}

/**
 * To dockerd a probe is an exec like others: told of, with its end unless no process was to be had. Here one record
 * tells all, once it is over.
 */
function probed(
  { start, end, exitCode, killed }: HealthProbe,
  execID: string,
  argv: string[] | undefined,
): Happening[] {
  const code = killed ?? exitCode;
  return [
    [withCommand('exec_create', argv), { execID }, start],
    [withCommand('exec_start', argv), { execID }, start],
    ...(code < 0 ? [] : [['exec_die', { execID, exitCode: String(code) }, end] as Happening]),
  ];
}

/** A probe has no exec of its own: whoever reads its record again finds the same id. */
const execIdOf = (container: string, seq: number): string =>
  createHash('sha256').update(`${container} ${seq}`).digest('hex');

/** `exec_start: sh -c ls`. A command without arguments ends with a space, as dockerd's does. */
export const withCommand = (action: string, argv: string[] | undefined): string =>
  argv ? `${action}: ${argv[0] ?? ''} ${argv.slice(1).join(' ')}` : action;

/** 0 when it never began. */
const secondsBetween = (from: string, to: string): number =>
  from === '' ? 0 : Math.max(0, Number((BigInt(to) - BigInt(from)) / 1_000_000_000n));
