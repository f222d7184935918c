/**
 * Runs newcomer.py with Debian's python3-docker against a real daemon: docker-py sends requests and reads streams in
 * its own ways.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { startEngine } from '../support/engine.ts';

const script = fileURLToPath(new URL('newcomer.py', import.meta.url));

test('every check of a first docker-py script passes [docker-py-script]', async () => {
  await using engine = await startEngine();
  // /usr/bin/python3 is the one that sees Debian packages.
  const { stdout } = await promisify(execFile)('/usr/bin/python3', [script], {
    env: { ...process.env, DOCKER_HOST: `unix://${engine.socket}` },
    timeout: 100_000,
  });
  expect(stdout.split('\n').filter((line) => line !== '').length).toBe(
    readFileSync(script, 'utf8').match(/^\s*check\((?!.*False\))/gm)!.length + 1,
  );
});
