/** An exec: an additional process in a running container (`docker exec`). */

/** The create request (POST /containers/{id}/exec), completed with Docker's defaults. */
export interface ExecConfig {
  AttachStdin: boolean;
  AttachStdout: boolean;
  AttachStderr: boolean;
  DetachKeys: string;
  Tty: boolean;
  Env: string[];
  Cmd: string[];
  Privileged: boolean;
  User: string;
  WorkingDir: string;
  ConsoleSize: [number, number];
}

export interface Exec {
  id: string;
  containerId: string;
  config: ExecConfig;
  running: boolean;
  /** null until the process has ended. */
  exitCode: number | null;
  /** 0 while it does not run. */
  pid: number;
  started: boolean;
  /** Milliseconds since the epoch; 0 = has not ended. */
  ended: number;
}
