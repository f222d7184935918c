/** What create rejects, and what it warns of, with Docker's messages. */
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

describe('HostConfig', () => {
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
    ['a swappiness above 100', { MemorySwappiness: 101 }, 'Invalid value: 101, valid memory swappiness range is 0-100'],
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
      'a CPU period that is too short',
      { CpuPeriod: 10 },
      'CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)',
    ],
    ['a CPU quota that is too short', { CpuQuota: 10 }, 'CPU cfs quota can not be less than 1ms (i.e. 1000)'],
    ['negative CPU shares', { CpuShares: -1 }, 'invalid CPU shares (-1): value must be a positive integer'],
    [
      'a realtime runtime above its period',
      { CpuRealtimePeriod: 1000, CpuRealtimeRuntime: 2000 },
      'cpu real-time runtime cannot be higher than cpu real-time period',
    ],
    ['a malformed cpuset', { CpusetCpus: '0-x' }, 'Invalid value 0-x for cpuset cpus: invalid format: 0-x'],
    ['a reversed cpuset', { CpusetCpus: '1-0' }, 'Invalid value 1-0 for cpuset cpus: invalid format: 1-0'],
    [
      'a cpuset of missing CPUs',
      { CpusetCpus: '0-9' },
      'Requested CPUs are not available - requested 0-9, available: 0-1',
    ],
    [
      'an absurdly large cpuset',
      { CpusetCpus: '0-99999999999' },
      'Requested CPUs are not available - requested 0-99999999999, available: 0-1',
    ],
    [
      'missing memory nodes',
      { CpusetMems: '3' },
      'Requested memory nodes are not available - requested 3, available: 0',
    ],
    // Block I/O
    ['a blkio weight out of range', { BlkioWeight: 5 }, 'Range of blkio weight is from 10 to 1000'],
    [
      'a missing blkio device',
      { BlkioDeviceReadBps: [{ Path: '/dev/nope', Rate: 1 }] },
      'stat /dev/nope: no such file or directory',
    ],
    [
      'a blkio device weight out of range',
      { BlkioWeightDevice: [{ Path: '/dev/null', Weight: 1 }] },
      'invalid weight for device: /dev/null:1',
    ],
    [
      'a maximum bandwidth',
      { IOMaximumBandwidth: 5 },
      'invalid option: QoS maximum bandwidth configuration is not supported on linux',
    ],
    [
      'a maximum of IOPS',
      { IOMaximumIOps: 5 },
      'invalid option: QoS maximum IOPs configuration is not supported on linux',
    ],
    // Restart, logs, runtime
    [
      'an unknown restart policy',
      { RestartPolicy: { Name: 'sometimes', MaximumRetryCount: 0 } },
      "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
    ],
    [
      'a restart policy with auto-remove',
      { AutoRemove: true, RestartPolicy: { Name: 'always', MaximumRetryCount: 0 } },
      "can't create 'AutoRemove' container with restart policy",
    ],
    [
      'a retry count for the policy always',
      { RestartPolicy: { Name: 'always', MaximumRetryCount: 3 } },
      "invalid restart policy: maximum retry count can only be used with 'on-failure'",
    ],
    [
      'a retry count for the policy no',
      { RestartPolicy: { Name: 'no', MaximumRetryCount: -3 } },
      "invalid restart policy: maximum retry count can only be used with 'on-failure' and cannot be negative",
    ],
    [
      'a negative retry count',
      { RestartPolicy: { Name: 'on-failure', MaximumRetryCount: -1 } },
      'invalid restart policy: maximum retry count cannot be negative',
    ],
    [
      'an unknown log driver',
      { LogConfig: { Type: 'fluentd', Config: {} } },
      'error looking up logging plugin fluentd: plugin "fluentd" not found',
    ],
    [
      'an unknown log option',
      { LogConfig: { Type: 'json-file', Config: { nope: '1' } } },
      "unknown log opt 'nope' for json-file log driver",
    ],
    ['an invalid log size', { LogConfig: { Type: 'json-file', Config: { 'max-size': 'x' } } }, "invalid size: 'x'"],
    [
      'an invalid number of log files',
      { LogConfig: { Type: 'json-file', Config: { 'max-file': '0' } } },
      'max-file cannot be less than 1',
    ],
    [
      'an invalid value for log compression',
      { LogConfig: { Type: 'json-file', Config: { compress: 'maybe' } } },
      'strconv.ParseBool: parsing "maybe": invalid syntax',
    ],
    [
      'log compression of a single file',
      { LogConfig: { Type: 'json-file', Config: { compress: 'true', 'max-size': '1m' } } },
      'compress cannot be true when max-file is less than 2 or max-size is not set',
    ],
    [
      'an unknown log mode',
      { LogConfig: { Type: '', Config: { mode: 'x' } } },
      'logger: logging mode not supported: x',
    ],
    [
      'an invalid log buffer size',
      { LogConfig: { Type: '', Config: { 'max-buffer-size': '1m' } } },
      "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
    ],
    [
      'an invalid log tag',
      { LogConfig: { Type: '', Config: { tag: '{{.Nope}}' } } },
      "template: log-tag: can't evaluate field Nope in type logger.Info",
    ],
    [
      'a log tag that names a property of Object.prototype',
      { LogConfig: { Type: '', Config: { tag: '{{.constructor}}' } } },
      "template: log-tag: can't evaluate field constructor in type logger.Info",
    ],
    ['an unknown runtime', { Runtime: 'missing' }, 'unknown or invalid runtime name: missing'],
    ['a runtime named like an object property', { Runtime: 'toString' }, 'unknown or invalid runtime name: toString'],
    ['a bind mode named like an object property', { Binds: ['/etc:/x:constructor'] }, 'invalid mode: constructor'],
    [
      'a mount type named like an object property',
      mount({ Type: 'constructor', Target: '/x' }),
      'invalid mount config for type "constructor": mount type unknown',
    ],
    [
      'a runtime named after a property of Object.prototype',
      { Runtime: 'toString' },
      'unknown or invalid runtime name: toString',
    ],
    // Mounts
    ['a bind without a source', { Binds: [':/x'] }, "invalid volume specification: ':/x'"],
    ['a bind with too many parts', { Binds: ['/a:/b:ro:x'] }, "invalid volume specification: '/a:/b:ro:x'"],
    ['a bind with a mode but no target', { Binds: ['/x:ro'] }, "invalid volume specification: '/x:ro'"],
    ['an unknown bind mode', { Binds: ['/etc:/x:nope'] }, 'invalid mode: nope'],
    ['contradicting bind modes', { Binds: ['/etc:/x:ro,rw'] }, 'invalid mode: ro,rw'],
    [
      'a bind to a relative path',
      { Binds: ['/etc:x'] },
      `invalid volume specification: '/etc:x': invalid mount config for type "bind": invalid mount path: 'x' mount path must be absolute`,
    ],
    [
      'a bind onto the root',
      { Binds: ['/etc:/a/..'] },
      `invalid volume specification: '/etc:/a/..': invalid mount config for type "bind": invalid specification: destination can't be '/'`,
    ],
    [
      'a bind with nocopy',
      { Binds: ['/etc:/x:nocopy'] },
      `invalid volume specification: '/etc:/x:nocopy': invalid mount config for type "bind": field VolumeOptions must not be specified`,
    ],
    [
      'a volume with propagation',
      { Binds: ['ab:/x:rshared'] },
      `invalid volume specification: 'ab:/x:rshared': invalid mount config for type "volume": field BindOptions must not be specified`,
    ],
    [
      'an invalid volume name',
      { Binds: ['a$b:/x'] },
      'create a$b: "a$b" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path',
    ],
    [
      'a volume name of one letter',
      { Binds: ['a:/x'] },
      'create a: volume name is too short, names should be at least two alphanumeric characters',
    ],
    ['the same target twice', { Binds: ['/etc:/x', '/usr:/x/'] }, 'Duplicate mount point: /x'],
    ['the same target as a bind and a tmpfs', { Binds: ['/etc:/x'], Tmpfs: { '/x': '' } }, 'Duplicate mount point: /x'],
    [
      'an unknown mount type',
      mount({ Type: 'nope', Target: '/x' }),
      'invalid mount config for type "nope": mount type unknown',
    ],
    [
      'a mount without target',
      mount({ Type: 'bind', Source: '/etc' }),
      'invalid mount config for type "bind": field Target must not be empty',
    ],
    [
      'a mount without source',
      mount({ Type: 'bind', Target: '/x' }),
      'invalid mount config for type "bind": field Source must not be empty',
    ],
    [
      'a mount whose source does not exist',
      mount({ Type: 'bind', Source: '/not/there', Target: '/x' }),
      'invalid mount config for type "bind": bind source path does not exist: /not/there',
    ],
    [
      'a mount with options of another type',
      mount({ Type: 'bind', Source: '/etc', Target: '/x', TmpfsOptions: {} }),
      'invalid mount config for type "bind": field TmpfsOptions must not be specified',
    ],
    [
      'an invalid propagation mode',
      mount({ Type: 'bind', Source: '/etc', Target: '/x', BindOptions: { Propagation: 'nope' } }),
      'invalid mount config for type "bind": invalid propagation mode: nope',
    ],
    [
      'a tmpfs with a source',
      mount({ Type: 'tmpfs', Source: '/etc', Target: '/x' }),
      'invalid mount config for type "tmpfs": field Source must not be specified',
    ],
    [
      'an invalid option of a tmpfs mount',
      mount({ Type: 'tmpfs', Target: '/x', TmpfsOptions: { Options: [['dev']] } }),
      'invalid mount config for type "tmpfs": invalid option: dev',
    ],
    [
      'a subpath outside the volume',
      mount({ Type: 'volume', Source: 'ab', Target: '/x', VolumeOptions: { Subpath: '../a' } }),
      'invalid mount config for type "volume": subpath must be a relative path within the volume',
    ],
    [
      'a subpath of an anonymous volume',
      mount({ Type: 'volume', Target: '/x', VolumeOptions: { Subpath: 'a' } }),
      'invalid mount config for type "volume": must not set Subpath when using anonymous volumes',
    ],
    [
      'an image mount',
      mount({ Type: 'image', Source: 'busybox', Target: '/x' }),
      'invalid mount config for type "image": mounts of images are not supported',
    ],
    ['an invalid tmpfs option', { Tmpfs: { '/x': 'size=1m,nope' } }, 'invalid tmpfs option ["nope"]'],
    ['a tmpfs at a relative path', { Tmpfs: { x: '' } }, "invalid mount path: 'x' mount path must be absolute"],
    ['an invalid mode of volumes-from', { VolumesFrom: ['x:rshared'] }, 'invalid mode: rshared'],
    [
      'a propagation mode that would keep our mounts alive',
      mount({ Type: 'bind', Source: '/var', Target: '/x', BindOptions: { Propagation: 'private' } }),
      'invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, daemon root: "/var/lib/holdfast", bind mount source: "/var", propagation: "private"',
    ],
    // Security
    ['a security option without a value', { SecurityOpt: ['nope'] }, 'invalid --security-opt 1: "nope"'],
    ['an unknown security option', { SecurityOpt: ['foo=bar'] }, 'invalid --security-opt 2: "foo=bar"'],
    [
      'an invalid value of a security option',
      { SecurityOpt: ['no-new-privileges=maybe'] },
      'invalid --security-opt 2: "no-new-privileges=maybe"',
    ],
    ['an unknown capability to add', { CapAdd: ['NOPE'] }, 'invalid CapAdd: unknown capability: "CAP_NOPE"'],
    ['an unknown capability to drop', { CapDrop: ['nope'] }, 'invalid CapDrop: unknown capability: "CAP_NOPE"'],
    [
      'a capability that the daemon lacks',
      { CapAdd: ['SYS_RESOURCE'] },
      'invalid CapAdd: capability not supported by kernel or not available in the current environment: "CAP_SYS_RESOURCE"',
    ],
    [
      'a sysctl that is not namespaced',
      { Sysctls: { 'kernel.panic': '1' } },
      'sysctl "kernel.panic" is not in a separate kernel namespace',
    ],
    [
      'a network sysctl in the host network',
      { NetworkMode: 'host', Sysctls: { 'net.ipv4.ip_forward': '1' } },
      'sysctl "net.ipv4.ip_forward" not allowed in host network namespace',
    ],
    [
      'an IPC sysctl in the host’s IPC namespace',
      { IpcMode: 'host', Sysctls: { 'kernel.shmmax': '1' } },
      'sysctl "kernel.shmmax" is not allowed in the hosts ipc namespace',
    ],
    ['an unknown ulimit', { Ulimits: [{ Name: 'nope', Soft: 1, Hard: 1 }] }, 'invalid ulimit type: nope'],
    [
      'a soft limit above the hard limit',
      { Ulimits: [{ Name: 'nofile', Soft: 2, Hard: 1 }] },
      'ulimit soft limit must be less than or equal to hard limit: 2 > 1',
    ],
    [
      'a ulimit above the daemon’s own',
      { Ulimits: [{ Name: 'nofile', Soft: 1, Hard: 50_000 }] },
      'ulimit nofile=1:50000 exceeds the highest hard limit that the daemon can set: 20000, as it lacks CAP_SYS_RESOURCE',
    ],
    [
      'a malformed device cgroup rule',
      { DeviceCgroupRules: ['c 1:x r'] },
      "invalid device cgroup rule format: 'c 1:x r'",
    ],
    [
      'an invalid device mode',
      { Devices: [{ PathOnHost: '/dev/null', PathInContainer: '/dev/null', CgroupPermissions: 'x' }] },
      'invalid device mode: x',
    ],
    [
      'an unknown device driver',
      { DeviceRequests: [{ Count: -1, Capabilities: [['gpu']] }] },
      'could not select device driver "" with capabilities: [[gpu]]',
    ],
    // Namespaces
    ['an unknown pid mode', { PidMode: 'nope' }, 'invalid PID mode: nope'],
    ['a pid mode without its container', { PidMode: 'container:' }, 'invalid PID mode: container:'],
    ['an unknown ipc mode', { IpcMode: 'nope' }, 'invalid IPC mode: nope'],
    ['an unknown uts mode', { UTSMode: 'nope' }, 'invalid UTS mode: nope'],
    ['an unknown userns mode', { UsernsMode: 'nope' }, 'invalid USER mode: nope'],
    ['an unknown cgroupns mode', { CgroupnsMode: 'nope' }, 'invalid cgroup namespace mode: nope'],
    ['an isolation technology', { Isolation: 'hyperv' }, "invalid isolation (hyperv): linux only supports 'default'"],
    ['a negative shm size', { ShmSize: -1 }, 'SHM size can not be less than 0'],
    [
      'an OOM score out of range',
      { OomScoreAdj: 5000 },
      'Invalid value 5000, range for oom score adj is [-1000, 1000]',
    ],
    [
      'an annotation without a key',
      { Annotations: { '': 'x' } },
      'invalid Annotations: the empty string is not permitted as an annotation key',
    ],
    // Network
    [
      'a network mode without its container',
      { NetworkMode: 'container:' },
      'invalid network mode: invalid container format container:<name|id>',
    ],
    [
      'published ports in the network of another container',
      { NetworkMode: 'container:x', PublishAllPorts: true },
      'conflicting options: port publishing and the container type network mode',
    ],
    [
      'DNS servers in the network of another container',
      { NetworkMode: 'container:x', Dns: ['1.1.1.1'] },
      'conflicting options: dns and the network mode',
    ],
    [
      'extra hosts in the network of another container',
      { NetworkMode: 'container:x', ExtraHosts: ['a:1.1.1.1'] },
      'conflicting options: custom host-to-IP mapping and the network mode',
    ],
    [
      'links in the host network',
      { NetworkMode: 'host', Links: ['a:b'] },
      "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
    ],
    ['links without a network', { NetworkMode: 'none', Links: ['a:b'] }, 'Links need a network (a:b)'],
    ['an empty link', { Links: [''] }, 'empty string specified for links'],
    ['a link of three parts', { Links: ['a:b:c'] }, 'bad format for links: a:b:c'],
    ['an invalid port', { PortBindings: { 'x/tcp': [] } }, 'invalid port specification: "x"'],
    ['an invalid port protocol', { PortBindings: { '80/nope': [] } }, 'invalid proto: nope'],
    [
      'an invalid host port',
      { PortBindings: { '80/tcp': [{ HostIp: '', HostPort: '99999' }] } },
      'invalid port specification: "99999"',
    ],
    [
      'a reversed host port range',
      { PortBindings: { '80/tcp': [{ HostIp: '', HostPort: '9-8' }] } },
      'invalid port specification: "9-8"',
    ],
    [
      'an invalid host address',
      { PortBindings: { '80/tcp': [{ HostIp: 'x', HostPort: '1' }] } },
      'invalid IP address: x',
    ],
    ['a malformed extra host', { ExtraHosts: ['nocolon'] }, 'bad format for add-host: "nocolon"'],
    ['an invalid address of an extra host', { ExtraHosts: ['a:b'] }, 'invalid IP address in add-host: "b"'],
    ['an invalid DNS server', { Dns: ['nonsense'] }, 'IP address is not correctly formatted: nonsense'],
    [
      'a storage size',
      { StorageOpt: { size: '1G' } },
      "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
    ],
  ];

  test.each(cases)('rejects %s', (_name, HostConfig, text) => {
    const error = refusal({ HostConfig });
    expect(error.message).toBe(text);
    expect(error).toBeInstanceOf(InvalidParameter);
  });

  test('rejects an invalid seccomp profile', () => {
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

  test('rejects an unknown volume driver', () => {
    const error = refusal({ HostConfig: { Binds: ['named:/x'], VolumeDriver: 'missing' } });
    expect(error).toBeInstanceOf(NotFound);
    expect(error.message).toBe('create named: error looking up volume plugin missing: plugin "missing" not found');
  });

  test('rejects a parent that is not a slice when systemd manages the cgroups', () => {
    const systemd = daemon({ cgroupDriver: 'systemd' });
    expect(refusal({ HostConfig: { CgroupParent: '/x' } }, { daemon: systemd }).message).toBe(
      'cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"',
    );
    expect(prepared({ HostConfig: { CgroupParent: 'x.slice' } }, { daemon: systemd }).hostConfig.CgroupParent).toBe(
      'x.slice',
    );
  });

  test('rejects CPU limits that the kernel does not support', () => {
    expect(refusal({ HostConfig: { NanoCpus: 1e9 } }, { host: without('cpuCfs') }).message).toBe(
      'NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted',
    );
    expect(refusal({ HostConfig: { CpuRealtimePeriod: 1 } }, { host: without('cpuRealtime') }).message).toBe(
      'kernel does not support CPU real-time scheduler',
    );
  });
});

