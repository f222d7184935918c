/**
 * A create request becomes a container's definition: defaults, values of the image, mount points, updates, shim spec.
 */
import { describe, expect, test } from 'vitest';
import type { CreateRequest, HostConfig } from '../../src/model/container-config.ts';
import { cgroupDirectory, sliceDirectory } from '../../src/engine/containers/cgroups.ts';
import type { MountPoint } from '../../src/model/container.ts';
import { shimSettings } from '../../src/engine/spec/shim-settings.ts';
import { cgroupsPath } from '../../src/engine/spec/spec.ts';
import { updateOn } from '../../src/engine/spec/update.ts';
import { container, daemon, host, ID, image, prepared, without } from '../support/spec-fixtures.ts';

const MIB = 1 << 20;
const SECOND = 1e9;

describe('inspect shows', () => {
  test('the defaults of a minimal create request', () => {
    const { config, hostConfig, path, args, mounts, warnings, appArmorProfile } = prepared({});
    expect(hostConfig).toMatchObject({
      RestartPolicy: { Name: 'no', MaximumRetryCount: 0 },
      NetworkMode: 'bridge',
      IpcMode: 'private',
      CgroupnsMode: 'host',
      ShmSize: 64 * MIB,
      LogConfig: { Type: 'json-file', Config: {} },
      Runtime: 'runc',
      ConsoleSize: [0, 0],
      PortBindings: {},
      PidsLimit: null,
      OomKillDisable: false,
      MemorySwap: 0,
      Binds: null,
      CapAdd: null,
      Dns: null,
      SecurityOpt: null,
      ReadonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
    });
    expect(hostConfig.MaskedPaths).toContain('/proc/kcore');
    expect(config).toEqual({
      Hostname: ID.slice(0, 12),
      Domainname: '',
      User: '',
      AttachStdin: false,
      AttachStdout: false,
      AttachStderr: false,
      Tty: false,
      OpenStdin: false,
      StdinOnce: false,
      Env: [],
      Cmd: ['true'],
      Image: 'busybox',
      Volumes: null,
      WorkingDir: '',
      Entrypoint: null,
      Labels: {},
    });
    expect({ path, args, mounts, warnings, appArmorProfile }).toEqual({
      path: 'true',
      args: [],
      mounts: [],
      warnings: [],
      appArmorProfile: '',
    });
  });

  test('what the command line sends', () => {
    const { hostConfig, warnings } = prepared({
      Volumes: {},
      Entrypoint: null,
      OnBuild: null,
      Labels: {},
      HostConfig: {
        Binds: null,
        NetworkMode: 'default',
        LogConfig: { Type: '', Config: {} },
        RestartPolicy: { Name: 'no', MaximumRetryCount: 0 },
        AutoRemove: true,
        ConsoleSize: [24, 80],
        MemorySwappiness: -1,
        PidsLimit: 0,
        OomKillDisable: false,
        BlkioWeightDevice: [],
        Devices: [],
        Dns: [],
        ShmSize: 0,
        CgroupnsMode: '',
        IpcMode: '',
      },
    });
    expect(hostConfig).toMatchObject({
      NetworkMode: 'bridge',
      MemorySwappiness: null,
      PidsLimit: null,
      ConsoleSize: [24, 80],
      Dns: [],
      ShmSize: 64 * MIB,
    });
    expect(warnings).toEqual([]);
  });

  test('the defaults of cgroup v2', () => {
    const { hostConfig } = prepared(
      {},
      { host: { ...without('oomKillDisable', 'swappiness', 'cpuRealtime'), cgroup: 'v2' } },
    );
    expect(hostConfig).toMatchObject({ CgroupnsMode: 'private', OomKillDisable: null });
  });

  test("with the daemon's default modes", () => {
    const modal = daemon({ defaultCgroupnsMode: 'private', defaultIpcMode: 'shareable' });
    const modes = (HostConfig: Partial<HostConfig>): Partial<HostConfig> =>
      prepared({ HostConfig }, { daemon: modal }).hostConfig;
    expect(modes({})).toMatchObject({ CgroupnsMode: 'private', IpcMode: 'shareable' });
    expect(modes({ CgroupnsMode: 'host', IpcMode: 'none' })).toMatchObject({ CgroupnsMode: 'host', IpcMode: 'none' });
    // On cgroup v1.
    expect(modes({ Privileged: true })).toMatchObject({ CgroupnsMode: 'host' });
  });

  const cases: [string, Partial<HostConfig>, Partial<HostConfig>][] = [
    ['twice the memory as swap', { Memory: 10 * MIB }, { MemorySwap: 20 * MIB }],
    ['unlimited swap as it is', { Memory: 10 * MIB, MemorySwap: -1 }, { MemorySwap: -1 }],
    [
      'no masked paths for a privileged container',
      { Privileged: true },
      { MaskedPaths: null, ReadonlyPaths: null, SecurityOpt: ['label=disable'] },
    ],
    [
      'no masked or read-only paths when system paths are unconfined',
      { SecurityOpt: ['systempaths=unconfined'] },
      { MaskedPaths: [], ReadonlyPaths: [] },
    ],
    ['requested masked paths', { MaskedPaths: ['/proc/uptime'] }, { MaskedPaths: ['/proc/uptime'] }],
    [
      "the host's processes",
      { PidMode: 'host', SecurityOpt: ['no-new-privileges'] },
      { SecurityOpt: ['no-new-privileges', 'label=disable'] },
    ],
    [
      'ports with their protocol',
      { PortBindings: { '80': [{ HostIp: '', HostPort: '8080' }], '53/UDP': null } },
      { PortBindings: { '80/tcp': [{ HostIp: '', HostPort: '8080' }], '53/udp': null } },
    ],
    [
      'the log driver none without options',
      { LogConfig: { Type: 'none', Config: {} } },
      { LogConfig: { Type: 'none', Config: {} } },
    ],
  ];
  test.each(cases)('%s', (_name, asked, shown) =>
    expect(prepared({ HostConfig: asked }).hostConfig).toMatchObject(shown),
  );

  test('defaults of the daemon: log options, shm size, runtime', () => {
    const ours = daemon({
      logOpts: { 'max-size': '1m', tag: 'a' },
      defaultShmSize: MIB,
      defaultRuntime: 'crun',
      runtimes: { crun: { path: 'crun', args: [] } },
    });
    expect(
      prepared({ HostConfig: { LogConfig: { Type: '', Config: { tag: 'b' } } } }, { daemon: ours }).hostConfig,
    ).toMatchObject({
      LogConfig: { Type: 'json-file', Config: { 'max-size': '1m', tag: 'b' } },
      ShmSize: MIB,
      Runtime: 'crun',
    });
  });

  test('network none for a container without a network', () =>
    expect(prepared({ NetworkDisabled: true }).hostConfig.NetworkMode).toBe('none'));
  test('the host’s name for a container on the host network', () =>
    expect(prepared({ HostConfig: { NetworkMode: 'host' } }).config.Hostname).toBe('machine'));
  test('the request unchanged: it is not mutated', () => {
    const request: CreateRequest = {
      Labels: { a: 'b' },
      HostConfig: { Binds: ['/etc:/x'], LogConfig: { Type: '', Config: {} } },
    };
    const before = structuredClone(request);
    prepared(request, { image: image({ Labels: { c: 'd' } }) }).config.Labels.e = 'f';
    expect(request).toEqual(before);
  });
});

