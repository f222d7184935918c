/**
 * Every field of Config and HostConfig with a value that is not its default, and how its effect shows: in what the
 * container sees, in what the engine does, in a refusal, or in a warning that names it. Checked by fields.test.ts.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { availableParallelism, hostname } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';

export interface FieldCase {
  /** The create body, merged over {Image: 'busybox', Cmd: ['sh', '-c', probe]}. */
  body: Record<string, unknown>;
  /** Shell script run in the container; its output must match `sees`. */
  probe?: string;
  sees?: RegExp;
  refused?: { status: number; message: RegExp };
  /**
   * A warning that names the field. Together with `sees`: the warning is given on hosts whose kernel lacks the
   * control.
   */
  warns?: RegExp;
  /**
   * A dotted path in the inspect output of the started container and its expected value: for fields that inform
   * clients or that the engine acts on.
   */
  inspect?: [string, unknown];
  /** Checks what the engine does with the created container because of the field. */
  acts?: (engine: TestEngine, id: string) => Promise<void>;
}

const MIB = 1024 * 1024;

const inspected = async (
  engine: TestEngine,
  id: string,
): Promise<{
  RestartCount: number;
  State: { Status: string; ExitCode: number; Health?: { Status: string; Log: { Output: string }[] } };
}> => (await engine.api('GET', `/containers/${id}/json`)).json as Awaited<ReturnType<typeof inspected>>;
const start = async (engine: TestEngine, id: string): Promise<void> => {
  const { status, text } = await engine.api('POST', `/containers/${id}/start`);
  expect(status, text).toBe(204);
};
const output = async (engine: TestEngine, id: string): Promise<string> =>
  (await engine.docker('logs', id).result).stdout;