describe('Config', () => {
  const cases: [string, CreateRequest, string][] = [
    [
      'a relative working directory',
      { WorkingDir: 'x' },
      "the working directory 'x' is invalid, it needs to be an absolute path",
    ],
    ['an unknown signal', { StopSignal: 'NOPE' }, 'invalid signal: NOPE'],
    ['signal zero', { StopSignal: '0' }, 'invalid signal: 0'],
    ['a signal out of range', { StopSignal: '65' }, 'invalid signal: 65'],
    ['a variable without a name', { Env: ['A=b', '=x'] }, 'invalid environment variable: =x'],
    ['an invalid hostname', { Hostname: 'not a name' }, 'invalid hostname format: not a name'],
    ['an invalid MAC address', { MacAddress: 'nope' }, 'invalid MAC address: nope'],
    ['an invalid exposed port', { ExposedPorts: { 'x/tcp': {} } }, 'invalid port specification: "x"'],
    ['an exposed range that ends early', { ExposedPorts: { '9-8/tcp': {} } }, 'invalid port specification: "9-8"'],
    ['an exposed port 0', { ExposedPorts: { '0-1': {} } }, 'invalid port specification: "0-1"'],
    ['an exposed range of three', { ExposedPorts: { '1-2-3': {} } }, 'invalid port specification: "1-2-3"'],
    ['a published range', { HostConfig: { PortBindings: { '1-2/tcp': [] } } }, 'invalid port specification: "1-2"'],
    [
      'a health check interval that is too short',
      { Healthcheck: { Test: ['CMD', 'x'], Interval: 5 } },
      'Interval in Healthcheck cannot be less than 1ms',
    ],
    [
      'a health check timeout that is too short',
      { Healthcheck: { Test: ['CMD', 'x'], Timeout: 5 } },
      'Timeout in Healthcheck cannot be less than 1ms',
    ],
    [
      'a negative number of health check retries',
      { Healthcheck: { Test: ['CMD', 'x'], Retries: -1 } },
      'Retries in Healthcheck cannot be negative',
    ],
    [
      'a start period that is too short',
      { Healthcheck: { Test: ['CMD', 'x'], StartPeriod: 5 } },
      'StartPeriod in Healthcheck cannot be less than 1ms',
    ],
    [
      'a start interval that is too short',
      { Healthcheck: { Test: ['CMD', 'x'], StartInterval: 5 } },
      'StartInterval in Healthcheck cannot be less than 1ms',
    ],
    ['a container without a command', { Cmd: null }, 'no command specified'],
    ['a cleared entrypoint without a command', { Cmd: [], Entrypoint: [''] }, 'no command specified'],
    [
      'a volume at a relative path',
      { Volumes: { 'a/b': {} } },
      "invalid mount path: 'a/b' mount path must be absolute",
    ],
    [
      'a hostname in the network of another container',
      { Hostname: 'x', HostConfig: { NetworkMode: 'container:y' } },
      'conflicting options: hostname and the network mode',
    ],
    [
      'exposed ports in the network of another container',
      { ExposedPorts: { '80/tcp': {} }, HostConfig: { NetworkMode: 'container:y' } },
      'conflicting options: port exposing and the container type network mode',
    ],
    [
      'a MAC address in the network of another container',
      { MacAddress: '02:42:aa:bb:cc:dd', HostConfig: { NetworkMode: 'container:y' } },
      'conflicting options: mac-address and the network mode',
    ],
    [
      'a hostname in the UTS namespace of the host',
      { Hostname: 'x', HostConfig: { UTSMode: 'host' } },
      'conflicting options: hostname and the UTS mode',
    ],
  ];
  test.each(cases)('rejects %s', (_name, request, text) => {
    const error = refusal(request);
    expect(error.message).toBe(text);
    expect(error).toBeInstanceOf(InvalidParameter);
  });

  test('rejects a request without any configuration', () => {
    const config = daemon();
    const paths = new Paths(config.dataRoot, config.execRoot);
    for (const request of [{}, { HostConfig: {} }]) {
      expect(() => prepareOn(host(), ID, request, image(), { config, paths, mountsOf: () => [] })).toThrow(
        'config cannot be empty in order to create a container',
      );
    }
  });

  test('rejects an image for another system', () => {
    expect(refusal({}, { image: image({}, { os: 'windows' }) }).message).toBe(
      'image operating system "windows" cannot be used on this platform',
    );
  });
});