describe('merging with the image', () => {
  const from = image({
    User: 'web',
    Env: ['PATH=/image', 'B=image'],
    Cmd: ['serve'],
    Entrypoint: ['/entry'],
    WorkingDir: '/srv',
    Labels: { a: 'image', b: 'image' },
    StopSignal: 'SIGQUIT',
    ExposedPorts: { '80/tcp': {} },
    Volumes: { '/data': {} },
    Healthcheck: { Test: ['CMD', 'check'], Interval: 5 * SECOND, Retries: 7 },
  });
  const merge = (request: CreateRequest): ReturnType<typeof prepared> =>
    prepared({ Cmd: null, ...request }, { image: from });

  test('takes from the image what the request leaves open', () => {
    expect(merge({}).config).toMatchObject({
      User: 'web',
      WorkingDir: '/srv',
      StopSignal: 'SIGQUIT',
      Cmd: ['serve'],
      Entrypoint: ['/entry'],
      Volumes: { '/data': {} },
    });
    expect(merge({})).toMatchObject({ path: '/entry', args: ['serve'] });
  });
  test('lets the request override entries by name', () => {
    const { config } = merge({
      Env: ['A=own', 'B=own'],
      Labels: { a: 'own' },
      ExposedPorts: { '90/udp': {} },
      User: '0',
    });
    expect(config.Env).toEqual(['A=own', 'B=own', 'PATH=/image']);
    expect(config.Labels).toEqual({ a: 'own', b: 'image' });
    expect(config.ExposedPorts).toEqual({ '80/tcp': {}, '90/udp': {} });
    expect(config.User).toBe('0');
  });

  test('and the request may expose ranges of ports [expose-port-ranges]', () => {
    const { config } = prepared(
      { ExposedPorts: { '53-54/udp': {}, '8000/tcp': {} } },
      { image: image({ ExposedPorts: { '90-92/tcp': {} } }) },
    );
    expect(Object.keys(config.ExposedPorts!).sort()).toEqual([
      '53/udp',
      '54/udp',
      '8000/tcp',
      '90/tcp',
      '91/tcp',
      '92/tcp',
    ]);
  });

  const commands: [string, CreateRequest, path: string, args: string[]][] = [
    ['a command of the request replaces the image’s', { Cmd: ['other'] }, '/entry', ['other']],
    ['an entrypoint of the request drops the image’s command', { Entrypoint: ['/own'] }, '/own', []],
    ['an empty list clears the entrypoint', { Entrypoint: [] }, 'serve', []],
    ['an empty string clears the entrypoint', { Entrypoint: [''], Cmd: ['sh'] }, 'sh', []],
    [
      'strings count as lists of one',
      { Entrypoint: '/own' as unknown as string[], Cmd: 'word' as unknown as string[] },
      '/own',
      ['word'],
    ],
  ];
  test.each(commands)('%s', (_name, request, path, args) => expect(merge(request)).toMatchObject({ path, args }));

  test('merges a health check field by field', () => {
    expect(merge({ Healthcheck: { Timeout: SECOND, Retries: 2 } }).config.Healthcheck).toEqual({
      Test: ['CMD', 'check'],
      Interval: 5 * SECOND,
      Timeout: SECOND,
      Retries: 2,
    });
    expect(merge({ Healthcheck: { Test: ['NONE'] } }).config.Healthcheck!.Test).toEqual(['NONE']);
    expect(merge({}).config.Healthcheck).toMatchObject({ Retries: 7 });
  });
});

