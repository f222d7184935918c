import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** The first line that the program prints when run with `argument`. @throws when it fails */
export async function versionOf(path: string, argument = '--version'): Promise<string> {
  const { stdout, stderr } = await run(path, [argument], { timeout: 10_000 });
  return (stdout || stderr).split('\n')[0]!.trim();
}
