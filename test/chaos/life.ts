/** One container from its create to its removal: what is known of it, and what it has to answer for. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FRAME_HEADER_BYTES } from '../../src/protocol/frames.ts';
import { judgeEvents, judgeLog, type LifeEvent } from './judge.ts';
import { drifted, type Status } from './model.ts';
import type { Role } from './roles.ts';
import { runsOf } from './witness.ts';
import type { World } from './world.ts';

const KILLED = 137;
const EVENT_MS = 20_000;

export interface Inspected {
  Id: string;
  Name: string;
  State: { Status: string; Pid: number; ExitCode: number; Error: string };
  RestartCount: number;
  HostConfig: { Memory: number; PidsLimit: number | null };
  NetworkSettings: { Ports: Record<string, { HostPort: string }[] | null>; Networks: Record<string, unknown> };
}

interface ApiEvent {
  Action: string;
  timeNano: number;
  Actor: { Attributes: Record<string, string> };
}

export class Life {
  id = '';
  states = new Set<Status>(['absent']);
  /** Number of daemons that had started when a client last ended it. */
  daemonsAtEnd = Infinity;
  #ended = false;
  /** Whether a command to end was given that may not have been carried out yet. */
  mayEnd = false;
  readonly #counts = new Map<string, [number, number]>();

  constructor(
    private readonly world: World,
    readonly role: Role,
    readonly directory: string,
    public name: string,
  ) {
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, 'runs'), '');
    execFileSync('mkfifo', [join(directory, 'ctl')]);
  }

  get exists(): boolean {
    return this.id !== '' && !this.#ended;
  }

  /** The states that it may be in now. */
  now(): Set<Status> {
    return drifted(this.states, this.role, {
      daemonsSince: Math.max(0, this.world.faults.daemonsStarting - this.daemonsAtEnd),
      endsByItself: this.mayEnd || this.role.lastLine !== undefined || this.role.joins !== undefined,
    });
  }

  /** An operation with an event of its own was tried. @param isSure it was answered as done */
  counted(action: string, isSure: boolean): void {
    const [least, most] = this.#counts.get(action) ?? [0, 0];
    this.#counts.set(action, [least + (isSure ? 1 : 0), most + 1]);
  }

  inspect = async (): Promise<Inspected | undefined> => {
    const answer = await this.world.get(`/containers/${this.id}/json`);
    return answer?.status === 200 ? (answer.json as Inspected) : undefined;
  };

  status = async (): Promise<Status | 'removing' | 'dead' | undefined> =>
    ((await this.inspect())?.State.Status as Status | undefined) ?? 'absent';

  /** Waits until the container is in one of its possible states, and narrows them to it. */
  async observe(after: string): Promise<void> {
    let seen: string | undefined;
    const isPossible = async (): Promise<boolean> => {
      seen = await this.status();
      return this.now().has(seen as Status);
    };
    if (!(await this.world.eventually(isPossible)))
      this.world.fail(`${this.label} after ${after}: is ${seen} where ${[...this.now()].join(' or ')} is right`);
    if (seen !== undefined && this.now().has(seen as Status)) this.states = new Set([seen as Status]);
    if (seen === 'absent') this.#gone();
  }

  #gone(): void {
    this.#ended = true;
  }

  /** Judges the log against what the witness noted. */
  async checkLog(): Promise<void> {
    const before = await this.status();
    const answer = await this.world.get(`/containers/${this.id}/logs?stdout=1&stderr=1`);
    if (answer?.status !== 200) {
      if (answer !== undefined && answer.status !== 404) this.world.fail(`${this.label} logs: ${answer.text}`);
      return;
    }
    const text = this.role.tty ? answer.text : inOrder(answer.body);
    const inspected = await this.inspect();
    const unfinished = before !== 'exited' || inspected?.State.Status !== 'exited';
    const { faults } = this.world;
    const wrong = judgeLog(text, runsOf(this.directory), {
      shimKills: faults.count(/^shim|^runtime/, this.id),
      diskFull: faults.count(/^disk/, undefined) > 0,
      rotated: this.role.rotated ?? false,
      unfinished,
    });
    for (const one of wrong) this.world.fail(`${this.label} log: ${one}`);
  }

  /** Judges the events once the container is gone, or as it is now. */
  async checkEvents(): Promise<void> {
    const removed = !this.exists;
    const filters = encodeURIComponent(JSON.stringify({ container: [this.id], type: ['container'] }));
    let events: ApiEvent[] = [];
    const path = `/events?since=0&until=${Math.ceil(Date.now() / 1000) + 1}&filters=${filters}`;
    const read = async (): Promise<boolean> => {
      const answer = await this.world.get(path.replace(/until=\d+/, `until=${(Date.now() / 1000).toFixed(3)}`));
      events = (answer?.text ?? '')
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as ApiEvent);
      return !removed || events.some(({ Action }) => Action === 'destroy');
    };
    await this.world.eventually(read, EVENT_MS);
    const booted = Date.now() / 1000 - Number(readFileSync('/proc/uptime', 'latin1').split(' ')[0]);
    const { faults } = this.world;
    const lifeEvents: LifeEvent[] = events
      .filter(({ Action }) => !Action.startsWith('exec_') && !Action.startsWith('health_status'))
      .map(({ Action, timeNano, Actor }) => ({
        action: Action,
        uptime: timeNano / 1e9 - booted,
        attributes: Actor.Attributes,
      }));
    const wrong = judgeEvents(lifeEvents, runsOf(this.directory), {
      removed,
      killedCodes: this.role.init || this.role.joins !== undefined ? [KILLED, 143, 138] : [KILLED],
      counts: this.#counts,
      anyCode: faults.count(/^shim/, this.id) > 0 && faults.count(/^keeper/, this.id) > 0,
    });
    for (const one of wrong)
      this.world.fail(`${this.label} events: ${one}\n  ${lifeEvents.map((e) => e.action + codeOf(e)).join(' ')}`);
  }

  /** For messages. */
  get label(): string {
    return `${this.role.name} (${this.id.slice(0, 12)})`;
  }
}

const codeOf = ({ action, attributes }: LifeEvent): string => (action === 'die' ? `(${attributes.exitCode})` : '');

/** The text of both streams: a witness writes to one of them, and notices about dropped lines go to the other. */
function inOrder(bytes: Buffer): string {
  const parts: Buffer[] = [];
  for (let at = 0; at + FRAME_HEADER_BYTES <= bytes.length;) {
    const length = bytes.readUInt32BE(at + 4);
    parts.push(bytes.subarray(at + FRAME_HEADER_BYTES, at + FRAME_HEADER_BYTES + length));
    at += FRAME_HEADER_BYTES + length;
  }
  return Buffer.concat(parts).toString();
}
