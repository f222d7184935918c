/** Values in a container's spec: signals, environment, users, seccomp, devices, limits, tmpfs. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { capabilitiesFor, capabilitySet, DEFAULT_CAPABILITIES } from '../../src/engine/spec/capabilities.ts';
import { containerDevices } from '../../src/engine/spec/devices.ts';
import { environment, override } from '../../src/engine/spec/env.ts';
import { CAPABILITIES } from '../../src/engine/spec/host.ts';
import { ociJson, UNLIMITED } from '../../src/protocol/oci-json.ts';
import { convert, seccompFilter } from '../../src/engine/spec/seccomp.ts';
import { withDockersGuards } from '../../src/engine/spec/seccomp-guards.ts';
import { parseSignal } from '../../src/engine/spec/signals.ts';
import { parseSize } from '../../src/engine/spec/sizes.ts';
import { tmpfsOptions } from '../../src/engine/spec/tmpfs.ts';
import { rlimits } from '../../src/engine/spec/ulimits.ts';
import { lookUpUser } from '../../src/engine/spec/user.ts';
import { readInRoot } from '../../src/sys/inroot.ts';
import { host, prepared } from '../support/spec-fixtures.ts';

describe('parsing a signal', () => {
  test.each([
    ['TERM', 15],
    ['SIGTERM', 15],
    ['sigkill', 9],
    ['15', 15],
    ['64', 64],
    ['RTMIN', 34],
    ['SIGRTMIN+3', 37],
    ['rtmax-1', 63],
    ['RTMAX', 64],
    ['CLD', 17],
    ['USR1', 10],
  ])('accepts %s', (text, number) => expect(parseSignal(text)).toBe(number));
  test.each(['', '0', '65', '-9', 'SIG', 'NOPE', 'RTMIN+31', 'RTMAX-40', '1.5', '0x9'])('rejects %j', (text) =>
    expect(() => parseSignal(text)).toThrow(`invalid signal: ${text}`),
  );
});

test('sizes have binary or decimal units and may be fractions', () => {
  expect(parseSize('10m', 1000)).toBe(10_000_000);
  expect(parseSize('10m', 1024)).toBe(10 << 20);
  expect(parseSize('1.5 GiB', 1024)).toBe(1.5 * 2 ** 30);
  expect(parseSize('7', 1000)).toBe(7);
  for (const text of ['', 'm', '-1', '1x', '1 2']) expect(parseSize(text, 1000)).toBeUndefined();
});

describe('environment', () => {
  const { config } = prepared({ Env: ['A=1', 'PATH=/own', 'B'] });
  test('consists of defaults, the container’s own and HOME', () => {
    expect(environment(config, { tty: true, home: '/root' })).toEqual([
      'PATH=/own',
      `HOSTNAME=${config.Hostname}`,
      'TERM=xterm',
      'A=1',
      'HOME=/root',
    ]);
  });
  test('of an exec overrides the container’s and can remove variables', () => {
    expect(environment(config, { tty: false, home: '/', extra: ['A=2', 'HOSTNAME', 'HOME=/else'] })).toEqual([
      'PATH=/own',
      'A=2',
      'HOME=/else',
    ]);
  });
  test('has every name once, with its last value', () => {
    const entry = fc
      .tuple(fc.constantFrom('A', 'B', 'C'), fc.option(fc.string(), { nil: undefined }))
      .map(([name, value]) => (value === undefined ? name : `${name}=${value}`));
    fc.assert(
      fc.property(fc.array(entry), (entries) => {
        const result = override([], entries);
        for (const name of ['A', 'B', 'C']) {
          const last = entries.filter((each) => each === name || each.startsWith(`${name}=`)).at(-1);
          expect(result.filter((each) => each.startsWith(`${name}=`))).toEqual(last?.includes('=') ? [last] : []);
        }
      }),
    );
  });
});

describe('capabilities', () => {
  const set = (CapAdd: string[] | null, CapDrop: string[] | null, Privileged = false) =>
    capabilitySet({ CapAdd, CapDrop, Privileged }, host());
  test('consist of the defaults, with some added and some dropped', () => {
    expect(set(null, null)).toEqual(DEFAULT_CAPABILITIES);
    expect(set(['net_admin'], ['CAP_CHOWN', 'mknod'])).toEqual([
      ...DEFAULT_CAPABILITIES.filter((name) => name !== 'CAP_CHOWN' && name !== 'CAP_MKNOD'),
      'CAP_NET_ADMIN',
    ]);
    expect(set(['CHOWN'], ['all'])).toEqual(['CAP_CHOWN']);
    expect(set(['ALL'], ['SYS_ADMIN'])).toEqual(
      CAPABILITIES.filter((name) => name !== 'CAP_SYS_ADMIN' && name !== 'CAP_SYS_RESOURCE'),
    );
  });
  test('of a privileged container are all that the daemon has', () =>
    expect(set(null, null, true)).toEqual(host().capabilities));
  test('of a user other than root are only in the bounding set', () => {
    expect(capabilitiesFor(0, ['CAP_KILL'])).toEqual({
      bounding: ['CAP_KILL'],
      effective: ['CAP_KILL'],
      permitted: ['CAP_KILL'],
    });
    expect(capabilitiesFor(1, ['CAP_KILL'])).toEqual({ bounding: ['CAP_KILL'] });
  });
});

describe('looking up a user in a rootfs', () => {
  let root = '';
  beforeAll(() => {
    root = mkdtempSync(join(tmpdir(), 'hf-spec-user-'));
    mkdirSync(join(root, 'etc'));
    writeFileSync(
      join(root, 'etc/passwd'),
      'root:x:0:0:root:/root:/bin/sh\n# web:x:1:1::/:\nweb:x:100:101:Web:/srv:/bin/sh\nbad line\nlost:x:200:200\n',
    );
    writeFileSync(
      join(root, 'etc/group'),
      'root:x:0:\nweb:x:101:\naudio:x:29:web,other\nvideo:x:44:other, web\nnumbers:x:7:\n',
    );
  });
  afterAll(() => rmSync(root, { recursive: true }));

  test.each([
    ['', [], { uid: 0, gid: 0, additionalGids: [0], home: '/root' }],
    ['root', [], { uid: 0, gid: 0, additionalGids: [0], home: '/root' }],
    ['web', [], { uid: 100, gid: 101, additionalGids: [101, 29, 44], home: '/srv' }],
    ['100', [], { uid: 100, gid: 101, additionalGids: [101, 29, 44], home: '/srv' }],
    ['web:audio', [], { uid: 100, gid: 29, additionalGids: [29], home: '/srv' }],
    ['web:5', [], { uid: 100, gid: 5, additionalGids: [5], home: '/srv' }],
    ['1234:5678', [], { uid: 1234, gid: 5678, additionalGids: [5678], home: '/' }],
    ['1234', ['audio', '29', '4321'], { uid: 1234, gid: 0, additionalGids: [0, 29, 4321], home: '/' }],
    ['lost', [], { uid: 200, gid: 200, additionalGids: [200], home: '/' }],
    [':audio', [], { uid: 0, gid: 29, additionalGids: [29], home: '/root' }],
  ])('finds %j with groups %j', (who, added, user) => expect(lookUpUser(root, who, added)).toEqual(user));

  test.each([
    ['nobody', [], 'unable to find user nobody: no matching entries in passwd file'],
    ['root:nope', [], 'unable to find group nope: no matching entries in group file'],
    ['root', ['nope'], 'unable to find group nope: no matching entries in group file'],
    ['4294967295', [], 'uids and gids must be in range 0-2147483647'],
    ['-1', [], 'uids and gids must be in range 0-2147483647'],
    ['0:-5', [], 'uids and gids must be in range 0-2147483647'],
  ])('fails for %j with groups %j', (who, added, text) => expect(() => lookUpUser(root, who, added)).toThrow(text));

  test('lines are read as Go reads them, and those beyond a megabyte not at all', () => {
    const odd = mkdtempSync(join(tmpdir(), 'hf-spec-odd-'));
    const users = (passwd: string, group = ''): void => {
      mkdirSync(join(odd, 'etc'), { recursive: true });
      writeFileSync(join(odd, 'etc/passwd'), passwd);
      writeFileSync(join(odd, 'etc/group'), group);
    };
    try {
      users(' a:x:+07:08:::\r\nxa:x:1:1\na:x:9:9\nb:x:5 \nü:x:6:6', 'g:x:3\ng2:x:4:aa,b\ng3:x:5: a ,b:c\n#g4:x:6:a');
      expect(lookUpUser(odd, 'a', [])).toEqual({ uid: 7, gid: 8, additionalGids: [8, 5], home: '/' });
      expect(lookUpUser(odd, '7', ['g', '4'])).toMatchObject({ uid: 7, additionalGids: [8, 5, 3, 4] });
      expect(lookUpUser(odd, 'b', [])).toMatchObject({ uid: 5, gid: 0 });
      expect(lookUpUser(odd, 'ü', [])).toMatchObject({ uid: 6 });
      expect(lookUpUser(odd, '5', [])).toMatchObject({ uid: 5, additionalGids: [0, 4, 5] });
      // The last line is cut off after `late:x:1`.
      users(`${'#'.repeat(2 ** 20 - 9)}\nlate:x:12:12::/:\n`);
      expect(() => lookUpUser(odd, 'late', [])).toThrow('unable to find user late');
    } finally {
      rmSync(odd, { recursive: true });
    }
  });

  test('files that a container has filled do not hold the daemon [passwd-huge]', () => {
    const full = mkdtempSync(join(tmpdir(), 'hf-spec-full-'));
    const fill = (line: string): string => line.repeat(Math.floor(2 ** 22 / line.length));
    try {
      mkdirSync(join(full, 'etc'));
      for (const [passwd, group] of [
        ['a::1\n', 'a::1\n'],
        ['root:x:0:0\n', 'g:x:5:root\n'],
        ['root:\n', '::1:root\n'],
        ['\n', `${'a,'.repeat(9)}\n`],
      ] as const) {
        writeFileSync(join(full, 'etc/passwd'), fill(passwd));
        writeFileSync(join(full, 'etc/group'), fill(group));
        const began = process.cpuUsage();
        lookUpUser(full, '0', []);
        const { user, system } = process.cpuUsage(began);
        expect((user + system) / 1000).toBeLessThan(500);
      }
    } finally {
      rmSync(full, { recursive: true });
    }
  });

  test('does not follow links out of the rootfs [passwd-links]', () => {
    const trap = mkdtempSync(join(tmpdir(), 'hf-spec-trap-'));
    try {
      for (const target of ['/etc', '../../../../../../etc', `${root}/etc`]) {
        rmSync(join(trap, 'etc'), { force: true });
        symlinkSync(target, join(trap, 'etc'));
        // The host and the other rootfs have this file; in this rootfs the link points at itself or at nothing.
        expect(readInRoot(trap, '/etc/passwd', 100)).toBeUndefined();
        expect(() => lookUpUser(trap, 'daemon', [])).toThrow('unable to find user daemon');
      }
      rmSync(join(trap, 'etc'));
      mkdirSync(join(trap, 'etc'));
      mkdirSync(join(trap, 'real'));
      writeFileSync(join(trap, 'real/passwd'), 'inside:x:9:9::/:\n');
      symlinkSync('/real/passwd', join(trap, 'etc/passwd'));
      expect(lookUpUser(trap, 'inside', []).uid).toBe(9);
    } finally {
      rmSync(trap, { recursive: true });
    }
  });

  test('does not open what is not a regular file', () => {
    const trap = mkdtempSync(join(tmpdir(), 'hf-spec-fifo-'));
    try {
      mkdirSync(join(trap, 'etc'));
      execFileSync('mkfifo', [join(trap, 'etc/passwd')]);
      mkdirSync(join(trap, 'etc/group'));
      expect(lookUpUser(trap, '5:6', [])).toMatchObject({ uid: 5, gid: 6 });
    } finally {
      rmSync(trap, { recursive: true });
    }
  });
});

describe('seccomp', () => {
  const rule = (names: string[], rest: object = {}) => ({ names, action: 'SCMP_ACT_ALLOW', args: null, ...rest });
  const profile = {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: 38,
    defaultErrno: 'ENOSYS',
    archMap: [
      { architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86', 'SCMP_ARCH_X32'] },
      { architecture: 'SCMP_ARCH_AARCH64', subArchitectures: ['SCMP_ARCH_ARM'] },
    ],
    syscalls: [
      rule(['always'], { comment: 'x', includes: {}, excludes: {}, args: [] }),
      rule(['one arch'], { includes: { arches: ['amd64', 'x32'] } }),
      rule(['other arch'], { includes: { arches: ['s390x'] } }),
      rule(['both caps'], { includes: { caps: ['CAP_KILL', 'CAP_CHOWN'] } }),
      rule(['a cap too many'], { includes: { caps: ['CAP_KILL', 'CAP_SYS_ADMIN'] } }),
      rule(['unless cap'], { excludes: { caps: ['CAP_SYS_ADMIN', 'CAP_KILL'] } }),
      rule(['unless absent cap'], { excludes: { caps: ['CAP_SYS_ADMIN'] } }),
      rule(['new kernel'], { includes: { minKernel: '6.2' } }),
      rule(['old kernel'], { includes: { minKernel: '4.8' } }),
      { name: 'single', action: 'SCMP_ACT_ERRNO', errno: 'EPERM' },
      rule(['with args'], { args: [{ index: 0, value: 8, valueTwo: 0, op: 'SCMP_CMP_EQ' }], errnoRet: 1 }),
    ],
  };
  test('keeps the rules that apply to architecture, capabilities and kernel', () => {
    const filter = convert(profile, ['CAP_KILL', 'CAP_CHOWN'], host());
    expect(filter.syscalls.flatMap((entry) => entry.names)).toEqual([
      'always',
      'one arch',
      'both caps',
      'unless absent cap',
      'old kernel',
      'single',
      'with args',
    ]);
    expect(filter).toMatchObject({
      defaultAction: 'SCMP_ACT_ERRNO',
      defaultErrnoRet: 38,
      architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
    });
    expect(Object.keys(filter)).not.toContain('defaultErrno');
    expect(filter.syscalls[0]).toEqual({ names: ['always'], action: 'SCMP_ACT_ALLOW' });
    expect(filter.syscalls[5]).toEqual({ names: ['single'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 });
  });

  const of = (SecurityOpt: string[], Privileged = false, path = '/usr/share/containers/seccomp.json') =>
    seccompFilter({ SecurityOpt, Privileged }, path, DEFAULT_CAPABILITIES, host());
  test('selects the profile', () => {
    expect(of([])!.syscalls.length).toBeGreaterThan(10);
    expect(of(['seccomp=unconfined'])).toBeUndefined();
    expect(of([], true)).toBeUndefined();
    expect(of([], false, 'unconfined')).toBeUndefined();
    expect(of(['seccomp={"defaultAction":"SCMP_ACT_ALLOW"}'], true)).toEqual({
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [],
    });
    expect(() => of([], false, '/not/there')).toThrow('cannot use the seccomp profile /not/there');
    expect(of(['seccomp=builtin'], false, 'unconfined')).toEqual(of([]));
  });

  test('Docker’s guards replace the profile’s rules for their calls', () => {
    const data = (names: string[], action = 'SCMP_ACT_ALLOW') => ({ names, action });
    const base = {
      defaultAction: 'SCMP_ACT_ERRNO',
      defaultErrnoRet: 38,
      syscalls: [
        data(['read', 'unshare', 'mount', 'keyctl', 'clone', 'socket', 'bpf']),
        data(['vmsplice'], 'SCMP_ACT_ERRNO'),
      ],
    };
    const verdicts = (caps: string[], name: string) =>
      withDockersGuards(base, caps, 'amd64')
        .syscalls.filter((entry) => entry.names.includes(name))
        .map(({ action, errnoRet, args }) => (args ? { action, errnoRet, args } : { action, errnoRet }));
    // A call that no rule names is rejected with EPERM, whatever the profile's default is.
    const { defaultAction, defaultErrnoRet } = withDockersGuards(base, [], 'amd64');
    expect({ defaultAction, defaultErrnoRet }).toEqual({ defaultAction: 'SCMP_ACT_ERRNO', defaultErrnoRet: undefined });
    const [allowed, refused] = [[{ action: 'SCMP_ACT_ALLOW', errnoRet: undefined }], []];
    for (const name of ['read', 'vmsplice']) expect(verdicts([], name)).toEqual(allowed);
    for (const name of ['unshare', 'mount', 'keyctl', 'bpf', 'reboot'])
      expect(verdicts(['CAP_CHOWN'], name)).toEqual(refused);
    for (const name of ['unshare', 'mount', 'clone', 'clone3', 'bpf'])
      expect(verdicts(['CAP_SYS_ADMIN'], name)).toEqual(allowed);
    for (const [cap, name] of [
      ['CAP_BPF', 'bpf'],
      ['CAP_SYS_BOOT', 'reboot'],
      ['CAP_SYSLOG', 'syslog'],
    ] as const)
      expect(verdicts([cap], name)).toEqual(allowed);
    expect(verdicts(['CAP_SYS_ADMIN'], 'keyctl')).toEqual(refused);
    expect(verdicts([], 'clone3')).toEqual([{ action: 'SCMP_ACT_ERRNO', errnoRet: 38 }]);
    expect(verdicts([], 'clone')).toEqual([
      {
        action: 'SCMP_ACT_ALLOW',
        errnoRet: undefined,
        args: [{ index: 0, value: 0x7e02_0000, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }],
      },
    ]);
    expect(verdicts([], 'socket')).toEqual([
      { action: 'SCMP_ACT_ALLOW', errnoRet: undefined, args: [{ index: 0, value: 38, op: 'SCMP_CMP_LT' }] },
      { action: 'SCMP_ACT_ALLOW', errnoRet: undefined, args: [{ index: 0, value: 39, op: 'SCMP_CMP_EQ' }] },
      { action: 'SCMP_ACT_ALLOW', errnoRet: undefined, args: [{ index: 0, value: 40, op: 'SCMP_CMP_GT' }] },
    ]);
    // The profile's own rejections are removed too, except those that restrict another rule.
    const some = [{ index: 0, value: 8, valueTwo: 0, op: 'SCMP_CMP_EQ' as const }];
    const twice = {
      ...base,
      syscalls: [
        { ...data(['acct', 'personality'], 'SCMP_ACT_ERRNO'), errnoRet: 1 },
        { ...data(['personality']), args: some },
        { ...data(['nice'], 'SCMP_ACT_ERRNO'), errnoRet: 1 },
      ],
    };
    expect(withDockersGuards(twice, [], 'amd64').syscalls.slice(0, 2)).toEqual(twice.syscalls.slice(0, 2));
    expect(withDockersGuards(twice, [], 'amd64').syscalls.flatMap(({ names }) => names)).not.toContain('nice');
    // A profile that was configured for the daemon stays unchanged.
    expect(
      seccompFilter({ SecurityOpt: [`seccomp=${JSON.stringify(base)}`], Privileged: false }, '', [], host())!.syscalls,
    ).toHaveLength(2);
  });
});

describe('devices', () => {
  const of = (wanted: Partial<Parameters<typeof containerDevices>[0]>) =>
    containerDevices({ Devices: null, DeviceCgroupRules: null, DeviceRequests: null, Privileged: false, ...wanted });
  test('rules are Docker’s, then the container’s', () => {
    const { devices, rules } = of({
      Devices: [{ PathOnHost: '/dev/zero', PathInContainer: '/dev/nothing', CgroupPermissions: 'r' }],
      DeviceCgroupRules: ['c 10:* rw', 'a'],
    });
    expect(rules[0]).toEqual({ allow: false, access: 'rwm' });
    expect(rules.slice(-3)).toEqual([
      { allow: true, type: 'c', major: 1, minor: 5, access: 'r' },
      { allow: true, type: 'c', major: 10, minor: -1, access: 'rw' },
      { allow: true, type: 'a', major: -1, minor: -1, access: 'rwm' },
    ]);
    expect(devices).toMatchObject([{ path: '/dev/nothing', type: 'c', major: 1, minor: 5, uid: 0, gid: 0 }]);
  });
  test('are all of the host’s for a privileged container', () => {
    const { devices, rules } = of({ Privileged: true });
    const paths = devices.map((device) => device.path);
    expect(rules).toEqual([{ allow: true, access: 'rwm' }]);
    expect(paths).toContain('/dev/null');
    expect(paths.filter((path) => path === '/dev/console' || path.startsWith('/dev/pts/'))).toEqual([]);
  });
  test('must exist and be a device', () => {
    expect(() =>
      of({ Devices: [{ PathOnHost: '/dev/nope', PathInContainer: '/dev/nope', CgroupPermissions: 'rwm' }] }),
    ).toThrow('error gathering device information while adding custom device "/dev/nope": no such file or directory');
    expect(() =>
      of({ Devices: [{ PathOnHost: '/etc/hostname', PathInContainer: '/x', CgroupPermissions: 'rwm' }] }),
    ).toThrow('not a device node');
  });
});

test('limits are as requested; defaults are lowered to what is possible', () => {
  expect(
    rlimits(
      [{ Name: 'core', Soft: 0, Hard: -1 }],
      { core: { Name: 'core', Soft: 1, Hard: 1 }, nofile: { Name: 'nofile', Soft: 5, Hard: 1 << 30 } },
      host(),
    ),
  ).toEqual([
    { type: 'RLIMIT_CORE', soft: 0, hard: UNLIMITED },
    { type: 'RLIMIT_NOFILE', soft: 5, hard: 20_000 },
  ]);
});

test('unlimited is written as the largest unsigned 64-bit number', () => {
  expect(ociJson({ soft: UNLIMITED, text: `${UNLIMITED}` })).toBe(
    `{"soft":18446744073709551615,"text":"${UNLIMITED}"}`,
  );
  // The value goes from the daemon to the shim as plain JSON.
  expect(ociJson(JSON.parse(JSON.stringify([UNLIMITED])))).toBe('[18446744073709551615]');
});

test.each([
  ['9223372036854775807', '9223372036854775807'],
  ['18446744073709551615', '18446744073709551615'],
  ['-9223372036854775808', '-9223372036854775808'],
  ['9007199254740993', '9007199254740992'],
  ['1152921504606846976', '1152921504606846976'],
  ['-1', '-1'],
  ['0.5', '0.5'],
  ['4294967295', '4294967295'],
])('%s reaches the runtime as %s', (given, written) =>
  expect(ociJson({ limit: JSON.parse(given) as number })).toBe(`{"limit":${written}}`),
);

test('the last tmpfs option of a kind applies', () => {
  expect(tmpfsOptions('')).toEqual(['noexec', 'nosuid', 'nodev', 'rprivate']);
  expect(tmpfsOptions('size=1m,exec,suid,mode=1770,size=2m,rw')).toEqual([
    'nodev',
    'rprivate',
    'exec',
    'suid',
    'mode=1770',
    'size=2m',
    'rw',
  ]);
});