describe('create warns of', () => {
  const cases: [string, CreateRequest, Options, string][] = [
    [
      'swap that the kernel cannot limit',
      { HostConfig: { Memory: 10 * MIB } },
      { host: without('swap') },
      'Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.',
    ],
    [
      'memory that the kernel cannot limit',
      { HostConfig: { Memory: 10 * MIB } },
      { host: without('memory') },
      'Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.',
    ],
    [
      'swappiness that the kernel does not support',
      { HostConfig: { MemorySwappiness: 5 } },
      { host: without('swappiness') },
      'Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.',
    ],
    [
      'a memory reservation that the kernel does not support',
      { HostConfig: { MemoryReservation: 10 * MIB } },
      { host: without('reservation') },
      'Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.',
    ],
    [
      'disabling the OOM killer where the kernel does not support it',
      { HostConfig: { OomKillDisable: true, Memory: 10 * MIB } },
      { host: without('oomKillDisable') },
      'Your kernel does not support OomKillDisable. OomKillDisable discarded.',
    ],
    [
      'disabling the OOM killer without a memory limit',
      { HostConfig: { OomKillDisable: true } },
      {},
      'OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.',
    ],
    [
      'processes that the kernel cannot limit',
      { HostConfig: { PidsLimit: 5 } },
      { host: without('pids') },
      'Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.',
    ],
    [
      'CPU shares that the kernel does not support',
      { HostConfig: { CpuShares: 5 } },
      { host: without('cpuShares') },
      'Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.',
    ],
    [
      'a CPU quota that the kernel does not support',
      { HostConfig: { CpuQuota: 5000 } },
      { host: without('cpuCfs') },
      'Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.',
    ],
    [
      'a cpuset that the kernel does not support',
      { HostConfig: { CpusetCpus: '0' } },
      { host: without('cpuset') },
      'Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.',
    ],
    [
      'a blkio weight that the kernel does not support',
      { HostConfig: { BlkioWeight: 5 } },
      { host: without('blkioWeight') },
      'Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.',
    ],
    [
      'a write rate that the kernel cannot limit',
      { HostConfig: { BlkioDeviceWriteBps: [{ Path: '/dev/null', Rate: 1 }] } },
      { host: without('blkioWriteBps') },
      'Your kernel does not support BPS Block I/O write limit or the cgroup is not mounted. Block I/O BPS write limit discarded.',
    ],
    [
      'disabled IPv4 forwarding',
      {},
      { host: host({ ipv4Forwarding: false }) },
      'IPv4 forwarding is disabled. Networking will not work.',
    ],
    [
      'published ports on the host network',
      { HostConfig: { NetworkMode: 'host', PortBindings: { '80/tcp': [] } } },
      {},
      'Published ports are discarded when using host network mode',
    ],
    [
      'an image for another platform',
      {},
      { image: image({}, { architecture: 'arm64', variant: 'v8' }) },
      "The requested image's platform (linux/arm64/v8) does not match the detected host platform (linux/amd64) and no specific platform was requested",
    ],
    [
      'an OOM score that the daemon may not set',
      { HostConfig: { OomScoreAdj: -500 } },
      {},
      'OomScoreAdj: -500 is below what this daemon may give without CAP_SYS_RESOURCE; 0 is used.',
    ],
    [
      'a health check that cannot run',
      { Healthcheck: { Test: ['WHAT'] } },
      {},
      "Healthcheck: Unknown healthcheck type 'WHAT' (expected 'CMD'). The container runs without a health check.",
    ],
    [
      'a log mode that has no effect',
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
  ] as [string, CreateRequest][])('names a field without effect here: %s', (field, request) => {
    const { warnings } = prepared(request);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain(field);
  });

  test('removes discarded values from the definition', () => {
    const { hostConfig } = prepared(
      { HostConfig: { Memory: 10 * MIB, BlkioWeight: 5, OomScoreAdj: -500 } },
      { host: without('swap', 'blkioWeight') },
    );
    expect(hostConfig).toMatchObject({ Memory: 10 * MIB, MemorySwap: -1, BlkioWeight: 0, OomScoreAdj: 0 });
  });
});
