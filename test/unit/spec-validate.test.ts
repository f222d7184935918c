/** What create refuses, and what it warns of, in Docker's words. */
import { describe, expect, test } from 'vitest';
import type { CreateRequest, HostConfig } from '../../src/model/container-config.ts';
import { InvalidParameter, NotFound } from '../../src/model/errors.ts';
import { Paths } from '../../src/engine/paths.ts';
import { prepareOn } from '../../src/engine/spec/prepare.ts';
import { daemon, host, ID, image, prepared, without, type Options } from '../support/spec-fixtures.ts';

const MIB = 1 << 20;

function refusal(request: CreateRequest, options?: Options): Error {
  try {
    prepared(request, options);
  } catch (error) {
    return error as Error;
  }
  throw new Error('nothing was refused');
}

type Case = [name: string, hostConfig: Partial<HostConfig>, text: string];

describe('HostConfig is refused', () => {
  const mount = (fields: Record<string, unknown>): Partial<HostConfig> => ({
    Mounts: [fields as unknown as NonNullable<HostConfig['Mounts']>[number]],
  });
  const cases: Case[] = [
    // Memory
    ['memory below 6 MB', { Memory: 1024 }, 'Minimum memory limit allowed is 6MB'],
    ['negative memory', { Memory: -1 }, 'Minimum memory limit allowed is 6MB'],
    [
      'swap without memory',
      { MemorySwap: 100 * MIB },
      'You should always set the Memory limit when using Memoryswap limit, see usage',
    ],
    [
      'swap below memory',
      { Memory: 100 * MIB, MemorySwap: 50 * MIB },
      'Minimum memoryswap limit should be larger than memory limit, see usage',
    ],
    ['reservation too small', { MemoryReservation: 1 }, 'Minimum memory reservation allowed is 6MB'],
    [
      'reservation above memory',
      { Memory: 10 * MIB, MemoryReservation: 20 * MIB },
      'Minimum memory limit can not be less than memory reservation limit, see usage',
    ],
    ['swappiness', { MemorySwappiness: 101 }, 'Invalid value: 101, valid memory swappiness range is 0-100'],
    // CPU
    ['too many CPUs', { NanoCpus: 3e9 }, 'range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available'],
    ['negative CPUs', { NanoCpus: -1 }, 'range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available'],
    [
      'CPUs and period',
      { NanoCpus: 1e9, CpuPeriod: 5000 },
      'Conflicting options: Nano CPUs and CPU Period cannot both be set',
    ],
    [
      'CPUs and quota',
      { NanoCpus: 1e9, CpuQuota: 5000 },
      'Conflicting options: Nano CPUs and CPU Quota cannot both be set',
    ],
    [
      'period',
      { CpuPeriod: 10 },
      'CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)',
    ],
    ['quota', { CpuQuota: 10 }, 'CPU cfs quota can not be less than 1ms (i.e. 1000)'],
    ['shares', { CpuShares: -1 }, 'invalid CPU shares (-1): value must be a positive integer'],
    [
      'realtime',
      { CpuRealtimePeriod: 1000, CpuRealtimeRuntime: 2000 },
      'cpu real-time runtime cannot be higher than cpu real-time period',
    ],
    ['cpuset malformed', { CpusetCpus: '0-x' }, 'Invalid value 0-x for cpuset cpus: invalid format: 0-x'],
    ['cpuset backwards', { CpusetCpus: '1-0' }, 'Invalid value 1-0 for cpuset cpus: invalid format: 1-0'],
    ['cpuset not there', { CpusetCpus: '0-9' }, 'Requested CPUs are not available - requested 0-9, available: 0-1'],
    [
      'cpuset absurd',
      { CpusetCpus: '0-99999999999' },
      'Requested CPUs are not available - requested 0-99999999999, available: 0-1',
    ],
    ['memory nodes', { CpusetMems: '3' }, 'Requested memory nodes are not available - requested 3, available: 0'],
    // Block I/O
    ['blkio weight', { BlkioWeight: 5 }, 'Range of blkio weight is from 10 to 1000'],
    [
      'blkio device',
      { BlkioDeviceReadBps: [{ Path: '/dev/nope', Rate: 1 }] },
      'stat /dev/nope: no such file or directory',
    ],
    [
      'blkio device weight',
      { BlkioWeightDevice: [{ Path: '/dev/null', Weight: 1 }] },
      'invalid weight for device: /dev/null:1',
    ],
    [
      'bandwidth',
      { IOMaximumBandwidth: 5 },
      'invalid option: QoS maximum bandwidth configuration is not supported on linux',
    ],
    ['iops', { IOMaximumIOps: 5 }, 'invalid option: QoS maximum IOPs configuration is not supported on linux'],
    // Restart, logs, runtime
    [
      'policy',
      { RestartPolicy: { Name: 'sometimes', MaximumRetryCount: 0 } },
      "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
    ],
    [
      'policy with rm',
      { AutoRemove: true, RestartPolicy: { Name: 'always', MaximumRetryCount: 0 } },
      "can't create 'AutoRemove' container with restart policy",
    ],
    [
      'retries of always',
      { RestartPolicy: { Name: 'always', MaximumRetryCount: 3 } },
      "invalid restart policy: maximum retry count can only be used with 'on-failure'",
    ],
    [
      'retries below none',
      { RestartPolicy: { Name: 'no', MaximumRetryCount: -3 } },
      "invalid restart policy: maximum retry count can only be used with 'on-failure' and cannot be negative",
    ],
    [
      'negative retries',
      { RestartPolicy: { Name: 'on-failure', MaximumRetryCount: -1 } },
      'invalid restart policy: maximum retry count cannot be negative',
    ],
    [
      'log driver',
      { LogConfig: { Type: 'fluentd', Config: {} } },
      'error looking up logging plugin fluentd: plugin "fluentd" not found',
    ],
    [
      'log option',
      { LogConfig: { Type: 'json-file', Config: { nope: '1' } } },
      "unknown log opt 'nope' for json-file log driver",
    ],
    ['log size', { LogConfig: { Type: 'json-file', Config: { 'max-size': 'x' } } }, "invalid size: 'x'"],
    ['log files', { LogConfig: { Type: 'json-file', Config: { 'max-file': '0' } } }, 'max-file cannot be less than 1'],
    [
      'log compression',
      { LogConfig: { Type: 'json-file', Config: { compress: 'maybe' } } },
      'strconv.ParseBool: parsing "maybe": invalid syntax',
    ],
    [
      'log compression of one file',
      { LogConfig: { Type: 'json-file', Config: { compress: 'true', 'max-size': '1m' } } },
      'compress cannot be true when max-file is less than 2 or max-size is not set',
    ],
    ['log mode', { LogConfig: { Type: '', Config: { mode: 'x' } } }, 'logger: logging mode not supported: x'],
    [
      'log buffer',
      { LogConfig: { Type: '', Config: { 'max-buffer-size': '1m' } } },
      "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
    ],
    [
      'log tag',
      { LogConfig: { Type: '', Config: { tag: '{{.Nope}}' } } },
      "template: log-tag: can't evaluate field Nope in type logger.Info",
    ],
    [
      'log tag of every object',
      { LogConfig: { Type: '', Config: { tag: '{{.constructor}}' } } },
      "template: log-tag: can't evaluate field constructor in type logger.Info",
    ],
    ['runtime', { Runtime: 'missing' }, 'unknown or invalid runtime name: missing'],
    ['runtime of JavaScript', { Runtime: 'toString' }, 'unknown or invalid runtime name: toString'],
    // Mounts
    ['bind without a source', { Binds: [':/x'] }, "invalid volume specification: ':/x'"],
    ['bind with too much', { Binds: ['/a:/b:ro:x'] }, "invalid volume specification: '/a:/b:ro:x'"],
    ['bind of a mode only', { Binds: ['/x:ro'] }, "invalid volume specification: '/x:ro'"],
    ['bind mode', { Binds: ['/etc:/x:nope'] }, 'invalid mode: nope'],
    ['bind mode named like an object property', { Binds: ['/etc:/x:constructor'] }, 'invalid mode: constructor'],
    ['bind modes that clash', { Binds: ['/etc:/x:ro,rw'] }, 'invalid mode: ro,rw'],
    [
      'bind relative',
      { Binds: ['/etc:x'] },
      `invalid volume specification: '/etc:x': invalid mount config for type "bind": invalid mount path: 'x' mount path must be absolute`,
    ],
    [
      'bind onto root',
      { Binds: ['/etc:/a/..'] },
      `invalid volume specification: '/etc:/a/..': invalid mount config for type "bind": invalid specification: destination can't be '/'`,
    ],
    [
      'bind with nocopy',
      { Binds: ['/etc:/x:nocopy'] },
      `invalid volume specification: '/etc:/x:nocopy': invalid mount config for type "bind": field VolumeOptions must not be specified`,
    ],
    [
      'volume with propagation',
      { Binds: ['ab:/x:rshared'] },
      `invalid volume specification: 'ab:/x:rshared': invalid mount config for type "volume": field BindOptions must not be specified`,
    ],
    [
      'volume name',
      { Binds: ['a$b:/x'] },
      'create a$b: "a$b" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path',
    ],
    [
      'volume name of one letter',
      { Binds: ['a:/x'] },
      'create a: volume name is too short, names should be at least two alphanumeric characters',
    ],
    ['same target twice', { Binds: ['/etc:/x', '/usr:/x/'] }, 'Duplicate mount point: /x'],
    ['same target in tmpfs', { Binds: ['/etc:/x'], Tmpfs: { '/x': '' } }, 'Duplicate mount point: /x'],
    [
      'mount type named like an object property',
      mount({ Type: 'constructor', Target: '/x' }),
      'invalid mount config for type "constructor": mount type unknown',
    ],
    ['mount type', mount({ Type: 'nope', Target: '/x' }), 'invalid mount config for type "nope": mount type unknown'],
    [
      'mount without target',
      mount({ Type: 'bind', Source: '/etc' }),
      'invalid mount config for type "bind": field Target must not be empty',
    ],
    [
      'mount without source',
      mount({ Type: 'bind', Target: '/x' }),
      'invalid mount config for type "bind": field Source must not be empty',
    ],
    [
      'mount of nothing',
      mount({ Type: 'bind', Source: '/not/there', Target: '/x' }),
      'invalid mount config for type "bind": bind source path does not exist: /not/there',
    ],
    [
      'mount with foreign options',
      mount({ Type: 'bind', Source: '/etc', Target: '/x', TmpfsOptions: {} }),
      'invalid mount config for type "bind": field TmpfsOptions must not be specified',
    ],
    [
      'mount propagation',
      mount({ Type: 'bind', Source: '/etc', Target: '/x', BindOptions: { Propagation: 'nope' } }),
      'invalid mount config for type "bind": invalid propagation mode: nope',
    ],
    [
      'tmpfs with source',
      mount({ Type: 'tmpfs', Source: '/etc', Target: '/x' }),
      'invalid mount config for type "tmpfs": field Source must not be specified',
    ],
    [
      'tmpfs mount option',
      mount({ Type: 'tmpfs', Target: '/x', TmpfsOptions: { Options: [['dev']] } }),
      'invalid mount config for type "tmpfs": invalid option: dev',
    ],
    [
      'a subpath that leads out',
      mount({ Type: 'volume', Source: 'ab', Target: '/x', VolumeOptions: { Subpath: '../a' } }),
      'invalid mount config for type "volume": subpath must be a relative path within the volume',
    ],
    [
      'a subpath of nothing',
      mount({ Type: 'volume', Target: '/x', VolumeOptions: { Subpath: 'a' } }),
      'invalid mount config for type "volume": must not set Subpath when using anonymous volumes',
    ],
    [
      'image mount',
      mount({ Type: 'image', Source: 'busybox', Target: '/x' }),
      'invalid mount config for type "image": mounts of images are not supported',
    ],
    ['tmpfs option', { Tmpfs: { '/x': 'size=1m,nope' } }, 'invalid tmpfs option ["nope"]'],
    ['tmpfs relative', { Tmpfs: { x: '' } }, "invalid mount path: 'x' mount path must be absolute"],
    ['volumes-from', { VolumesFrom: ['x:rshared'] }, 'invalid mode: rshared'],
    [
      'propagation over our root',
      mount({ Type: 'bind', Source: '/var', Target: '/x', BindOptions: { Propagation: 'private' } }),
      'invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, daemon root: "/var/lib/holdfast", bind mount source: "/var", propagation: "private"',
    ],
    // Security
    ['security option', { SecurityOpt: ['nope'] }, 'invalid --security-opt 1: "nope"'],
    ['security key', { SecurityOpt: ['foo=bar'] }, 'invalid --security-opt 2: "foo=bar"'],
    [
      'security value',
      { SecurityOpt: ['no-new-privileges=maybe'] },
      'invalid --security-opt 2: "no-new-privileges=maybe"',
    ],
    ['capability', { CapAdd: ['NOPE'] }, 'invalid CapAdd: unknown capability: "CAP_NOPE"'],
    ['capability to drop', { CapDrop: ['nope'] }, 'invalid CapDrop: unknown capability: "CAP_NOPE"'],
    [
      'capability we lack',
      { CapAdd: ['SYS_RESOURCE'] },
      'invalid CapAdd: capability not supported by kernel or not available in the current environment: "CAP_SYS_RESOURCE"',
    ],
    [
      'sysctl of the host',
      { Sysctls: { 'kernel.panic': '1' } },
      'sysctl "kernel.panic" is not in a separate kernel namespace',
    ],
    [
      'sysctl of the host network',
      { NetworkMode: 'host', Sysctls: { 'net.ipv4.ip_forward': '1' } },
      'sysctl "net.ipv4.ip_forward" not allowed in host network namespace',
    ],
    [
      'sysctl of the host ipc',
      { IpcMode: 'host', Sysctls: { 'kernel.shmmax': '1' } },
      'sysctl "kernel.shmmax" is not allowed in the hosts ipc namespace',
    ],
    ['ulimit name', { Ulimits: [{ Name: 'nope', Soft: 1, Hard: 1 }] }, 'invalid ulimit type: nope'],
    [
      'ulimit order',
      { Ulimits: [{ Name: 'nofile', Soft: 2, Hard: 1 }] },
      'ulimit soft limit must be less than or equal to hard limit: 2 > 1',
    ],
    [
      'ulimit above ours',
      { Ulimits: [{ Name: 'nofile', Soft: 1, Hard: 50_000 }] },
      'ulimit nofile=1:50000 exceeds the highest hard limit that the daemon can set: 20000, as it lacks CAP_SYS_RESOURCE',
    ],
    ['device rule', { DeviceCgroupRules: ['c 1:x r'] }, "invalid device cgroup rule format: 'c 1:x r'"],
    [
      'device access',
      { Devices: [{ PathOnHost: '/dev/null', PathInContainer: '/dev/null', CgroupPermissions: 'x' }] },
      'invalid device mode: x',
    ],
    [
      'device driver',
      { DeviceRequests: [{ Count: -1, Capabilities: [['gpu']] }] },
      'could not select device driver "" with capabilities: [[gpu]]',
    ],
    // Namespaces
    ['pid mode', { PidMode: 'nope' }, 'invalid PID mode: nope'],
    ['pid of nobody', { PidMode: 'container:' }, 'invalid PID mode: container:'],
    ['ipc mode', { IpcMode: 'nope' }, 'invalid IPC mode: nope'],
    ['uts mode', { UTSMode: 'nope' }, 'invalid UTS mode: nope'],
    ['userns mode', { UsernsMode: 'nope' }, 'invalid USER mode: nope'],
    ['cgroupns mode', { CgroupnsMode: 'nope' }, 'invalid cgroup namespace mode: nope'],
    ['isolation', { Isolation: 'hyperv' }, "invalid isolation (hyperv): linux only supports 'default'"],
    ['shm size', { ShmSize: -1 }, 'SHM size can not be less than 0'],
    ['oom score', { OomScoreAdj: 5000 }, 'Invalid value 5000, range for oom score adj is [-1000, 1000]'],
    [
      'annotation',
      { Annotations: { '': 'x' } },
      'invalid Annotations: the empty string is not permitted as an annotation key',
    ],
    // Network
    [
      'network of nobody',
      { NetworkMode: 'container:' },
      'invalid network mode: invalid container format container:<name|id>',
    ],
    [
      'ports of another',
      { NetworkMode: 'container:x', PublishAllPorts: true },
      'conflicting options: port publishing and the container type network mode',
    ],
    [
      'dns of another',
      { NetworkMode: 'container:x', Dns: ['1.1.1.1'] },
      'conflicting options: dns and the network mode',
    ],
    [
      'hosts of another',
      { NetworkMode: 'container:x', ExtraHosts: ['a:1.1.1.1'] },
      'conflicting options: custom host-to-IP mapping and the network mode',
    ],
    [
      'links of the host',
      { NetworkMode: 'host', Links: ['a:b'] },
      "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
    ],
    ['links without a network', { NetworkMode: 'none', Links: ['a:b'] }, 'Links need a network (a:b)'],
    ['an empty link', { Links: [''] }, 'empty string specified for links'],
    ['a link of three parts', { Links: ['a:b:c'] }, 'bad format for links: a:b:c'],
    ['port', { PortBindings: { 'x/tcp': [] } }, 'invalid port specification: "x"'],
    ['port protocol', { PortBindings: { '80/nope': [] } }, 'invalid proto: nope'],
    [
      'host port',
      { PortBindings: { '80/tcp': [{ HostIp: '', HostPort: '99999' }] } },
      'invalid port specification: "99999"',
    ],
    [
      'host port range',
      { PortBindings: { '80/tcp': [{ HostIp: '', HostPort: '9-8' }] } },
      'invalid port specification: "9-8"',
    ],
    ['host address', { PortBindings: { '80/tcp': [{ HostIp: 'x', HostPort: '1' }] } }, 'invalid IP address: x'],
    ['extra host', { ExtraHosts: ['nocolon'] }, 'bad format for add-host: "nocolon"'],
    ['extra host address', { ExtraHosts: ['a:b'] }, 'invalid IP address in add-host: "b"'],
    ['dns', { Dns: ['nonsense'] }, 'IP address is not correctly formatted: nonsense'],
    [
      'storage size',
      { StorageOpt: { size: '1G' } },
      "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
    ],
  ];

  test.each(cases)('%s', (_name, HostConfig, text) => {
    const error = refusal({ HostConfig });
    expect(error.message).toBe(text);
    expect(error).toBeInstanceOf(InvalidParameter);
  });

  test('a seccomp profile that is none', () => {
    expect(refusal({ HostConfig: { SecurityOpt: ['seccomp={'] } }).message).toMatch(
      /^Decoding seccomp profile failed: /,
    );
    expect(refusal({ HostConfig: { SecurityOpt: ['seccomp={}'] } }).message).toBe(
      'Decoding seccomp profile failed: defaultAction is missing',
    );
    for (const wrong of [
      { syscalls: 5 },
      { syscalls: [5] },
      { syscalls: [null] },
      { syscalls: [{ names: 'a', action: 'x' }] },
      { syscalls: [{ names: ['a'], action: 'x', includes: { caps: 'y' } }] },
      { archMap: {} },
      { flags: 'x' },
    ]) {
      expect(
        refusal({
          HostConfig: { SecurityOpt: [`seccomp=${JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', ...wrong })}`] },
        }).message,
      ).toMatch(/^Decoding seccomp profile failed: /);
    }
  });

  test('a volume driver that is not there', () => {
    const error = refusal({ HostConfig: { Binds: ['named:/x'], VolumeDriver: 'missing' } });
    expect(error).toBeInstanceOf(NotFound);
    expect(error.message).toBe('create named: error looking up volume plugin missing: plugin "missing" not found');
  });

  test('a parent that is no slice, where systemd makes the cgroups', () => {
    const systemd = daemon({ cgroupDriver: 'systemd' });
    expect(refusal({ HostConfig: { CgroupParent: '/x' } }, { daemon: systemd }).message).toBe(
      'cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"',
    );
    expect(prepared({ HostConfig: { CgroupParent: 'x.slice' } }, { daemon: systemd }).hostConfig.CgroupParent).toBe(
      'x.slice',
    );
  });

  test('CPU limits without a scheduler for them', () => {
    expect(refusal({ HostConfig: { NanoCpus: 1e9 } }, { host: without('cpuCfs') }).message).toBe(
      'NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted',
    );
    expect(refusal({ HostConfig: { CpuRealtimePeriod: 1 } }, { host: without('cpuRealtime') }).message).toBe(
      'kernel does not support CPU real-time scheduler',
    );
  });
});

