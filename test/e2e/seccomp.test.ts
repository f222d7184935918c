/**
 * System calls that Docker's default seccomp profile refuses or allows are refused or allowed in a real container:
 * only the kernel can tell.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';

const { EPERM, ENOSYS } = constants.errno;

/**
 * Each call has arguments that the kernel rejects with an error other than EPERM or accepts without effect, so EPERM
 * can only come from the filter. Numbers: amd64, arm64.
 */
const CALLS: Readonly<Record<string, readonly [x64: number, arm64: number, ...args: number[]]>> = {
  unshare: [272, 97, 0],
  mount: [165, 40, 1, 1, 1, 0, 0], // bad addresses
  umount2: [166, 39, 1, 0x10000], // no such flag
  setns: [308, 268, -1, 0],
  clone: [56, 220, 0x1000_0200, 0, 0, 0, 0], // CLONE_NEWUSER | CLONE_FS exclude each other
  clone3: [435, 435, 1, 0],
  keyctl: [250, 219, 9999, 0, 0, 0, 0],
  add_key: [248, 217, 1, 1, 0, 0, 0],
  mbind: [237, 235, 0, 0, 9999, 0, 0, 0],
  pidfd_getfd: [438, 438, -1, 0, 1],
  alg: [41, 198, 38, 5, 0],
  nfc: [41, 198, 39, 1, 0], // no such type of socket
  vsock: [41, 198, 40, 1, 0],
  unheardOf: [999, 999, 0],
};
const architecture = process.arch === 'arm64' ? 1 : 0;

let engine: TestEngine;
let scratch: string;
beforeAll(async () => {
  engine = await startEngine();
  scratch = mkdtempSync('/tmp/hf-seccomp-');
});
afterAll(async () => {
  rmSync(scratch, { recursive: true, force: true });
  await engine?.[Symbol.asyncDispose]();
});

/**
 * The errno of each call in a container with these options; 0 where it succeeded. The calls are made by the perl of
 * the host.
 */
async function errnos(...options: string[]): Promise<Record<string, number>> {
  const program = Object.entries(CALLS)
    .map(
      ([name, [x64, arm64, ...args]]) =>
        `printf "${name} %d\\n", syscall(${[[x64, arm64][architecture], ...args].join(', ')}) < 0 ? $!+0 : 0;`,
    )
    .join(' ');
  const { stdout, stderr, exitCode } = await engine.docker(
    ...['run', '--rm', '-v', '/:/host:ro', ...options],
    ...['busybox', 'chroot', '/host', 'perl', '-e', program],
  ).result;
  expect({ stderr, exitCode }).toEqual({ stderr: '', exitCode: 0 });
  return Object.fromEntries(
    stdout
      .trim()
      .split('\n')
      .map((line): [string, number] => [line.split(' ')[0]!, Number(line.split(' ')[1])]),
  );
}

const refused = (seen: Record<string, number>): string[] =>
  Object.entries(seen)
    .filter(([, errno]) => errno === EPERM)
    .map(([name]) => name)
    .sort();

const ALWAYS_REFUSED = ['add_key', 'alg', 'keyctl', 'mbind', 'pidfd_getfd', 'vsock'];
const NEEDS_SYS_ADMIN = ['clone', 'mount', 'setns', 'umount2', 'unshare'];

test('the default profile refuses namespaces, mounts, keyrings and the kernel’s crypto API [seccomp-default]', async () => {
  const seen = await errnos();
  expect(refused(seen)).toEqual([...ALWAYS_REFUSED, ...NEEDS_SYS_ADMIN].sort());
  expect(seen.clone3).toBe(ENOSYS);
  // Calls newer than the profile yield ENOSYS, because C libraries fall back to older calls on ENOSYS but not on
  // EPERM.
  expect(seen.unheardOf).toBe(ENOSYS);
});

test('an unprivileged user cannot create a user namespace', async () => {
  const { stdout, stderr, exitCode } = await engine.docker(
    ...['run', '--rm', '--user', '1000'],
    ...['busybox', 'unshare', '-U', 'id'],
  ).result;
  expect({ stdout, exitCode }).toEqual({ stdout: '', exitCode: 1 });
  expect(stderr).toContain('Operation not permitted');
});

test('an exec is filtered too', async () => {
  const { stdout: id } = await engine.docker('run', '-d', 'busybox', 'sleep', '1000').result;
  const { stderr } = await engine.docker('exec', id.trim(), 'unshare', '-U', 'true').result;
  expect(stderr).toContain('Operation not permitted');
});

test('--cap-add SYS_ADMIN allows namespaces and mounts, and nothing else', async () => {
  const seen = await errnos('--cap-add', 'SYS_ADMIN');
  expect(refused(seen)).toEqual(ALWAYS_REFUSED);
  expect(seen.clone3).not.toBe(ENOSYS);
});

test('other capabilities allow their own calls', async () => {
  expect(refused(await errnos('--cap-add', 'SYS_NICE', '--cap-add', 'SYS_PTRACE'))).toEqual(
    [...ALWAYS_REFUSED, ...NEEDS_SYS_ADMIN].filter((name) => name !== 'mbind' && name !== 'pidfd_getfd').sort(),
  );
});

test.each([
  ['--privileged'],
  ['--security-opt', 'seccomp=unconfined'],
  ['--privileged', '--security-opt', 'seccomp=unconfined'],
])('nothing is filtered with %s %s', async (...options) => {
  const seen = await errnos(...options.filter((option) => option !== undefined));
  // Without a filter the kernel checks capabilities itself, but rejects the bad arguments of these calls first.
  expect(refused(seen)).toEqual([]);
  expect(seen.unshare).toBe(0);
  expect(seen.clone3).not.toBe(ENOSYS);
});

test('a custom profile is applied as given', async () => {
  const profile = join(scratch, 'profile.json');
  writeFileSync(
    profile,
    JSON.stringify({
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['keyctl', 'unshare'], action: 'SCMP_ACT_ERRNO', errnoRet: EPERM }],
    }),
  );
  expect(refused(await errnos('--security-opt', `seccomp=${profile}`))).toEqual(['keyctl', 'unshare']);
  const none = await engine.docker(
    ...['run', '--rm', '--security-opt', `seccomp=${join(scratch, 'none.json')}`],
    ...['busybox', 'true'],
  ).result;
  expect(none.exitCode).toBe(125);
});
