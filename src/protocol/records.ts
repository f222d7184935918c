/** The journal: what a shim writes down about its container, and the daemon pulls "since N". */

/** What happened. One journal line is one record; see docs/shim-protocol.md. */
export type RecordBody =
  /**
   * A shim took this container over. The first record of every shim; after it the daemon's death no longer ends the
   * shim.
   */
  | { type: 'adopted'; shimPid: number; bundle: string }
  /** Intent: generation `gen` is about to be created (before the runtime is run). */
  | { type: 'creating'; operation: string }
  /** The runtime has made the container; its init waits. */
  | { type: 'created'; pid: number; startTime: string }
  /** The container's process runs. */
  | { type: 'started'; pid: number; startTime: string; operation: string }
  /** Creating or starting failed. `code` is Docker's 126, 127 or 128. */
  | { type: 'failed'; error: string; code: number; operation: string }
  /** The container's init is dead. `signal` is 0 unless it was killed by one; `code` is already 128+signal then. */
  | { type: 'exited'; code: number; signal: number; oomKilled: boolean; error?: string }
  /** The restart policy will start the container again at `at` (wall, ns). */
  | { type: 'restarting'; count: number; at: string }
  /**
   * Dead and no restart pending: its rootfs, netns and ports may be torn down. `user` is true when a client stopped it.
   */
  | { type: 'final'; user: boolean }
  /** The kernel killed one of its processes, or more, for want of memory: `kills` of this generation until now. */
  | { type: 'oom'; kills?: number }
  | { type: 'paused' }
  | { type: 'resumed' }
  /** A signal was sent on a client's behalf. */
  | { type: 'killed'; signal: number }
  /** `stop` ended with the container dead. */
  | { type: 'stopped'; operation: string }
  /** `restart` ended with the container running. */
  | { type: 'restarted'; operation: string }
  /** Intent of a client's stop, kill or restart: from here on the restart policy is off until the next start. */
  | {
      type: 'stopping';
      operation: string;
      signal: number;
      deadlineMs: number;
      restart: boolean;
      /** One signal and no deadline: no `stopped` follows. */ kill?: boolean;
    }
  /** The host goes down: not a user's stop. */
  | { type: 'shutdown' }
  | { type: 'health'; status: HealthStatus; streak: number; probe?: HealthProbe }
  | { type: 'exec-started'; exec: string; pid: number; startTime: string }
  | { type: 'exec-failed'; exec: string; error: string; code: number }
  | { type: 'exec-exited'; exec: string; code: number }
  | { type: 'attached'; exec?: string }
  | { type: 'detached'; exec?: string }
  | { type: 'resized'; exec?: string; height: number; width: number }
  /** The restart policy was changed by `update`. */
  | { type: 'updated'; restart: RestartPolicy };

export type RecordType = RecordBody['type'];

/** One journal line. */
export interface Stamped {
  /** 1, 2, 3 … over all generations of this container, never used twice. A gap is left after a boot (what was pulled may
   * not
   *  have reached the disk) and where old health records were dropped. */
  seq: number;
  /** Which run of the container this is about; 0 before the first. */
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

/** One probe's result, as `docker inspect` shows it; times are wall ns as decimal strings. */
export interface HealthProbe {
  start: string;
  end: string;
  exitCode: number;
  output: string;
  /**
   * What its process ended with, when it was killed for taking too long: exitCode is -1 then, as where no process was
   * to be had.
   */
  killed?: number;
}

export interface RestartPolicy {
  name: 'no' | 'always' | 'unless-stopped' | 'on-failure';
  /** 0 = without limit. Only for on-failure. */
  maximumRetryCount: number;
}