describe('mount points', () => {
  const points = (HostConfig: Partial<HostConfig>, request: CreateRequest = {}) =>
    prepared({ ...request, HostConfig }).mounts;

  test.each([
    [
      '/etc:/x',
      {
        type: 'bind',
        source: '/etc',
        destination: '/x',
        mode: '',
        rw: true,
        propagation: 'rprivate',
        name: '',
        driver: '',
      },
    ],
    [
      '/etc/:/x/:ro,rslave',
      { type: 'bind', source: '/etc', destination: '/x', mode: 'ro,rslave', rw: false, propagation: 'rslave' },
    ],
    ['named:/x', { type: 'volume', name: 'named', source: '', driver: 'local', mode: 'z', rw: true, propagation: '' }],
    ['named:/x:ro,nocopy', { type: 'volume', name: 'named', mode: 'ro,nocopy', rw: false }],
    ['/x', { type: 'volume', name: '', destination: '/x', mode: 'z' }],
    // Our own roots lie below these sources, or the reverse: what we unmount must disappear in the container too.
    ['/:/host', { type: 'bind', source: '/', propagation: 'rslave' }],
    ['/var/lib:/x:ro', { propagation: 'rslave' }],
    ['/var/lib/holdfast/volumes/v/_data:/x', { propagation: 'rslave' }],
    ['/var/lib/holdfast2:/x', { propagation: 'rprivate' }],
  ] as [string, object][])('%s', (bind, point) => expect(points({ Binds: [bind] })).toMatchObject([point]));

  test('are made of every mount type', () => {
    expect(
      points({
        Mounts: [
          { Type: 'bind', Source: '/etc', Target: '/a', ReadOnly: true, BindOptions: { Propagation: 'rshared' } },
          { Type: 'volume', Target: '/b' },
          { Type: 'tmpfs', Target: '/c' },
        ],
      }),
    ).toMatchObject([
      { type: 'bind', source: '/etc', rw: false, propagation: 'rshared' },
      { type: 'volume', name: '', driver: 'local' },
      { type: 'tmpfs', destination: '/c', source: '' },
    ]);
  });
  test('volumes of the configuration give way to all other mounts', () => {
    expect(
      points({ Binds: ['/etc:/a'], Tmpfs: { '/b': '' } }, { Volumes: { '/a/': {}, '/b': {}, '/c': {} } }).map(
        (point) => [point.type, point.destination],
      ),
    ).toEqual([
      ['bind', '/a'],
      ['volume', '/c'],
    ]);
  });

  const volume = (destination: string, changes: Partial<MountPoint> = {}): MountPoint => ({
    type: 'volume',
    name: 'donated',
    source: '/volumes/donated',
    destination,
    driver: 'local',
    mode: 'z',
    rw: true,
    propagation: '',
    ...changes,
  });
  const donors: Record<string, MountPoint[]> = {
    one: [volume('/a'), volume('/b', { rw: false })],
    two: [volume('/a', { name: 'second', source: '/volumes/second' })],
  };
  const from = (VolumesFrom: string[], HostConfig: Partial<HostConfig> = {}) =>
    prepared(
      { Volumes: { '/a': {} }, HostConfig: { VolumesFrom, ...HostConfig } },
      { mountsOf: (reference) => donors[reference]! },
    ).mounts.map(({ name, source, destination, rw, mode }) => ({ name, source, destination, rw, mode }));
  test('mounts of volumes-from come before the volumes of image and request', () => {
    expect(from(['one'])).toEqual([
      { name: 'donated', source: '/volumes/donated', destination: '/a', rw: true, mode: '' },
      { name: 'donated', source: '/volumes/donated', destination: '/b', rw: false, mode: '' },
    ]);
    expect(from(['one:ro']).map(({ rw }) => rw)).toEqual([false, false]);
    // What the source container may not write, this container may not write either.
    for (const mode of ['rw', 'z', 'rw,Z']) expect(from([`one:${mode}`]).map(({ rw }) => rw)).toEqual([true, false]);
    expect(from(['one', 'two']).find(({ destination }) => destination === '/a')).toMatchObject({ name: 'second' });
    expect(from(['one'], { Binds: ['/etc:/a'] })).toMatchObject([
      { source: '/etc', destination: '/a' },
      { destination: '/b' },
    ]);
    for (const mode of ['rprivate', 'nocopy', 'x', 'ro,rw'])
      expect(() => from([`one:${mode}`])).toThrow(`invalid mode: ${mode}`);
  });
});

