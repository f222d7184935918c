/**
 * `spec.json` in the container's directory: what a shim must know about its container. The daemon writes it before each
 * create. The OCI bundle (config.json) is in the run directory.
 */
import type { RestartPolicy } from './records.ts';

export interface ShimSpec {
  /** Version of this format; readers refuse a higher one. */
  version: 1;
  id: string;
  /** The container's name, for the process title and error texts. */
  name: string;
  runtime: {
    /** Path of the OCI runtime, and arguments before its command. */
    path: string;
    args: string[];
    /** `--root` of the runtime. */
    root: string;
    systemdCgroup: boolean;
  };
  /** The OCI bundle's directory, which contains config.json. */
  bundle: string;
  /** The container's cgroup path, as in config.json (linux.cgroupsPath). */
  cgroup: string;
  /** The same as a path below the hierarchies' mount points; absent in a file of an earlier daemon. */
  cgroupPath?: string;
  /** The shim's own cgroup path, beside the containers'; '' = stay in the current one. */
  shimCgroup: string;
  tty: boolean;
  openStdin: boolean;
  stdinOnce: boolean;
  /** Terminal size [height, width], in characters, to set before the start; [0, 0] = leave it. */
  consoleSize: [number, number];
  stopSignal: number;
  /** Seconds between the stop signal and SIGKILL; -1 = never. */
  stopTimeout: number;
  restart: RestartPolicy;
  autoRemove: boolean;
  log: LogSpec;
  health: HealthSpec | null;
  /** Published ports, which shim and keeper reserve with bound sockets. */
  ports: HeldPort[];
  /** Inits of the containers whose namespaces are joined: config.json names them by pid, valid while they live. */
  donors?: { pid: number; startTime: string }[];
  /** An attached client that accepts no byte for this long, ms, is dropped. */
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
      /** Number of files, at least 1. */
      maxFile: number;
      /** Docker's `attrs`, from labels/env/tag options; absent from the line when empty. */
      attrs: Record<string, string>;
    };

export interface HealthSpec {
  /** argv of the probe; CMD-SHELL is /bin/sh -c here already. */
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
  /** Whether a client's input is the process's stdin; else stdin is /dev/null. */
  attachStdin: boolean;
  attachStdout: boolean;
  attachStderr: boolean;
  /** The OCI process object (args, env, cwd, user, capabilities, …). */
  process: Record<string, unknown>;
  /** Bytes that detach a client with a terminal. */
  detachKeys: number[];
}