describe('Config is refused', () => {
  const cases: [string, CreateRequest, string][] = [
    [
      'relative directory',
      { WorkingDir: 'x' },
      "the working directory 'x' is invalid, it needs to be an absolute path",
    ],
    ['signal', { StopSignal: 'NOPE' }, 'invalid signal: NOPE'],
    ['signal zero', { StopSignal: '0' }, 'invalid signal: 0'],
    ['signal too high', { StopSignal: '65' }, 'invalid signal: 65'],
    ['nameless variable', { Env: ['A=b', '=x'] }, 'invalid environment variable: =x'],
    ['hostname', { Hostname: 'not a name' }, 'invalid hostname format: not a name'],
    ['MAC address', { MacAddress: 'nope' }, 'invalid MAC address: nope'],
    ['exposed port', { ExposedPorts: { 'x/tcp': {} } }, 'invalid port specification: "x"'],
    ['exposed range that ends early', { ExposedPorts: { '9-8/tcp': {} } }, 'invalid port specification: "9-8"'],
    ['exposed port 0', { ExposedPorts: { '0-1': {} } }, 'invalid port specification: "0-1"'],
    ['exposed range of three', { ExposedPorts: { '1-2-3': {} } }, 'invalid port specification: "1-2-3"'],
    ['published range', { HostConfig: { PortBindings: { '1-2/tcp': [] } } }, 'invalid port specification: "1-2"'],
    [
      'interval',
      { Healthcheck: { Test: ['CMD', 'x'], Interval: 5 } },
      'Interval in Healthcheck cannot be less than 1ms',
    ],
    ['timeout', { Healthcheck: { Test: ['CMD', 'x'], Timeout: 5 } }, 'Timeout in Healthcheck cannot be less than 1ms'],
    ['retries', { Healthcheck: { Test: ['CMD', 'x'], Retries: -1 } }, 'Retries in Healthcheck cannot be negative'],
    [
      'start period',
      { Healthcheck: { Test: ['CMD', 'x'], StartPeriod: 5 } },
      'StartPeriod in Healthcheck cannot be less than 1ms',
    ],
    [
      'start interval',
      { Healthcheck: { Test: ['CMD', 'x'], StartInterval: 5 } },
      'StartInterval in Healthcheck cannot be less than 1ms',
    ],
    ['no command', { Cmd: null }, 'no command specified'],
    ['cleared entrypoint', { Cmd: [], Entrypoint: [''] }, 'no command specified'],
    ['volume', { Volumes: { 'a/b': {} } }, "invalid mount path: 'a/b' mount path must be absolute"],
    [
      'hostname of another',
      { Hostname: 'x', HostConfig: { NetworkMode: 'container:y' } },
      'conflicting options: hostname and the network mode',
    ],
    [
      'ports exposed for another',
      { ExposedPorts: { '80/tcp': {} }, HostConfig: { NetworkMode: 'container:y' } },
      'conflicting options: port exposing and the container type network mode',
    ],
    [
      'address of another',
      { MacAddress: '02:42:aa:bb:cc:dd', HostConfig: { NetworkMode: 'container:y' } },
      'conflicting options: mac-address and the network mode',
    ],
    [
      'hostname of the host',
      { Hostname: 'x', HostConfig: { UTSMode: 'host' } },
      'conflicting options: hostname and the UTS mode',
    ],
  ];
  test.each(cases)('%s', (_name, request, text) => {
    const error = refusal(request);
    expect(error.message).toBe(text);
    expect(error).toBeInstanceOf(InvalidParameter);
  });

  test('no configuration at all', () => {
    const config = daemon();
    const paths = new Paths(config.dataRoot, config.execRoot);
    for (const request of [{}, { HostConfig: {} }]) {
      expect(() => prepareOn(host(), ID, request, image(), { config, paths, mountsOf: () => [] })).toThrow(
        'config cannot be empty in order to create a container',
      );
    }
  });

  test('an image for another system', () => {
    expect(refusal({}, { image: image({}, { os: 'windows' }) }).message).toBe(
      'image operating system "windows" cannot be used on this platform',
    );
  });
});

