/** The runtime is killed in the middle of a command. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { namesFor } from '../../src/config/names.ts';
import { cgroupsBelow } from '../support/cgroups.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';

/** Not below the engine's root, which is made later. */
const directory = mkdtempSync('/tmp/runtime-');
const wrapper = join(directory, 'runc');
/** Its text is the condition of the next create's death, in shell; while it is missing, the runtime works. */
const armed = join(directory, 'armed');

/** Kills runc, and then itself, once the condition holds. Without a chance to clear up, as the OOM killer does it. */
const WRAPPER = `#!/bin/bash
for last; do :; done
id=$last
while [ $# -gt 0 ]; do [ "$1" = --root ] && root=$2; [ "$1" = create ] && break; args+=("$1"); shift; done
[ "$1" = create ] && [ -e ${armed} ] || exec runc "\${args[@]}" "$@"
condition=$(cat ${armed}); rm ${armed}
runc "\${args[@]}" "$@" & pid=$!
cgroup() { for d in /sys/fs/cgroup/pids /sys/fs/cgroup; do find $d -maxdepth 3 -name "$id" -type d; done 2>/dev/null | head -1; }
until eval "$condition" || ! kill -0 $pid 2>/dev/null; do :; done
kill -9 $pid; kill -9 $$
`;

let engine: TestEngine;
beforeAll(async () => {
  writeFileSync(wrapper, WRAPPER, { mode: 0o755 });
  engine = await startEngine({ flags: ['--add-runtime', `fragile=${wrapper}`] });
});
afterAll(async () => {
  await engine?.[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

describe('a create whose runtime is killed', () => {
  test.each([
    ['at once', 'true'],
    ['with its state directory', '[ -d "$root/$id" ]'],
    ['with its cgroup', '[ -n "$(cgroup)" ]'],
    ['with its init', '[ -n "$(cat $(cgroup)/cgroup.procs 2>/dev/null)" ]'],
    ['with its state', '[ -e "$root/$id/state.json" ]'],
  ])('%s fails the start and leaves nothing that fails the next [runtime-killed-in-create]', async (_, condition) => {
    const id = (await engine.dockerOutput('create', '--runtime', 'fragile', 'busybox', 'echo', 'hi')).trim();
    writeFileSync(armed, condition);
    expect(await engine.dockerRefusal('start', '-a', id)).toContain('ended with signal 9');
    const names = namesFor(join(engine.root, 'data'), engine.execRoot);
    expect(existsSync(join(engine.execRoot, 'oci', 'fragile', id))).toBe(false);
    expect(cgroupsBelow(names.cgroupParent.cgroupfs).filter((path) => path.includes(id))).toEqual([]);
    expect(await engine.dockerOutput('start', '-a', id)).toBe('hi\n');
    await engine.dockerOutput('rm', id);
  });
});
