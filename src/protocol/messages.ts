/**
 * The daemon's side of the conversation with a shim, over `ctl` (JSON lines) and `fd` (descriptors).
 * `hello`, `since`, `signal`, `stop` and `upgrade` are frozen for ever; the rest tolerates N-2.
 */
import type { JournalRecord, RestartPolicy } from './records.ts';
import type { RunState } from './runstate.ts';
import type { ExecSpec } from './spec.ts';

export const PROTOCOL_VERSION = 1;

/** Sent by the daemon over a warm shim's descriptor 3. Answered by `{"ready":true}` or `{"error":"…"}` on the same. */
export interface Adopt {
  op: 'adopt';
  container: string;
  /** The container's directory under the data root: lock, journal, log, spec.json. */
  dir: string;
  /** Its directory under the exec root: ctl, fd, FIFOs, bundle. */
  run: string;
}

/** Which streams an attached client wants, and how it is spoken to. */
export interface AttachOptions {
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  /** Go live; false with `logs` replays and ends. */
  stream: boolean;
  /** Replay the log first. */
  logs: boolean;
  /** 8-byte frame headers (non-TTY) or raw bytes. */
  framed: boolean;
  /** Bytes that detach a TTY client; empty = none. */
  detachKeys: number[];
}

/** A client's connection that comes along on `fd` under this token. */
export interface HandedClient {
  token: string;
  /** base64: what the shim writes first, in a packet of its own. Empty when the daemon wrote it already. */
  head: string;
  /**
   * base64: bytes of the client that the daemon had read already; they come before anything read from the descriptor.
   */
  early: string;
}

export type WaitCondition = 'not-running' | 'next-exit' | 'removed';

/** Every request carries `id`; the answer repeats it. */
export type Request =
  | { op: 'hello'; protocol: number; daemon: string }
  /** Records after `seq`, at most `limit`. */
  | { op: 'since'; seq: number; limit: number }
  /** The daemon has committed everything up to `seq`: the journal may be compacted. */
  | { op: 'committed'; seq: number }
  /** Makes the next generation (runtime create) and answers with its pid; the network may be set up meanwhile. */
  | { op: 'create'; operation: string }
  | { op: 'start'; operation: string }
  /** Undoes a create whose network or start failed. Journals `failed`. */
  | { op: 'abandon'; operation: string; error: string; code: number }
  /** `asUser`: the restart policy is off until the next start (docker kill does so too). */
  | { op: 'signal'; operation: string; signal: number; asUser: boolean }
  | { op: 'stop'; operation: string; signal: number; timeout: number }
  | { op: 'restart'; operation: string; signal: number; timeout: number }
  | { op: 'pause'; operation: string }
  | { op: 'resume'; operation: string }
  | { op: 'update'; restart: RestartPolicy }
  | { op: 'resize'; height: number; width: number }
  | { op: 'attach'; client: HandedClient; options: AttachOptions }
  | { op: 'wait'; client: HandedClient; condition: WaitCondition }
  /** Runs an exec; with a client, its streams go there. Answered when it runs (or failed to). */
  | { op: 'exec'; exec: ExecSpec; client?: HandedClient; options?: AttachOptions }
  | { op: 'exec-resize'; exec: string; height: number; width: number }
  /** The container was removed: answer `condition=removed` waiters, then end. */
  | { op: 'removed' }
  /** End, if no generation is alive. Used for a shim whose container was never started. */
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

/** `kind` is what the daemon maps to an error class; `code` is Docker's exit code of a failed start (126, 127, 128). */
export interface Refusal {
  kind: 'conflict' | 'invalid' | 'notfound' | 'failed';
  message: string;
  code?: number;
}

export type Reply = { id: number; result: unknown } | { id: number; error: Refusal };

/** Unasked: the journal has grown to `ring`. */
export interface Doorbell {
  ring: number;
}
