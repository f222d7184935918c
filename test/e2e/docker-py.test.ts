/** docker-py, which speaks to the API in ways of its own (Debian's python3-docker). */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { startEngine } from '../support/engine.ts';

const script = fileURLToPath(new URL('newcomer.py', import.meta.url));

test('a newcomer’s script does what it says', async () => {
  await using engine = await startEngine();
  // Debian's own Python has Debian's packages.
  const { stdout } = await promisify(execFile)('/usr/bin/python3', [script], {
    env: { ...process.env, DOCKER_HOST: `unix://${engine.socket}` },
    timeout: 100_000,
  });
  expect(stdout.split('\n').filter((line) => line !== '').length).toBe(
    readFileSync(script, 'utf8').match(/^\s*check\((?!.*False\))/gm)!.length + 1,
  );
});