describe('warnings', () => {
  const cases: [string, CreateRequest, Options, string][] = [
    [
      'swap',
      { HostConfig: { Memory: 10 * MIB } },
      { host: without('swap') },
      'Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.',
    ],
    [
      'memory',
      { HostConfig: { Memory: 10 * MIB } },
      { host: without('memory') },
      'Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.',
    ],
    [
      'swappiness',
      { HostConfig: { MemorySwappiness: 5 } },
      { host: without('swappiness') },
      'Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.',
    ],
    [
      'reservation',
      { HostConfig: { MemoryReservation: 10 * MIB } },
      { host: without('reservation') },
      'Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.',
    ],
    [
      'oom',
      { HostConfig: { OomKillDisable: true, Memory: 10 * MIB } },
      { host: without('oomKillDisable') },
      'Your kernel does not support OomKillDisable. OomKillDisable discarded.',
    ],
    [
      'oom without memory',
      { HostConfig: { OomKillDisable: true } },
      {},
      'OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.',
    ],
    [
      'pids',
      { HostConfig: { PidsLimit: 5 } },
      { host: without('pids') },
      'Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.',
    ],
    [
      'shares',
      { HostConfig: { CpuShares: 5 } },
      { host: without('cpuShares') },
      'Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.',
    ],
    [
      'cfs',
      { HostConfig: { CpuQuota: 5000 } },
      { host: without('cpuCfs') },
      'Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.',
    ],
    [
      'cpuset',
      { HostConfig: { CpusetCpus: '0' } },
      { host: without('cpuset') },
      'Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.',
    ],
    [
      'weight',
      { HostConfig: { BlkioWeight: 5 } },
      { host: without('blkioWeight') },
      'Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.',
    ],
    [
      'write rate',
      { HostConfig: { BlkioDeviceWriteBps: [{ Path: '/dev/null', Rate: 1 }] } },
      { host: without('blkioWriteBps') },
      'Your kernel does not support BPS Block I/O write limit or the cgroup is not mounted. Block I/O BPS write limit discarded.',
    ],
    [
      'forwarding',
      {},
      { host: host({ ipv4Forwarding: false }) },
      'IPv4 forwarding is disabled. Networking will not work.',
    ],
    [
      'host ports',
      { HostConfig: { NetworkMode: 'host', PortBindings: { '80/tcp': [] } } },
      {},
      'Published ports are discarded when using host network mode',
    ],
    [
      'foreign image',
      {},
      { image: image({}, { architecture: 'arm64', variant: 'v8' }) },
      "The requested image's platform (linux/arm64/v8) does not match the detected host platform (linux/amd64) and no specific platform was requested",
    ],
    [
      'oom score',
      { HostConfig: { OomScoreAdj: -500 } },
      {},
      'OomScoreAdj: -500 is below what this daemon may give without CAP_SYS_RESOURCE; 0 is used.',
    ],
    [
      'health check',
      { Healthcheck: { Test: ['WHAT'] } },
      {},
      "Healthcheck: Unknown healthcheck type 'WHAT' (expected 'CMD'). The container runs without a health check.",
    ],
    [
      'log mode',
      { HostConfig: { LogConfig: { Type: 'json-file', Config: { mode: 'non-blocking' } } } },
      {},
      "LogConfig: option 'mode=non-blocking' has no effect: log files are written without waiting for readers.",
    ],
  ];
  test.each(cases)('%s', (_name, request, options, text) =>
    expect(prepared(request, options).warnings).toEqual([text]),
  );

  test.each([
    ['ArgsEscaped', { ArgsEscaped: true }],
    ['Cgroup', { HostConfig: { Cgroup: 'container:x' } }],
    ['CpuCount', { HostConfig: { CpuCount: 1 } }],
    ['CpuPercent', { HostConfig: { CpuPercent: 1 } }],
    ['CpuRealtimePeriod', { HostConfig: { CpuRealtimePeriod: 1000 } }],
    ['CpuRealtimeRuntime', { HostConfig: { CpuRealtimeRuntime: 1000 } }],
    ['KernelMemory', { HostConfig: { KernelMemory: 1 } }],
    ['SecurityOpt', { HostConfig: { SecurityOpt: ['label=type:x'] } }],
    ['SecurityOpt', { HostConfig: { SecurityOpt: ['apparmor=mine'] } }],
  ] as [string, CreateRequest][])('name what has no effect here: %s', (field, request) => {
    const { warnings } = prepared(request);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain(field);
  });

  test('what was discarded is gone from the definition', () => {
    const { hostConfig } = prepared(
      { HostConfig: { Memory: 10 * MIB, BlkioWeight: 5, OomScoreAdj: -500 } },
      { host: without('swap', 'blkioWeight') },
    );
    expect(hostConfig).toMatchObject({ Memory: 10 * MIB, MemorySwap: -1, BlkioWeight: 0, OomScoreAdj: 0 });
  });
});
