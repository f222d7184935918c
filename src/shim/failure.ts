/** Why a container or exec did not start: dockerd's error texts and exit codes (moby daemon/errors.go). */
import { RuntimeFailure } from './runtime.ts';

export interface StartFailure {
  message: string;
  /** Exit code of `docker run`: 126 not executable, 127 not found, 128 anything else (126 for an exec). */
  code: number;
}

const NOT_FOUND = ['executable file not found', 'no such file or directory', 'not a directory'];
const NOT_EXECUTABLE = ['permission denied', 'is a directory'];

const OTHER = 128;
const OTHER_EXEC = 126;

const CONTEXT = {
  create: 'failed to create task for container: failed to create shim task: OCI runtime create failed',
  start: 'failed to start task: OCI runtime start failed',
  exec: 'OCI runtime exec failed',
} as const;

/** `error` as the failure of a `step`. */
export function startFailure(step: keyof typeof CONTEXT, error: unknown): StartFailure {
  const reason = error instanceof Error ? error.message : String(error);
  // containerd adds this context to the runtime's own messages only.
  const failure = classify(error instanceof RuntimeFailure ? `${CONTEXT[step]}: ${reason}: unknown` : reason);
  return step === 'exec' && failure.code === OTHER ? { ...failure, code: OTHER_EXEC } : failure;
}

/** Finds the exit code by substrings, as dockerd does; the CLI does too, so the runtime's wording must stay. */
export function classify(message: string): StartFailure {
  const text = message.toLowerCase();
  const has = (phrase: string): boolean => text.includes(phrase);
  if (NOT_EXECUTABLE.some(has))
    return { message: has('permission denied') ? message : `${message}: permission denied`, code: 126 };
  if (NOT_FOUND.some(has)) {
    const hint = has('not a directory')
      ? ': Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type'
      : '';
    return { message: message + hint, code: 127 };
  }
  return { message, code: OTHER };
}
