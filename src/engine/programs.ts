/** Versions of the host programs that the daemon runs. */
import { execFile } from 'node:child_process';
import { basename } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const TIMEOUT_MS = 5_000;

export interface Program {
  /** Name of its file: runc, crun, tini. */
  name: string;
  /** '' if unknown. */
  version: string;
  commit: string;
}

const known = new Map<string, Promise<Program>>();

/** Runs `path --version` and caches the result. Never throws: a program that does not answer has no version. */
export function versionOf(path: string): Promise<Program> {
  const cached = known.get(path);
  if (cached) return cached;
  const answer = ask(path);
  known.set(path, answer);
  return answer;
}

const features = new Map<string, Promise<string | undefined>>();

/**
 * What an OCI runtime tells about itself (`runtime features`; opencontainers/runtime-spec features.md) as one line of
 * JSON, undefined if it does not. Cached. Never throws.
 */
export function featuresOf({ path, args }: { path: string; args: readonly string[] }): Promise<string | undefined> {
  const command = [path, ...args, 'features'];
  const key = command.join('\0');
  const cached = features.get(key);
  if (cached) return cached;
  const answer = run(path, command.slice(1), { timeout: TIMEOUT_MS }).then(
    ({ stdout }) => compactObject(stdout),
    (error: unknown) => {
      // A runtime that refuses the command will refuse it again; one that is missing or slow may answer later.
      const refused = error instanceof Error && 'code' in error && typeof error.code === 'number';
      if (!refused) features.delete(key);
      return undefined;
    },
  );
  features.set(key, answer);
  return answer;
}

function compactObject(text: string): string | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? JSON.stringify(value) : undefined;
  } catch {
    return undefined;
  }
}

async function ask(path: string): Promise<Program> {
  try {
    const { stdout } = await run(path, ['--version'], { timeout: TIMEOUT_MS });
    return parseVersion(basename(path), stdout);
  } catch {
    known.delete(path);
    return { name: basename(path), version: '', commit: '' };
  }
}

/** `runc version 1.1.5+ds1 / commit: …`, `crun version 1.8.1 / commit: …`, `tini version 0.19.0 - git.de40ad0`. */
function parseVersion(name: string, text: string): Program {
  return {
    name,
    version: /^\S+ version (\S+)/m.exec(text)?.[1] ?? '',
    commit: /^commit: (\S+)/m.exec(text)?.[1] ?? /git\.([0-9a-f]+)/.exec(text)?.[1] ?? '',
  };
}
