/**
 * What a shim must know of its container: `spec.json` in the container's directory, written by the daemon
 * before it asks for a create. The OCI bundle (config.json) is beside it in the run directory.
 */
import type { RestartPolicy } from './records.ts';

export interface ShimSpec {
  /** Format of this file; readers refuse a higher one. */
  version: 1;
  id: string;
  /** The container's name, for the process title and error texts only. */
  name: string;
  runtime: {
    /** Path of the OCI runtime and arguments that go before the command. */
    path: string;
    args: string[];
    /** `--root` of the runtime. */
    root: string;
    systemdCgroup: boolean;
  };
  /** Directory that holds the OCI config.json; `rootfs` is named inside that file. */
  bundle: string;
  /** Cgroup path of the container as given to the runtime (linux.cgroupsPath), for the oom and emptiness checks. */
  cgroup: string;
  /** The shim's own cgroup (relative, made beside the containers'), or '' to stay where it is. */
  shimCgroup: string;
  tty: boolean;
  openStdin: boolean;
  stdinOnce: boolean;
  /** Terminal size [height, width] to set before the start, or [0, 0]. */
  consoleSize: [number, number];
  stopSignal: number;
  /** Seconds between the stop signal and SIGKILL; -1 = never. */
  stopTimeout: number;
  restart: RestartPolicy;
  autoRemove: boolean;
  log: LogSpec;
  health: HealthSpec | null;
  /** Listening sockets of published ports that the keeper holds so that nobody else takes them. */
  ports: HeldPort[];
  /** Containers' inits whose namespaces config.json names by their pids: as long as they live, the pids are theirs. */
  donors?: { pid: number; startTime: string }[];
  /** Bytes; a client that accepts nothing for this long (ms) is dropped. */
  slowClientMs: number;
}

export interface HeldPort {
  protocol: 'tcp' | 'udp';
  address: string;
  port: number;
}

export type LogSpec =
  | { driver: 'none' }
  | {
      driver: 'json-file';
      /** Path of the log file; rotated ones are `${path}.1`, `${path}.2` … */
      path: string;
      /** Bytes before rotation; 0 = never. */
      maxSize: number;
      /** How many files in all, at least 1. */
      maxFile: number;
      /** Docker's `attrs`, from labels/env/tag options; absent from the line when empty. */
      attrs: Record<string, string>;
    };

export interface HealthSpec {
  /** argv of the probe; CMD-SHELL is already turned into /bin/sh -c. */
  argv: string[];
  /** Milliseconds. */
  interval: number;
  timeout: number;
  startPeriod: number;
  startInterval: number;
  retries: number;
}

/** A process to run inside the container: the OCI `process` object, ready for `runc exec --process`. */
export interface ExecSpec {
  id: string;
  tty: boolean;
  consoleSize: [number, number];
  /** Whether a client's stdin is to be fed in; else stdin is /dev/null. */
  attachStdin: boolean;
  attachStdout: boolean;
  attachStderr: boolean;
  /** The OCI process object (args, env, cwd, user, capabilities, …). */
  process: Record<string, unknown>;
  /** Raw bytes that detach a TTY client. */
  detachKeys: number[];
}