export const configFields: Record<string, FieldCase> = {
  Hostname: { body: { Hostname: 'somewhere' }, probe: 'hostname', sees: /^somewhere$/m },
  Domainname: {
    body: { Hostname: 'a', Domainname: 'example.test' },
    probe: 'cat /proc/sys/kernel/domainname /etc/hosts',
    sees: /^example\.test$[\s\S]*\ta\.example\.test a$/m,
  },
  User: { body: { User: '1234:5678' }, probe: 'id -u; id -g', sees: /^1234\n5678$/m },
  // The client names the streams again in its attach request; the engine only stores these.
  AttachStdin: { body: { AttachStdin: true }, inspect: ['Config.AttachStdin', true] },
  AttachStdout: { body: { AttachStdout: true }, inspect: ['Config.AttachStdout', true] },
  AttachStderr: { body: { AttachStderr: true }, inspect: ['Config.AttachStderr', true] },
  ExposedPorts: {
    body: { ExposedPorts: { '7777/tcp': {} }, Cmd: ['sleep', '100'], HostConfig: { PublishAllPorts: true } },
    inspect: [
      'NetworkSettings.Ports.7777/tcp',
      expect.arrayContaining([expect.objectContaining({ HostPort: expect.stringMatching(/^[1-9]\d+$/) as string })]),
    ],
  },
  Tty: { body: { Tty: true }, probe: 'tty', sees: /\/dev\/(pts\/\d+|console)/ },
  OpenStdin: { body: { OpenStdin: true }, probe: 'readlink /proc/self/fd/0', sees: /^(?!\/dev\/null$).+$/m },
  StdinOnce: {
    body: { OpenStdin: true, StdinOnce: true, AttachStdin: true, Cmd: ['cat'] },
    // Without StdinOnce the container would keep its stdin open and cat would wait for the next client.
    acts: async (engine, id) => {
      const client = engine.docker('start', '-ai', id);
      client.stdin.end('said');
      expect(await client.result).toEqual({ stdout: 'said', stderr: '', exitCode: 0 });
    },
  },
  Env: { body: { Env: ['COLOUR=teal'] }, probe: 'echo $COLOUR', sees: /^teal$/m },
  Cmd: { body: { Cmd: ['echo', 'said'] }, sees: /^said$/m },
  Healthcheck: {
    body: { Healthcheck: { Test: ['CMD-SHELL', 'echo asked'], Interval: 1_000_000_000 }, Cmd: ['sleep', '100'] },
    acts: async (engine, id) => {
      await start(engine, id);
      await until(async () => (await inspected(engine, id)).State.Health?.Status === 'healthy');
      expect((await inspected(engine, id)).State.Health?.Log[0]?.Output).toBe('asked\n');
    },
  },
  ArgsEscaped: { body: { ArgsEscaped: true }, warns: /ArgsEscaped/ },
  Image: { body: { Image: 'missing-image' }, refused: { status: 404, message: /No such image: missing-image/ } },
  Volumes: { body: { Volumes: { '/data': {} } }, probe: 'grep " /data " /proc/mounts', sees: / \/data / },
  WorkingDir: { body: { WorkingDir: '/some/where' }, probe: 'pwd', sees: /^\/some\/where$/m },
  Entrypoint: { body: { Entrypoint: ['echo', 'entered'], Cmd: ['with'] }, sees: /^entered with$/m },
  NetworkDisabled: { body: { NetworkDisabled: true }, probe: 'ls /sys/class/net', sees: /^lo\s*$/ },
  MacAddress: {
    body: { MacAddress: '02:42:aa:bb:cc:dd' },
    probe: 'cat /sys/class/net/eth0/address',
    sees: /^02:42:aa:bb:cc:dd$/m,
  },
  // Used only by builds that start from an image committed from this container.
  OnBuild: { body: { OnBuild: ['RUN x'] }, inspect: ['Config.OnBuild', ['RUN x']] },
  Labels: {
    body: { Labels: { colour: 'teal' } },
    acts: async (engine, id) =>
      expect(
        (await engine.docker('ps', '-aq', '--no-trunc', '--filter', 'label=colour=teal').result).stdout.trim(),
      ).toBe(id),
  },
  StopSignal: {
    body: {
      StopSignal: 'SIGUSR1',
      Cmd: ['sh', '-c', 'trap "echo usr1; exit 5" USR1; echo ready; while :; do sleep 0.1; done'],
    },
    acts: async (engine, id) => {
      await start(engine, id);
      await until(async () => (await output(engine, id)).includes('ready'));
      await engine.api('POST', `/containers/${id}/stop`);
      expect(await output(engine, id)).toBe('ready\nusr1\n');
    },
  },
  StopTimeout: {
    body: { StopTimeout: 1, Cmd: ['sh', '-c', 'trap "" TERM; echo ready; while :; do sleep 0.1; done'] },
    acts: async (engine, id) => {
      await start(engine, id);
      await until(async () => (await output(engine, id)).includes('ready'));
      const stopSentAt = Date.now();
      await engine.api('POST', `/containers/${id}/stop`);
      const DEFAULT_MS = 10_000;
      expect(Date.now() - stopSentAt).toBeLessThan(DEFAULT_MS - 1000);
      expect((await inspected(engine, id)).State.ExitCode).toBe(137);
    },
  },
  Shell: {
    body: {
      Shell: ['/bin/sh', '-xc'],
      Healthcheck: { Test: ['CMD-SHELL', 'echo asked'], Interval: 1_000_000_000 },
      Cmd: ['sleep', '100'],
    },
    acts: async (engine, id) => {
      await start(engine, id);
      await until(async () => ((await inspected(engine, id)).State.Health?.Log ?? []).length > 0);
      expect((await inspected(engine, id)).State.Health?.Log[0]?.Output).toContain('+ echo asked\n');
    },
  },
};

const host = (
  HostConfig: Record<string, unknown>,
  rest: Omit<FieldCase, 'body'>,
  config: Record<string, unknown> = {},
): FieldCase => ({ body: { ...config, HostConfig }, ...rest });
/** Prints a cgroup control file as seen in the container, from the v1 controller or from the unified hierarchy. */
const cgroup = (v1: string, v2: string): string => `cat /sys/fs/cgroup/${v1} 2>/dev/null || cat /sys/fs/cgroup/${v2}`;

/** A disk of this host with its device numbers; undefined where no disk can be throttled. */
const disk = readdirSync('/sys/block')
  .filter((name) => existsSync(join('/dev', name)) && !name.startsWith('loop'))
  .map((name) => ({
    path: join('/dev', name),
    numbers: readFileSync(join('/sys/block', name, 'dev'), 'latin1').trim(),
  }))[0];