describe('update', () => {
  const change = (before: Partial<HostConfig>, changes: Partial<HostConfig>) =>
    updateOn(host(), container({ HostConfig: before }), changes);

  test('applies limits and passes all of them to the runtime', () => {
    const { hostConfig, resources, warnings } = change(
      { Memory: 10 * MIB, CpuShares: 5 },
      { Memory: 16 * MIB, PidsLimit: 7, NanoCpus: 5e8 },
    );
    expect(hostConfig).toMatchObject({
      Memory: 16 * MIB,
      MemorySwap: 20 * MIB,
      PidsLimit: 7,
      NanoCpus: 5e8,
      CpuShares: 5,
    });
    expect(resources).toEqual({
      memory: { limit: 16 * MIB, swap: 20 * MIB },
      cpu: { shares: 5, period: 100_000, quota: 50_000 },
      pids: { limit: 7 },
    });
    expect(warnings).toEqual([]);
  });
  test('removes the limit on processes', () =>
    expect(change({ PidsLimit: 5 }, { PidsLimit: -1 })).toMatchObject({
      hostConfig: { PidsLimit: 0 },
      resources: { pids: { limit: -1 } },
    }));
  test('changes the restart policy', () => {
    expect(
      change({}, { RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 3 } }).hostConfig.RestartPolicy,
    ).toEqual({ Name: 'on-failure', MaximumRetryCount: 3 });
    expect(change({}, { RestartPolicy: { Name: '', MaximumRetryCount: 0 } }).hostConfig.RestartPolicy.Name).toBe('no');
  });
  test('rejects a field that cannot change, and names it', () => {
    expect(
      change(
        {},
        {
          Binds: ['/a:/b'],
          Ulimits: [{ Name: 'nofile', Soft: 1, Hard: 1 }],
          Devices: [],
          MemorySwappiness: -1,
          Memory: 0,
        },
      ).warnings,
    ).toEqual(['Binds cannot be updated. Binds discarded.', 'Ulimits cannot be updated. Ulimits discarded.']);
  });
  test('ignores what the command line always sends', () => {
    const along = {
      Memory: 10 * MIB,
      MemorySwap: -1,
      CgroupParent: '',
      BlkioWeightDevice: null,
      CpuRealtimePeriod: 0,
      Devices: null,
      OomKillDisable: null,
      Ulimits: null,
      RestartPolicy: { Name: '', MaximumRetryCount: 0 },
    };
    expect(change({}, along).warnings).toEqual([]);
  });

  const refused: [string, Partial<HostConfig>, Partial<HostConfig>, string][] = [
    ['too little', {}, { Memory: 1 }, 'Minimum memory limit allowed is 6MB'],
    [
      'memory above the swap',
      { Memory: 10 * MIB },
      { Memory: 30 * MIB },
      `Cannot update container ${ID}: Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time`,
    ],
    [
      'CPUs in addition to a quota',
      { CpuQuota: 5000 },
      { NanoCpus: 1e9 },
      `Cannot update container ${ID}: Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set`,
    ],
    [
      'a quota in addition to CPUs',
      { NanoCpus: 1e9 },
      { CpuQuota: 5000 },
      `Cannot update container ${ID}: Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set`,
    ],
    [
      'a restart policy with auto-remove',
      { AutoRemove: true },
      { RestartPolicy: { Name: 'always', MaximumRetryCount: 0 } },
      `Cannot update container ${ID}: Restart policy cannot be updated because AutoRemove is enabled for the container`,
    ],
    [
      'an unknown restart policy',
      {},
      { RestartPolicy: { Name: 'nope', MaximumRetryCount: 0 } },
      "invalid restart policy: unknown policy 'nope'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
    ],
  ];
  test.each(refused)('rejects %s', (_name, before, changes, text) =>
    expect(() => change(before, changes)).toThrow(text),
  );
});

