/**
 * Every field of Config and HostConfig, with a value that is not its default, and how that shows: in what the container
 * itself sees (`sees`), in how it behaves (`state`), in a refusal (`refused`) or in a warning that names it (`warns`).
 */

export interface FieldCase {
  /** The create body, merged over {Image: 'busybox', Cmd: ['sh', '-c', probe]}. */
  body: Record<string, unknown>;
  /** Run in the container; its output must match `sees`. */
  probe?: string;
  sees?: RegExp;
  refused?: { status: number; message: RegExp };
  warns?: RegExp;
  /** Of inspect, as a dotted path, and what it must be: for fields whose only effect is what clients read back or what a later act does. */
  inspect?: [string, unknown];
}

const MIB = 1024 * 1024;

export const configFields: Record<string, FieldCase> = {
  Hostname: { body: { Hostname: 'somewhere' }, probe: 'hostname', sees: /^somewhere$/m },
  Domainname: { body: { Hostname: 'a', Domainname: 'example.test' }, probe: 'cat /proc/sys/kernel/domainname /etc/hosts', sees: /example\.test/ },
  User: { body: { User: '1234:5678' }, probe: 'id -u; id -g', sees: /1234\n5678/ },
  AttachStdin: { body: { AttachStdin: true }, inspect: ['Config.AttachStdin', true] },
  AttachStdout: { body: { AttachStdout: true }, inspect: ['Config.AttachStdout', true] },
  AttachStderr: { body: { AttachStderr: true }, inspect: ['Config.AttachStderr', true] },
  ExposedPorts: { body: { ExposedPorts: { '7777/tcp': {} }, HostConfig: { PublishAllPorts: true } }, inspect: ['Config.ExposedPorts', { '7777/tcp': {} }] },
  Tty: { body: { Tty: true }, probe: 'tty', sees: /\/dev\/(pts\/\d+|console)/ },
  OpenStdin: { body: { OpenStdin: true }, probe: 'readlink /proc/self/fd/0', sees: /pipe|fifo|\.in|\(unreachable\)|^\// },
  StdinOnce: { body: { OpenStdin: true, StdinOnce: true }, inspect: ['Config.StdinOnce', true] },
  Env: { body: { Env: ['COLOUR=teal'] }, probe: 'echo $COLOUR', sees: /^teal$/m },
  Cmd: { body: { Cmd: ['echo', 'said'] }, sees: /^said$/m },
  Healthcheck: { body: { Healthcheck: { Test: ['CMD-SHELL', 'true'], Interval: 5_000_000_000 } }, inspect: ['State.Health.Status', 'starting'] },
  ArgsEscaped: { body: { ArgsEscaped: true }, warns: /ArgsEscaped/ },
  Image: { body: { Image: 'missing-image' }, refused: { status: 404, message: /No such image/ } },
  Volumes: { body: { Volumes: { '/data': {} } }, probe: 'grep " /data " /proc/mounts', sees: /\/data/ },
  WorkingDir: { body: { WorkingDir: '/some/where' }, probe: 'pwd', sees: /^\/some\/where$/m },
  Entrypoint: { body: { Entrypoint: ['echo', 'entered'], Cmd: ['with'] }, sees: /^entered with$/m },
  NetworkDisabled: { body: { NetworkDisabled: true }, probe: 'ls /sys/class/net', sees: /^lo$/m },
  MacAddress: { body: { MacAddress: '02:42:aa:bb:cc:dd' }, probe: 'cat /sys/class/net/eth0/address', sees: /02:42:aa:bb:cc:dd/ },
  OnBuild: { body: { OnBuild: ['RUN x'] }, inspect: ['Config.OnBuild', ['RUN x']] },
  Labels: { body: { Labels: { a: 'b' } }, inspect: ['Config.Labels.a', 'b'] },
  StopSignal: { body: { StopSignal: 'SIGUSR1' }, inspect: ['Config.StopSignal', 'SIGUSR1'] },
  StopTimeout: { body: { StopTimeout: 3 }, inspect: ['Config.StopTimeout', 3] },
  Shell: { body: { Shell: ['/bin/ash', '-c'] }, inspect: ['Config.Shell', ['/bin/ash', '-c']] },
};

const host = (HostConfig: Record<string, unknown>, rest: Omit<FieldCase, 'body'>, config: Record<string, unknown> = {}): FieldCase => ({ body: { ...config, HostConfig }, ...rest });
/** Where a cgroup v1 controller's or the unified cgroup's file is, inside the container. */
const cgroup = (v1: string, v2: string): string => `cat /sys/fs/cgroup/${v1} 2>/dev/null || cat /sys/fs/cgroup/${v2}`;

export const hostFields: Record<string, FieldCase> = {
  Binds: host({ Binds: ['/etc/os-release:/seen:ro'] }, { probe: 'cat /seen', sees: /PRETTY_NAME/ }),
  ContainerIDFile: host({ ContainerIDFile: '/tmp/id' }, { inspect: ['HostConfig.ContainerIDFile', '/tmp/id'] }),
  LogConfig: host({ LogConfig: { Type: 'none', Config: {} } }, { inspect: ['HostConfig.LogConfig.Type', 'none'] }),
  NetworkMode: host({ NetworkMode: 'none' }, { probe: 'ls /sys/class/net', sees: /^lo$/m }),
  PortBindings: host({ PortBindings: { '7777/tcp': [{ HostIp: '127.0.0.1', HostPort: '0' }] } }, { inspect: ['HostConfig.PortBindings', { '7777/tcp': [{ HostIp: '127.0.0.1', HostPort: '0' }] }] }),
  RestartPolicy: host({ RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 2 } }, { inspect: ['HostConfig.RestartPolicy.MaximumRetryCount', 2] }),
  AutoRemove: host({ AutoRemove: true }, { inspect: ['HostConfig.AutoRemove', true] }),
  VolumeDriver: host({ VolumeDriver: 'missing', Binds: ['named:/x'] }, { refused: { status: 404, message: /missing/ } }),
  VolumesFrom: host({ VolumesFrom: ['missing'] }, { refused: { status: 404, message: /missing/ } }),
  ConsoleSize: host({ ConsoleSize: [33, 99] }, { probe: 'stty size', sees: /33 99/ }, { Tty: true }),
  Annotations: host({ Annotations: { 'org.example': 'x' } }, { inspect: ['HostConfig.Annotations', { 'org.example': 'x' }] }),
  CapAdd: host({ CapAdd: ['SYS_TIME'] }, { probe: 'grep CapEff /proc/self/status', sees: /00000000aa0425fb/ }),
  CapDrop: host({ CapDrop: ['ALL'] }, { probe: 'grep CapEff /proc/self/status', sees: /0000000000000000/ }),
  CgroupnsMode: host({ CgroupnsMode: 'private' }, { probe: 'cat /proc/self/cgroup', sees: /:\/$/m }),
  Dns: host({ Dns: ['192.0.2.7'] }, { probe: 'cat /etc/resolv.conf', sees: /nameserver 192\.0\.2\.7/ }),
  DnsOptions: host({ DnsOptions: ['ndots:3'] }, { probe: 'cat /etc/resolv.conf', sees: /ndots:3/ }),
  DnsSearch: host({ DnsSearch: ['example.test'] }, { probe: 'cat /etc/resolv.conf', sees: /search example\.test/ }),
  ExtraHosts: host({ ExtraHosts: ['friend:192.0.2.9'] }, { probe: 'cat /etc/hosts', sees: /192\.0\.2\.9\s+friend/ }),
  GroupAdd: host({ GroupAdd: ['4321'] }, { probe: 'id -G', sees: /4321/ }),
  IpcMode: host({ IpcMode: 'none' }, { probe: 'grep -c " /dev/shm " /proc/mounts; true', sees: /^0$/m }),
  Cgroup: host({ Cgroup: 'x' }, { warns: /Cgroup/ }),
  Links: host({ Links: ['missing:alias'] }, { refused: { status: 404, message: /missing/ } }),
  OomScoreAdj: host({ OomScoreAdj: 500 }, { probe: 'cat /proc/self/oom_score_adj', sees: /^500$/m }),
  PidMode: host({ PidMode: 'host' }, { probe: 'echo $$', sees: /^\d{2,}$/m }),
  Privileged: host({ Privileged: true }, { probe: 'grep Seccomp: /proc/self/status; ls /dev | wc -l', sees: /Seccomp:\s+0/ }),
  PublishAllPorts: host({ PublishAllPorts: true }, { inspect: ['HostConfig.PublishAllPorts', true] }, { ExposedPorts: { '7778/tcp': {} } }),
  ReadonlyRootfs: host({ ReadonlyRootfs: true }, { probe: 'touch /x 2>&1; true', sees: /Read-only/ }),
  SecurityOpt: host({ SecurityOpt: ['no-new-privileges'] }, { probe: 'grep NoNewPrivs /proc/self/status', sees: /NoNewPrivs:\s+1/ }),
  StorageOpt: host({ StorageOpt: { size: '10G' } }, { refused: { status: 400, message: /storage-opt|StorageOpt|--storage-opt/i } }),
  Tmpfs: host({ Tmpfs: { '/scratch': 'size=1m' } }, { probe: 'grep " /scratch " /proc/mounts', sees: /tmpfs .*size=1024k/ }),
  UTSMode: host({ UTSMode: 'host' }, { inspect: ['HostConfig.UTSMode', 'host'] }),
  UsernsMode: host({ UsernsMode: 'nope' }, { refused: { status: 400, message: /invalid USER mode/i } }),
  ShmSize: host({ ShmSize: 2 * MIB }, { probe: 'grep " /dev/shm " /proc/mounts', sees: /size=2048k/ }),
  Sysctls: host({ Sysctls: { 'net.ipv4.ip_default_ttl': '99' } }, { probe: 'cat /proc/sys/net/ipv4/ip_default_ttl', sees: /^99$/m }),
  Runtime: host({ Runtime: 'missing' }, { refused: { status: 400, message: /unknown or invalid runtime name: missing/ } }),
  Isolation: host({ Isolation: 'hyperv' }, { refused: { status: 400, message: /isolation/i } }),
  CpuShares: host({ CpuShares: 512 }, { probe: cgroup('cpu/cpu.shares', 'cpu.weight'), sees: /^(512|20|\d+)$/m }),
  Memory: host({ Memory: 32 * MIB }, { probe: cgroup('memory/memory.limit_in_bytes', 'memory.max'), sees: /33554432/ }),
  NanoCpus: host({ NanoCpus: 500_000_000 }, { probe: cgroup('cpu/cpu.cfs_quota_us', 'cpu.max'), sees: /50000/ }),
  CgroupParent: host({ CgroupParent: '/holdfast-fields' }, { probe: 'cat /proc/self/cgroup', sees: /./ }),
  BlkioWeight: host({ BlkioWeight: 300 }, { warns: /[Bb]lkio|weight/ }),
  BlkioWeightDevice: host({ BlkioWeightDevice: [{ Path: '/dev/null', Weight: 300 }] }, { warns: /[Bb]lkio|weight/ }),
  BlkioDeviceReadBps: host({ BlkioDeviceReadBps: [{ Path: '/dev/nope', Rate: 1024 }] }, { refused: { status: 400, message: /nope/ } }),
  BlkioDeviceWriteBps: host({ BlkioDeviceWriteBps: [{ Path: '/dev/nope', Rate: 1024 }] }, { refused: { status: 400, message: /nope/ } }),
  BlkioDeviceReadIOps: host({ BlkioDeviceReadIOps: [{ Path: '/dev/nope', Rate: 1024 }] }, { refused: { status: 400, message: /nope/ } }),
  BlkioDeviceWriteIOps: host({ BlkioDeviceWriteIOps: [{ Path: '/dev/nope', Rate: 1024 }] }, { refused: { status: 400, message: /nope/ } }),
  CpuPeriod: host({ CpuPeriod: 50_000, CpuQuota: 25_000 }, { probe: cgroup('cpu/cpu.cfs_period_us', 'cpu.max'), sees: /50000/ }),
  CpuQuota: host({ CpuQuota: 25_000 }, { probe: cgroup('cpu/cpu.cfs_quota_us', 'cpu.max'), sees: /25000/ }),
  CpuRealtimePeriod: host({ CpuRealtimePeriod: 1_000_000 }, { warns: /real-?time/i }),
  CpuRealtimeRuntime: host({ CpuRealtimeRuntime: 950_000 }, { warns: /real-?time/i }),
  CpusetCpus: host({ CpusetCpus: '0' }, { probe: 'grep Cpus_allowed_list /proc/self/status', sees: /:\s+0$/m }),
  CpusetMems: host({ CpusetMems: '0' }, { probe: 'grep Mems_allowed_list /proc/self/status', sees: /:\s+0$/m }),
  Devices: host({ Devices: [{ PathOnHost: '/dev/null', PathInContainer: '/dev/nothing', CgroupPermissions: 'rwm' }] }, { probe: 'ls -l /dev/nothing', sees: /^c/m }),
  DeviceCgroupRules: host({ DeviceCgroupRules: ['c 10:200 rwm'] }, { probe: 'cat /sys/fs/cgroup/devices/devices.list 2>/dev/null || echo v2', sees: /c 10:200 rwm|v2/ }),
  DeviceRequests: host({ DeviceRequests: [{ Count: -1, Capabilities: [['gpu']] }] }, { refused: { status: 500, message: /could not select device driver/ } }),
  MemoryReservation: host({ MemoryReservation: 32 * MIB }, { probe: cgroup('memory/memory.soft_limit_in_bytes', 'memory.low'), sees: /33554432/ }),
  MemorySwap: host({ Memory: 32 * MIB, MemorySwap: 64 * MIB }, { inspect: ['HostConfig.MemorySwap', 64 * MIB] }),
  MemorySwappiness: host({ MemorySwappiness: 30 }, { probe: 'cat /sys/fs/cgroup/memory/memory.swappiness 2>/dev/null || echo v2', sees: /^30$|v2/m }),
  OomKillDisable: host({ Memory: 32 * MIB, OomKillDisable: true }, { probe: 'cat /sys/fs/cgroup/memory/memory.oom_control 2>/dev/null || echo v2', sees: /oom_kill_disable 1|v2/ }),
  PidsLimit: host({ PidsLimit: 77 }, { probe: cgroup('pids/pids.max', 'pids.max'), sees: /^77$/m }),
  Ulimits: host({ Ulimits: [{ Name: 'nofile', Soft: 99, Hard: 100 }] }, { probe: 'ulimit -n; ulimit -Hn', sees: /99\n100/ }),
  CpuCount: host({ CpuCount: 2 }, { warns: /CpuCount/ }),
  CpuPercent: host({ CpuPercent: 50 }, { warns: /CpuPercent/ }),
  IOMaximumIOps: host({ IOMaximumIOps: 50 }, { warns: /IOMaximumIOps/ }),
  IOMaximumBandwidth: host({ IOMaximumBandwidth: 50 }, { warns: /IOMaximumBandwidth/ }),
  Mounts: host({ Mounts: [{ Type: 'tmpfs', Target: '/scratch', TmpfsOptions: { SizeBytes: MIB } }] }, { probe: 'grep " /scratch " /proc/mounts', sees: /size=1024k/ }),
  MaskedPaths: host({ MaskedPaths: ['/proc/uptime'] }, { probe: 'cat /proc/uptime; echo read', sees: /^read$/m }),
  ReadonlyPaths: host({ ReadonlyPaths: ['/proc/bus'] }, { inspect: ['HostConfig.ReadonlyPaths', ['/proc/bus']] }),
  Init: host({ Init: true }, { probe: 'cat /proc/1/comm', sees: /init|tini|catatonit/ }),
};
