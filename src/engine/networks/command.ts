/** Runs nft(8) and iptables(8), for rules that rarely change. */
import { execFile } from 'node:child_process';

const PATH = `${process.env.PATH ?? ''}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`;
const TIMEOUT_MS = 20_000;

/**
 * Runs a command with `input` as its stdin; resolves with its stdout.
 * @throws Error with the command's stderr; its code is ENOENT when the command is not installed
 */
export function run(command: string, args: string[], input = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      command,
      args,
      { env: { PATH, LC_ALL: 'C' }, timeout: TIMEOUT_MS, maxBuffer: 1 << 26 },
      (error, stdout, stderr) => {
        if (!error) return resolve(stdout);
        const reason = isMissing(error)
          ? `${command} is not installed`
          : `${command}: ${stderr.trim() || error.message}`;
        reject(Object.assign(new Error(reason, { cause: error }), { code: error.code }));
      },
    );
    // EPIPE: the command exited early; its exit status tells why.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
  });
}

/** Whether run() failed because the command is not installed. */
export const isMissing = (error: unknown): boolean => (error as { code?: unknown }).code === 'ENOENT';
