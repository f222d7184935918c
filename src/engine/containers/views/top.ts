/** `docker top`: ps(1), filtered by the container's cgroup. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { InvalidParameter } from '../../../model/errors.ts';

const run = promisify(execFile);
const MAX_OUTPUT = 64 * 1024 * 1024;

export interface Top {
  Titles: string[];
  Processes: string[][];
}

/** @throws InvalidParameter when ps refuses its arguments or prints no PID column */
export async function top(cgroupPids: number[], psArgs: string): Promise<Top> {
  const args = psArgs === '' ? '-ef' : psArgs;
  checkArgs(args);
  return parsePs(
    await ps(
      args.split(' ').filter((arg) => arg !== ''),
      cgroupPids,
    ),
    new Set(cgroupPids),
  );
}

/** Refuses a fake PID column: `-o comm=PID` would let other processes through the filter. */
function checkArgs(args: string): void {
  for (const [, key, title] of args.matchAll(/\s+([^\s]*)=\s*(PID[^\s]*)/g)) {
    if (key !== 'pid') throw new InvalidParameter(`specifying "${key}=${title}" is not allowed`);
  }
}

async function ps(args: string[], pids: number[]): Promise<string> {
  const options = { maxBuffer: MAX_OUTPUT, env: { PATH: process.env.PATH, LC_ALL: 'C' } };
  try {
    return (await run('ps', [...args, `-q${pids.join(',')}`], options)).stdout;
  } catch {
    // Some options (f, …) cannot be combined with -q.
  }
  try {
    return (await run('ps', args, options)).stdout;
  } catch (error) {
    const [line] = (error as { stderr?: string }).stderr?.split('\n') ?? [];
    throw new InvalidParameter(line || `ps: ${(error as Error).message}`);
  }
}

/** The rows of `pids`, split into columns; the last column takes the rest of the line. */
function parsePs(output: string, pids: ReadonlySet<number>): Top {
  const [head = '', ...lines] = output.split('\n');
  const Titles = fields(head);
  const column = Titles.indexOf('PID');
  if (column < 0) throw new InvalidParameter("couldn't find PID field in ps output");
  const Processes: string[][] = [];
  // With `m`, thread lines (PID `-`) follow the line of their process.
  let wanted = false;
  for (const line of lines.filter((l) => l.trim() !== '')) {
    const row = fields(line);
    const pid = row[column] ?? '';
    if (pid !== '-') {
      if (!/^\d+$/.test(pid)) throw new InvalidParameter(`unexpected pid '${pid}'`);
      wanted = pids.has(Number(pid));
    }
    if (wanted) Processes.push([...row.slice(0, Titles.length - 1), row.slice(Titles.length - 1).join(' ')]);
  }
  return { Titles, Processes };
}

const fields = (line: string): string[] => line.split(/[ \t]+/).filter((field) => field !== '');
