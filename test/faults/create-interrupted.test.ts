/**
 * Daemon and shim die while the runtime is at work on a start. The runtime goes on alone and brings up a container that
 * nobody waits for: it is cleared away, nothing of it is left, and the container can be started and removed.
 */
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { namesFor } from '../../src/config/names.ts';
import { cgroupsBelow } from '../support/cgroups.ts';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { isDead } from '../support/processes.ts';
import { shimOf } from '../support/shims.ts';
import { until } from '../support/until.ts';

/** How long the runtime's create takes, once a file has told it to be slow. */
const SLOW_SECONDS = 3;
const DEADLINE_MS = 60_000;

let engine: TestEngine;
let scratch = '';
beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'holdfast-slow-'));
  const runtime = join(scratch, 'runtime');
  writeFileSync(
    runtime,
    `#!/bin/sh
case " $* " in
*" create "*) if [ -e ${scratch}/slow ]; then touch ${scratch}/begun; sleep ${SLOW_SECONDS}; fi;;
esac
exec runc "$@"
`,
  );
  chmodSync(runtime, 0o755);
  engine = await startEngine({ flags: ['--add-runtime', `slow=${runtime}`] });
});
afterAll(async () => {
  await engine?.[Symbol.asyncDispose]();
  rmSync(scratch, { recursive: true, force: true });
});

const { inspect, ok } = dockerOf<{ Id: string; State: { Status: string; Pid: number } }>(() => engine);

/** Processes whose command line or cgroup names the container. */
const processesOf = (id: string): string[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const text = ['cmdline', 'cgroup'].map((file) => readFileSync(`/proc/${pid}/${file}`, 'utf8')).join('\n');
        return text.includes(id) ? [text.replaceAll('\0', ' ')] : [];
      } catch {
        return [];
      }
    });

/** What the host has of the container; its row and its directory stay. */
const remains = (id: string): string[] => [
  ...processesOf(id),
  ...cgroupsBelow(namesFor(join(engine.root, 'data'), engine.execRoot).cgroupParent.cgroupfs).filter((path) =>
    path.includes(id),
  ),
  ...readFileSync('/proc/self/mountinfo', 'latin1')
    .split('\n')
    .filter((line) => line.includes(id.slice(0, 16))),
  ...['netns', join('oci', 'slow')].flatMap((directory) => {
    const path = join(engine.execRoot, directory);
    return existsSync(path) ? readdirSync(path).filter((name) => id.startsWith(name)) : [];
  }),
];

test.each([
  ['shim', 'daemon'],
  ['daemon', 'shim'],
  ['shim', ''],
])(
  '%s, then %s killed within a create: it is undone when the runtime has ended [create-interrupted]',
  async (...killed) => {
    const name = `x-${killed.join('')}`;
    const id = await ok(
      'create',
      '--name',
      name,
      '--runtime',
      'slow',
      '-p',
      '127.0.0.1::80',
      'busybox',
      'sleep',
      '9999',
    );
    writeFileSync(join(scratch, 'slow'), '');
    const start = engine.docker('start', name);
    await until(() => existsSync(join(scratch, 'begun')), DEADLINE_MS);
    const shim = shimOf(engine, id);
    for (const what of killed) {
      if (what === 'daemon') await engine.kill9();
      if (what === 'shim') process.kill(shim, 'SIGKILL');
    }
    await until(() => isDead(shim));
    rmSync(join(scratch, 'slow'));
    rmSync(join(scratch, 'begun'));
    if (engine.isDead()) await engine.startAgain();
    await start.result;
    await until(() => !processesOf(id).some((text) => text.includes(' create ')), DEADLINE_MS);
    await until(() => remains(id).length === 0, DEADLINE_MS).catch(() => expect(remains(id)).toEqual([]));
    expect((await inspect(name)).State).toMatchObject({ Status: 'created', Pid: 0 });
    await ok('start', name);
    expect((await inspect(name)).State.Status).toBe('running');
    await ok('rm', '-f', name);
    expect(remains(id)).toEqual([]);
  },
);
