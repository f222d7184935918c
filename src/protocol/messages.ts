/**
 * The messages between daemon and shim, over `ctl` (newline-delimited JSON) and `fd` (descriptors).
 * A shim keeps the version that it was started with, so daemons and shims of different versions must understand each
 * other: `hello`, `since`, `signal` and `stop` never change; the other operations stay compatible for two versions.
 */
import type { JournalRecord, RestartPolicy } from './records.ts';
import type { RunState } from './runstate.ts';
import type { ExecSpec } from './spec.ts';

export const PROTOCOL_VERSION = 1;

/** The daemon's order on a spare shim's descriptor 3. The answer there is `{"ready":true}` or `{"error":"…"}`. */
export interface Adopt {
  op: 'adopt';
  container: string;
  /** The container's directory under the data root: lock, journal, spec.json, shim.log. */
  dir: string;
  /** Its run directory under the exec root: ctl, fd, FIFOs, bundle. */
  run: string;
  /** The file whose first line names this daemon, or the one after it: its pid and start time. */
  daemon?: string;
  /** What the daemon has stored of the journal. Believed where the journal has lost it. */
  stored?: StoredState;
}

/** The run state after record `seq`. */
export interface StoredState {
  seq: number;
  state: RunState;
}

/** The streams that an attached client wants, and their format. */
export interface AttachOptions {
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  /** Send live output; false with `logs` replays the log and ends. */
  stream: boolean;
  /** Replay the log first. */
  logs: boolean;
  /** The log driver cannot be read; the shim does not know the driver before the first start. */
  logUnreadable?: boolean;
  /** 8-byte frame headers (non-TTY) or raw bytes. */
  framed: boolean;
  /** Bytes that detach a client with a terminal; empty = none. */
  detachKeys: number[];
}

/** A client whose connection was sent on `fd` under this token. */
export interface HandedClient {
  token: string;
  /** base64: what the shim sends first, in a packet of its own. Empty when the daemon has sent it. */
  head: string;
  /** base64: bytes that the daemon has already read from the client; they precede what the descriptor yields. */
  early: string;
}

export type WaitCondition = 'not-running' | 'next-exit' | 'removed';

/** Every request has an `id` besides these fields; the answer repeats it. */
export type Request =
  | { op: 'hello'; protocol: number; daemon: string }
  /** Returns the records after `seq`, at most `limit`. */
  | { op: 'since'; seq: number; limit: number }
  /** The daemon has stored everything up to `seq`: the journal may be compacted. */
  | { op: 'committed'; seq: number }
  /** Creates the next generation (`runtime create`) and answers with its init's pid, for the network's setup. */
  | { op: 'create'; operation: string }
  | { op: 'start'; operation: string }
  /** Undoes a create whose network or start failed. Journals `failed` with `code`, Docker's exit code. */
  | { op: 'abandon'; operation: string; error: string; code: number }
  /** `asUser`: disables the restart policy until the next start, as `docker kill` does. */
  | { op: 'signal'; operation: string; signal: number; asUser: boolean }
  /** `timeout`: seconds until SIGKILL; 0 = at once, -1 = never. */
  | { op: 'stop'; operation: string; signal: number; timeout: number }
  | { op: 'restart'; operation: string; signal: number; timeout: number }
  | { op: 'pause'; operation: string }
  | { op: 'resume'; operation: string }
  | { op: 'update'; restart: RestartPolicy }
  | { op: 'resize'; height: number; width: number }
  | { op: 'attach'; client: HandedClient; options: AttachOptions }
  | { op: 'wait'; client: HandedClient; condition: WaitCondition }
  /** Runs an exec, whose streams go to the client, if any. Answered when it runs or has failed to start. */
  | { op: 'exec'; exec: ExecSpec; client?: HandedClient; options?: AttachOptions }
  | { op: 'exec-resize'; exec: string; height: number; width: number }
  /** The container was removed: answer `condition=removed` waiters, then end. */
  | { op: 'removed' }
  /** Ends the shim, unless a generation is alive. For a shim whose container was never started. */
  | { op: 'release' };

export type Op = Request['op'];

export interface Hello {
  protocol: number;
  version: string;
  bundle: string;
  pid: number;
  container: string;
  seq: number;
  state: RunState;
}

export interface Answers {
  hello: Hello;
  since: { records: JournalRecord[]; last: number };
  committed: Record<string, never>;
  create: { gen: number; pid: number };
  start: { pid: number };
  abandon: Record<string, never>;
  signal: Record<string, never>;
  stop: Record<string, never>;
  restart: Record<string, never>;
  pause: Record<string, never>;
  resume: Record<string, never>;
  update: Record<string, never>;
  resize: Record<string, never>;
  attach: Record<string, never>;
  wait: Record<string, never>;
  exec: { pid: number };
  'exec-resize': Record<string, never>;
  removed: Record<string, never>;
  release: Record<string, never>;
}

/** The daemon maps `kind` to an error class. `code` is Docker's exit code of a failed start: 126, 127 or 128. */
export interface Refusal {
  kind: 'conflict' | 'invalid' | 'notfound' | 'failed';
  message: string;
  code?: number;
}

export type Reply = { id: number; result: unknown } | { id: number; error: Refusal };

/** A notification: the journal's last sequence number is `ring`. */
export interface Doorbell {
  ring: number;
}