describe('the shim’s spec', () => {
  const parts = (request: CreateRequest) => shimSettings(container(request), '/the/log');

  test('has defaults', () => {
    expect(parts({})).toEqual({
      log: { driver: 'json-file', path: '/the/log', maxSize: 0, maxFile: 1, attrs: {} },
      health: null,
      stopSignal: 15,
      stopTimeout: 10,
      restart: { name: 'no', maximumRetryCount: 0 },
      autoRemove: false,
      tty: false,
      openStdin: false,
      stdinOnce: false,
      consoleSize: [0, 0],
    });
  });
  test('says how to stop', () =>
    expect(parts({ StopSignal: 'RTMIN+3', StopTimeout: -7 })).toMatchObject({ stopSignal: 37, stopTimeout: -1 }));
  test('says when to restart', () => {
    expect(parts({ HostConfig: { RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 4 } } }).restart).toEqual({
      name: 'on-failure',
      maximumRetryCount: 4,
    });
  });
  test('says where to log', () => {
    const LogConfig = {
      Type: 'json-file',
      Config: {
        'max-size': '10m',
        'max-file': '3',
        labels: 'one,none',
        'labels-regex': '^t',
        env: 'A',
        'env-regex': '^B',
        tag: '{{.Name}}/{{.ID}}/{{ .ImageName }}',
      },
    };
    expect(
      parts({ Labels: { one: '1', two: '2', other: '3' }, Env: ['A=a=b', 'B2=c', 'C=d'], HostConfig: { LogConfig } })
        .log,
    ).toEqual({
      driver: 'json-file',
      path: '/the/log',
      maxSize: 10_000_000,
      maxFile: 3,
      attrs: { A: 'a=b', B2: 'c', one: '1', tag: `tester/${ID.slice(0, 12)}/busybox`, two: '2' },
    });
    expect(parts({ HostConfig: { LogConfig: { Type: 'none', Config: {} } } }).log).toEqual({ driver: 'none' });
  });

  test.each([
    ['the test NONE', { Test: ['NONE'] }, null],
    ['an empty test', { Test: [] }, null],
    [
      'a command',
      { Test: ['CMD', 'a', 'b'] },
      { argv: ['a', 'b'], interval: 30_000, timeout: 30_000, startPeriod: 0, startInterval: 5000, retries: 3 },
    ],
    [
      "a shell's",
      {
        Test: ['CMD-SHELL', 'a | b'],
        Interval: SECOND,
        Timeout: 2 * SECOND,
        StartPeriod: 3 * SECOND,
        StartInterval: 1_500_000,
        Retries: 9,
      },
      {
        argv: ['/bin/sh', '-c', 'a | b'],
        interval: 1000,
        timeout: 2000,
        startPeriod: 3000,
        startInterval: 2,
        retries: 9,
      },
    ],
  ])('has the right probe for %s', (_name, Healthcheck, spec) => expect(parts({ Healthcheck }).health).toEqual(spec));
  test('runs the probe in the image’s shell', () => {
    expect(parts({ Shell: ['/bin/ash', '-ec'], Healthcheck: { Test: ['CMD-SHELL', 'x'] } }).health!.argv).toEqual([
      '/bin/ash',
      '-ec',
      'x',
    ]);
  });
});

