/** Runs iptables(8), for rules that rarely change. */
import { execFile, type ExecFileException } from 'node:child_process';

const PATH = `${process.env.PATH ?? ''}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`;
const TIMEOUT_MS = 20_000;

/**
 * Runs a command with `input` as its stdin; resolves with its stdout.
 * @throws Error with the command's stderr, and the signal that killed it; its code is ENOENT when the command is not
 * installed
 */
export function run(command: string, args: string[], input = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      command,
      args,
      { env: { PATH, LC_ALL: 'C' }, timeout: TIMEOUT_MS, maxBuffer: 1 << 26 },
      (error, stdout, stderr) => {
        if (!error) return resolve(stdout);
        reject(Object.assign(new Error(reasonOf(command, error, stderr), { cause: error }), { code: error.code }));
      },
    );
    // EPIPE: the command exited early; its exit status tells why.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
  });
}

function reasonOf(command: string, error: ExecFileException, stderr: string): string {
  if (isMissing(error)) return `${command} is not installed`;
  if (typeof error.code === 'string') return `${command}: ${error.message}`;
  const how = error.killed
    ? `did not end within ${TIMEOUT_MS / 1000} s`
    : error.signal
      ? `was killed by ${error.signal}`
      : undefined;
  const text = stderr.trim();
  if (how !== undefined) return `${command} ${how}${text === '' ? '' : `: ${text}`}`;
  return `${command}: ${text || `exit status ${error.code}`}`;
}

/** Whether run() failed because the command is not installed. */
export const isMissing = (error: unknown): boolean => (error as { code?: unknown }).code === 'ENOENT';