/**
 * An I/O limit of a disk: it is in the cgroup, or a warning says that the kernel lacks it. Without a disk, only the
 * check that the device exists can be tested.
 */
const throttle = (field: string, v1: string, v2: string, warns: RegExp): FieldCase =>
  disk
    ? host(
        { [field]: [{ Path: disk.path, Rate: 1_048_576 }] },
        {
          probe: cgroup(`blkio/blkio.throttle.${v1}_device`, 'io.max'),
          sees: new RegExp(`^${disk.numbers} (1048576$|.*${v2}=1048576)`, 'm'),
          warns,
        },
      )
    : host({ [field]: [{ Path: '/dev/nope', Rate: 1024 }] }, { refused: { status: 400, message: /\/dev\/nope/ } });

/** With systemd as the cgroup manager, containers are scopes in slices. */
const bySystemd = existsSync('/run/systemd/system') && existsSync('/sys/fs/cgroup/cgroup.controllers');

const boundPort = expect.arrayContaining([
  expect.objectContaining({ HostIp: '127.0.0.1', HostPort: expect.stringMatching(/^[1-9]\d+$/) as string }),
]) as unknown;

export const hostFields: Record<string, FieldCase> = {
  Binds: host({ Binds: ['/etc/os-release:/seen:ro'] }, { probe: 'cat /seen', sees: /PRETTY_NAME/ }),
  // The client writes the file; the engine only stores its path.
  ContainerIDFile: host({ ContainerIDFile: '/tmp/id' }, { inspect: ['HostConfig.ContainerIDFile', '/tmp/id'] }),
  LogConfig: host(
    { LogConfig: { Type: 'none', Config: {} } },
    {
      acts: async (engine, id) => {
        await start(engine, id);
        expect((await engine.docker('logs', id).result).stderr).toContain(
          'configured logging driver does not support reading',
        );
      },
    },
  ),
  NetworkMode: host({ NetworkMode: 'none' }, { probe: 'ls /sys/class/net', sees: /^lo\s*$/ }),
  PortBindings: host(
    { PortBindings: { '7777/tcp': [{ HostIp: '127.0.0.1', HostPort: '0' }] } },
    { inspect: ['NetworkSettings.Ports.7777/tcp', boundPort] },
    { Cmd: ['sleep', '100'] },
  ),
  RestartPolicy: host(
    { RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 2 } },
    {
      acts: async (engine, id) => {
        await start(engine, id);
        await until(async () => (await inspected(engine, id)).State.Status === 'exited');
        expect(await inspected(engine, id)).toMatchObject({ RestartCount: 2, State: { ExitCode: 3 } });
      },
    },
    { Cmd: ['sh', '-c', 'exit 3'] },
  ),
  AutoRemove: host(
    { AutoRemove: true },
    {
      acts: async (engine, id) => {
        await start(engine, id);
        await until(async () => (await engine.api('GET', `/containers/${id}/json`)).status === 404);
      },
    },
  ),
  VolumeDriver: host(
    { VolumeDriver: 'missing', Binds: ['named:/x'] },
    { refused: { status: 404, message: /plugin "missing" not found/ } },
  ),
  VolumesFrom: host({ VolumesFrom: ['missing'] }, { refused: { status: 400, message: /No such container: missing/ } }),
  ConsoleSize: host({ ConsoleSize: [33, 99] }, { probe: 'stty size', sees: /^33 99$/m }, { Tty: true }),
  // Annotations are read by the OCI runtime and its hooks, so look for them in config.json.
  Annotations: host(
    { Annotations: { 'org.example': 'x' } },
    {
      acts: async (engine, id) => {
        await start(engine, id);
        expect(
          JSON.parse(readFileSync(join(engine.execRoot, 'c', id.slice(0, 16), 'config.json'), 'utf8')),
        ).toMatchObject({ annotations: { 'org.example': 'x' } });
      },
    },
  ),
  CapAdd: host({ CapAdd: ['SYS_TIME'] }, { probe: 'grep CapEff /proc/self/status', sees: /00000000aa0425fb/ }),
  CapDrop: host({ CapDrop: ['ALL'] }, { probe: 'grep CapEff /proc/self/status', sees: /0000000000000000/ }),
  CgroupnsMode: host({ CgroupnsMode: 'private' }, { probe: 'cat /proc/self/cgroup', sees: /^(\d+:.*:\/\n)+$/ }),
  Dns: host({ Dns: ['192.0.2.7'] }, { probe: 'cat /etc/resolv.conf', sees: /^nameserver 192\.0\.2\.7$/m }),
  DnsOptions: host({ DnsOptions: ['ndots:3'] }, { probe: 'cat /etc/resolv.conf', sees: /^options .*ndots:3/m }),
  DnsSearch: host({ DnsSearch: ['example.test'] }, { probe: 'cat /etc/resolv.conf', sees: /^search example\.test$/m }),
  ExtraHosts: host({ ExtraHosts: ['friend:192.0.2.9'] }, { probe: 'cat /etc/hosts', sees: /^192\.0\.2\.9\s+friend$/m }),
  GroupAdd: host({ GroupAdd: ['4321'] }, { probe: 'id -G', sees: /\b4321\b/ }),
  IpcMode: host({ IpcMode: 'none' }, { probe: 'grep -c " /dev/shm " /proc/mounts; true', sees: /^0$/m }),
  Cgroup: host({ Cgroup: 'x' }, { warns: /Cgroup/ }),
  Links: host(
    { Links: ['missing:alias'] },
    { refused: { status: 400, message: /^could not get container for missing: No such container: missing$/ } },
  ),
  OomScoreAdj: host({ OomScoreAdj: 500 }, { probe: 'cat /proc/self/oom_score_adj', sees: /^500$/m }),
  PidMode: host({ PidMode: 'host' }, { probe: 'cat /proc/1/comm; echo $$', sees: /^(?!sh\n)[\s\S]*^\d{2,}$/m }),
  Privileged: host(
    { Privileged: true },
    { probe: 'grep Seccomp: /proc/self/status; ls /dev', sees: /Seccomp:\s+0\n[\s\S]*^kmsg$/m },
  ),
  PublishAllPorts: host(
    { PublishAllPorts: true },
    {
      inspect: [
        'NetworkSettings.Ports.7778/tcp',
        expect.arrayContaining([expect.objectContaining({ HostPort: expect.stringMatching(/^[1-9]\d+$/) as string })]),
      ],
    },
    { ExposedPorts: { '7778/tcp': {} }, Cmd: ['sleep', '100'] },
  ),
  ReadonlyRootfs: host({ ReadonlyRootfs: true }, { probe: 'touch /x 2>&1; true', sees: /Read-only/ }),
  SecurityOpt: host(
    { SecurityOpt: ['no-new-privileges'] },
    { probe: 'grep NoNewPrivs /proc/self/status', sees: /NoNewPrivs:\s+1/ },
  ),
  StorageOpt: host(
    { StorageOpt: { size: '10G' } },
    {
      refused: {
        status: 400,
        message: /--storage-opt is supported only for overlay over xfs with 'pquota' mount option/,
      },
    },
  ),
  Tmpfs: host(
    { Tmpfs: { '/scratch': 'size=1m' } },
    { probe: 'grep " /scratch " /proc/mounts', sees: /tmpfs .*size=1024k/ },
  ),
  UTSMode: host({ UTSMode: 'host' }, { probe: 'hostname', sees: new RegExp(`^${hostname()}$`, 'm') }),
  UsernsMode: host({ UsernsMode: 'nope' }, { refused: { status: 400, message: /invalid USER mode: nope/ } }),
  ShmSize: host({ ShmSize: 2 * MIB }, { probe: 'grep " /dev/shm " /proc/mounts', sees: /size=2048k/ }),
  Sysctls: host(
    { Sysctls: { 'net.ipv4.ip_default_ttl': '99' } },
    { probe: 'cat /proc/sys/net/ipv4/ip_default_ttl', sees: /^99$/m },
  ),
  Runtime: host(
    { Runtime: 'missing' },
    { refused: { status: 400, message: /unknown or invalid runtime name: missing/ } },
  ),
  Isolation: host(
    { Isolation: 'hyperv' },
    { refused: { status: 400, message: /invalid isolation \(hyperv\): linux only supports 'default'/ } },
  ),
  // cgroup v2 has weights, and how a runtime converts shares to a weight differs by version.
  CpuShares: host(
    { CpuShares: 512 },
    {
      probe: 'cat /sys/fs/cgroup/cpu/cpu.shares 2>/dev/null || echo weight $(cat /sys/fs/cgroup/cpu.weight)',
      sees: /^512$|^weight (?!100$)\d+$/m,
    },
  ),
  Memory: host(
    { Memory: 32 * MIB },
    { probe: cgroup('memory/memory.limit_in_bytes', 'memory.max'), sees: /^33554432$/m },
  ),
  NanoCpus: host({ NanoCpus: 500_000_000 }, { probe: cgroup('cpu/cpu.cfs_quota_us', 'cpu.max'), sees: /^50000\b/m }),
  CgroupParent: bySystemd
    ? host(
        { CgroupParent: 'fields.slice', CgroupnsMode: 'host' },
        { probe: 'cat /proc/self/cgroup', sees: /:\/fields\.slice\/holdfast-[0-9a-f]{64}\.scope$/m },
      )
    : host(
        { CgroupParent: '/holdfast-fields', CgroupnsMode: 'host' },
        { probe: 'cat /proc/self/cgroup', sees: /:\/holdfast-fields\/[0-9a-f]{64}$/m },
      ),
  BlkioWeight: host(
    { BlkioWeight: 300 },
    {
      probe: cgroup('blkio/blkio.weight', 'io.weight io.bfq.weight'),
      sees: /\b300\b/,
      warns: /BlkioWeight|Block I\/O weight/,
    },
  ),
  BlkioWeightDevice: disk
    ? host(
        { BlkioWeightDevice: [{ Path: disk.path, Weight: 300 }] },
        {
          probe: cgroup('blkio/blkio.weight_device', 'io.weight io.bfq.weight'),
          sees: new RegExp(`^${disk.numbers} `, 'm'),
          warns: /Block I\/O weight_device/,
        },
      )
    : host(
        { BlkioWeightDevice: [{ Path: '/dev/nope', Weight: 300 }] },
        { refused: { status: 400, message: /\/dev\/nope/ } },
      ),
  BlkioDeviceReadBps: throttle('BlkioDeviceReadBps', 'read_bps', 'rbps', /BPS read limit/),
  BlkioDeviceWriteBps: throttle('BlkioDeviceWriteBps', 'write_bps', 'wbps', /BPS write limit/),
  BlkioDeviceReadIOps: throttle('BlkioDeviceReadIOps', 'read_iops', 'riops', /IOPS read limit/),
  BlkioDeviceWriteIOps: throttle('BlkioDeviceWriteIOps', 'write_iops', 'wiops', /IOPS write limit/),
  CpuPeriod: host(
    { CpuPeriod: 50_000, CpuQuota: 25_000 },
    { probe: cgroup('cpu/cpu.cfs_period_us', 'cpu.max'), sees: /\b50000$/m },
  ),
  CpuQuota: host({ CpuQuota: 25_000 }, { probe: cgroup('cpu/cpu.cfs_quota_us', 'cpu.max'), sees: /^25000\b/m }),
  ...(existsSync('/sys/fs/cgroup/cpu/cpu.rt_runtime_us')
    ? {
        CpuRealtimePeriod: host({ CpuRealtimePeriod: 1_000_000 }, { warns: /CpuRealtimePeriod/ }),
        CpuRealtimeRuntime: host({ CpuRealtimeRuntime: 950_000 }, { warns: /CpuRealtimeRuntime/ }),
      }
    : {
        CpuRealtimePeriod: host(
          { CpuRealtimePeriod: 1_000_000 },
          { refused: { status: 400, message: /kernel does not support CPU real-time scheduler/ } },
        ),
        CpuRealtimeRuntime: host(
          { CpuRealtimeRuntime: 950_000 },
          { refused: { status: 400, message: /kernel does not support CPU real-time scheduler/ } },
        ),
      }),
  CpusetCpus:
    availableParallelism() > 1
      ? host({ CpusetCpus: '0' }, { probe: 'grep Cpus_allowed_list /proc/self/status', sees: /:\s+0$/m })
      : host(
          { CpusetCpus: '4095' },
          { refused: { status: 400, message: /Requested CPUs are not available - requested 4095/ } },
        ),
  // Most hosts have a single NUMA node, so only the refusal can be tested everywhere.
  CpusetMems: host(
    { CpusetMems: '4095' },
    { refused: { status: 400, message: /Requested memory nodes are not available - requested 4095/ } },
  ),
  Devices: host(
    { Devices: [{ PathOnHost: '/dev/null', PathInContainer: '/dev/nothing', CgroupPermissions: 'rwm' }] },
    {
      probe: 'ls -l /dev/nothing && echo gone > /dev/nothing && cat /dev/nothing; echo end',
      sees: /^c.* 1,\s+3 .*\nend$/m,
    },
  ),
  // The host need not have this device: without the rule, opening it fails with EPERM; with the rule, the kernel looks
  // for the driver and fails with ENXIO.
  DeviceCgroupRules: host(
    { DeviceCgroupRules: ['c 200:7 rwm'] },
    { probe: 'mknod /rare c 200 7; (: < /rare) 2>&1; echo end', sees: /No such (device|file)[^\n]*\nend/ },
  ),
  DeviceRequests: host(
    { DeviceRequests: [{ Count: -1, Capabilities: [['gpu']] }] },
    { refused: { status: 400, message: /^could not select device driver "" with capabilities: \[\[gpu\]\]$/ } },
  ),
  KernelMemory: host({ KernelMemory: 32 * MIB }, { warns: /KernelMemory/ }),
  KernelMemoryTCP: host({ KernelMemoryTCP: 32 * MIB }, { warns: /KernelMemoryTCP/ }),
  MemoryReservation: host(
    { MemoryReservation: 32 * MIB },
    { probe: cgroup('memory/memory.soft_limit_in_bytes', 'memory.low'), sees: /^33554432$/m },
  ),
  MemorySwap: host(
    { Memory: 32 * MIB, MemorySwap: 48 * MIB },
    {
      probe: cgroup('memory/memory.memsw.limit_in_bytes', 'memory.swap.max'),
      sees: /^50331648$|^16777216$/m,
      warns: /swap limit/,
    },
  ),
  MemorySwappiness: host(
    { MemorySwappiness: 30 },
    { probe: 'cat /sys/fs/cgroup/memory/memory.swappiness', sees: /^30$/m, warns: /swappiness/ },
  ),
  OomKillDisable: host(
    { Memory: 32 * MIB, OomKillDisable: true },
    {
      probe: 'cat /sys/fs/cgroup/memory/memory.oom_control',
      sees: /^oom_kill_disable 1$/m,
      warns: /OomKillDisable discarded/,
    },
  ),
  PidsLimit: host({ PidsLimit: 77 }, { probe: cgroup('pids/pids.max', 'pids.max'), sees: /^77$/m }),
  Ulimits: host(
    { Ulimits: [{ Name: 'nofile', Soft: 99, Hard: 100 }] },
    { probe: 'ulimit -n; ulimit -Hn', sees: /^99\n100$/m },
  ),
  CpuCount: host({ CpuCount: 2 }, { warns: /CpuCount/ }),
  CpuPercent: host({ CpuPercent: 50 }, { warns: /CpuPercent/ }),
  IOMaximumIOps: host(
    { IOMaximumIOps: 50 },
    { refused: { status: 400, message: /invalid option: QoS maximum IOPs configuration is not supported on linux/ } },
  ),
  IOMaximumBandwidth: host(
    { IOMaximumBandwidth: 50 },
    {
      refused: {
        status: 400,
        message: /invalid option: QoS maximum bandwidth configuration is not supported on linux/,
      },
    },
  ),
  Mounts: host(
    { Mounts: [{ Type: 'tmpfs', Target: '/scratch', TmpfsOptions: { SizeBytes: MIB } }] },
    { probe: 'grep " /scratch " /proc/mounts', sees: /size=1024k/ },
  ),
  MaskedPaths: host({ MaskedPaths: ['/proc/uptime'] }, { probe: 'cat /proc/uptime; echo read', sees: /^read\n$/ }),
  ReadonlyPaths: host(
    { ReadonlyPaths: ['/proc/sys/kernel'] },
    { probe: 'grep " /proc/sys" /proc/mounts', sees: /^proc \/proc\/sys\/kernel proc ro,[^\n]*\n$/ },
  ),
  Init: host({ Init: true }, { probe: 'cat /proc/1/comm', sees: /init|tini|catatonit/ }),
};