test('cgroup paths follow the cgroup driver and the parent', () => {
  const of = (CgroupParent: string, config: Parameters<typeof daemon>[0]): string =>
    cgroupsPath(container({ HostConfig: { CgroupParent } }, { daemon: daemon(config) }), daemon(config));
  expect(of('', {})).toBe(`/holdfast-test/${ID}`);
  expect(of('mine', {})).toBe(`/mine/${ID}`);
  expect(of('', { cgroupDriver: 'systemd' })).toBe(`system.slice:holdfast:${ID}`);
  expect(of('my.slice', { cgroupDriver: 'systemd' })).toBe(`my.slice:holdfast:${ID}`);
  // The directory below each hierarchy's mount point.
  expect(cgroupDirectory(of('', {}))).toBe(`/holdfast-test/${ID}`);
  expect(cgroupDirectory(of('my.slice', { cgroupDriver: 'systemd' }))).toBe(`/my.slice/holdfast-${ID}.scope`);
  expect(cgroupDirectory(of('my-own-one.slice', { cgroupDriver: 'systemd' }))).toBe(
    `/my.slice/my-own.slice/my-own-one.slice/holdfast-${ID}.scope`,
  );
  expect(['-.slice', 'a.slice', '/a/b', 'a/b.slice'].map(sliceDirectory)).toEqual([
    '/',
    '/a.slice',
    '/a/b',
    '/a/b.slice',
  ]);
});
