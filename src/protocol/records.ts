/** The journal's records: written by a container's shim, pulled by the daemon with `since`. */

/** What a record says; docs/shim-protocol.md describes their order. */
export type RecordBody =
  /** A shim has taken the container. Its first record; from here on the daemon's death does not end the shim. */
  | { type: 'adopted'; shimPid: number; bundle: string }
  /** Intent: the runtime is about to create generation `gen`. */
  | { type: 'creating'; operation: string }
  /** The runtime has created the container; its init waits for the start. */
  | { type: 'created'; pid: number; startTime: string }
  /** The container's process runs. `operation` is '' for a start by the restart policy. */
  | { type: 'started'; pid: number; startTime: string; operation: string }
  /** A create or start failed. `code` is Docker's exit code: 126, 127 or 128. */
  | { type: 'failed'; error: string; code: number; operation: string }
  /** The container's init is dead. `signal` is 0 unless a signal killed it; then `code` is 128+signal. */
  | { type: 'exited'; code: number; signal: number; oomKilled: boolean; error?: string }
  /** The restart policy will start the container again at `at` (wall clock, ns since the epoch, decimal). */
  | { type: 'restarting'; count: number; at: string }
  /** Dead and no restart pending: rootfs, netns and ports may be released. `user`: a client stopped it. */
  | { type: 'final'; user: boolean }
  /**
   * The kernel has OOM-killed processes of the container, or has made them wait where v1's OOM killer is disabled;
   * `kills` counts both in this generation so far.
   */
  | { type: 'oom'; kills?: number }
  | { type: 'paused' }
  | { type: 'resumed' }
  /** A signal was sent on a client's behalf. */
  | { type: 'killed'; signal: number }
  /** A client's stop is complete: the container is dead. */
  | { type: 'stopped'; operation: string }
  /** A client's restart is complete: the container runs. */
  | { type: 'restarted'; operation: string }
  | Stopping
  /** The host goes down; not a stop by a client. */
  | { type: 'shutdown' }
  | { type: 'health'; status: HealthStatus; streak: number; probe?: HealthProbe }
  | { type: 'exec-started'; exec: string; pid: number; startTime: string }
  | { type: 'exec-failed'; exec: string; error: string; code: number }
  | { type: 'exec-exited'; exec: string; code: number }
  | { type: 'attached'; exec?: string }
  | { type: 'detached'; exec?: string }
  | { type: 'resized'; exec?: string; height: number; width: number }
  /** `update` has changed the restart policy. */
  | { type: 'updated'; restart: RestartPolicy };

/** Intent of a client's stop, kill or restart: it disables the restart policy until the next start. */
interface Stopping {
  type: 'stopping';
  operation: string;
  signal: number;
  /** -1 = no deadline. */
  deadlineMs: number;
  restart: boolean;
  /** A single signal: no `stopped` follows. */
  kill?: boolean;
}

export type RecordType = RecordBody['type'];

/** The fields of every record. */
export interface Stamped {
  /**
   * 1, 2, 3 … over all generations of this container, never used twice. There is a gap after a boot, because records
   * that the daemon has pulled may not have reached the disk, and where old health records were dropped.
   */
  seq: number;
  /** Generation: the number of the container's run; 0 before the first. */
  gen: number;
  /** /proc/sys/kernel/random/boot_id at the time of writing. */
  boot: string;
  /** Wall clock, nanoseconds since the epoch, as a decimal string. */
  wall: string;
  /** CLOCK_MONOTONIC, nanoseconds, as a decimal string. */
  mono: string;
}

export type JournalRecord = Stamped & RecordBody;

export type HealthStatus = 'starting' | 'healthy' | 'unhealthy';

/** A probe's result, as in `docker inspect`; times are wall clock, ns since the epoch, decimal. */
export interface HealthProbe {
  start: string;
  end: string;
  exitCode: number;
  output: string;
  /** Exit code of a process that was killed at its timeout; `exitCode` is -1 then, as when none could be started. */
  killed?: number;
}

export interface RestartPolicy {
  name: 'no' | 'always' | 'unless-stopped' | 'on-failure';
  /** 0 = no limit. For on-failure only. */
  maximumRetryCount: number;
}
