/** Versions of the programs that are run here. */
import { execFile } from 'node:child_process';
import { basename } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const DEADLINE_MS = 5_000;

export interface Program {
  /** As it names itself: runc, crun, tini. */
  name: string;
  /** '' when it cannot be asked. */
  version: string;
  commit: string;
}

const known = new Map<string, Promise<Program>>();

/** Asks a program once in the daemon's life. Never throws: what does not answer has no version. */
export function versionOf(path: string): Promise<Program> {
  let answer = known.get(path);
  if (!answer) known.set(path, (answer = ask(path)));
  return answer;
}

async function ask(path: string): Promise<Program> {
  try {
    const { stdout } = await run(path, ['--version'], { timeout: DEADLINE_MS });
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
