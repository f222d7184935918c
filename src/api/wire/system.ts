/** JSON of /version, /info and /system/df. */
import type { Config } from '../../config/config.ts';
import type { SystemFacts, VersionFacts } from '../../engine/system.ts';
import type { Control } from '../../engine/spec/cgroup-controls.ts';
import { rfc3339 } from '../../engine/time.ts';
import { API_VERSION, MIN_API_VERSION, VERSION } from '../../version.ts';
import type { Schemas, Supports } from './schemas.ts';

const INDEX = 'docker.io';
/** The build does not record commit and time. */
const UNKNOWN = '';

/** GET /version */
export function systemVersion({ kernel, architecture, runtime, init }: VersionFacts): Schemas['SystemVersion'] {
  const common = {
    ApiVersion: API_VERSION,
    MinAPIVersion: MIN_API_VERSION,
    GitCommit: UNKNOWN,
    GoVersion: `node${process.version}`,
    Os: 'linux',
    Arch: architecture,
    KernelVersion: kernel,
    BuildTime: UNKNOWN,
  };
  const programs = [runtime, init]
    .filter((program) => program.version !== '')
    .map(({ name, version, commit }) => ({ Name: name, Version: version, Details: { GitCommit: commit } }));
  return {
    Platform: { Name: 'Holdfast' },
    Components: [{ Name: 'Engine', Version: VERSION, Details: { ...common, Experimental: 'false' } }, ...programs],
    Version: VERSION,
    ...common,
  };
}

/** GET /info */
export function systemInfo(facts: SystemFacts, config: Config, supports: Supports): Schemas['SystemInfo'] {
  const { storage } = facts;
  const has = (control: Control): boolean => facts.controls.has(control);
  return {
    ID: facts.id,
    Containers: facts.containers.all,
    ContainersRunning: facts.containers.running,
    ContainersPaused: facts.containers.paused,
    ContainersStopped: facts.containers.stopped,
    Images: facts.images,
    Driver: storage.driver,
    DriverStatus: [
      ['Backing Filesystem', storage.backing],
      ['Supports d_type', String(storage.supportsDType)],
      ['Using metacopy', 'false'],
      ['Native Overlay Diff', String(storage.nativeDiff)],
      ['userxattr', 'false'],
    ],
    Plugins: {
      Volume: ['local'],
      Network: ['bridge', 'host', 'null'],
      Authorization: null,
      Log: ['json-file', 'none'],
    },
    MemoryLimit: has('memory'),
    SwapLimit: has('swap'),
    CpuCfsPeriod: has('cpuCfs'),
    CpuCfsQuota: has('cpuCfs'),
    CPUShares: has('cpuShares'),
    CPUSet: has('cpuset'),
    PidsLimit: has('pids'),
    IPv4Forwarding: facts.ipv4Forwarding,
    ...(supports('1.50')
      ? {}
      : { BridgeNfIptables: facts.bridgeNetfilter.ipv4, BridgeNfIp6tables: facts.bridgeNetfilter.ipv6 }),
    Debug: config.debug,
    NFd: facts.openFiles,
    OomKillDisable: has('oomKillDisable'),
    NGoroutines: 0,
    SystemTime: rfc3339(facts.time),
    LoggingDriver: config.logDriver,
    CgroupDriver: config.cgroupDriver,
    CgroupVersion: supports('1.41') ? facts.cgroupVersion : undefined,
    NEventsListener: facts.listeners,
    KernelVersion: facts.kernel,
    OperatingSystem: facts.operatingSystem,
    OSVersion: facts.osVersion,
    OSType: 'linux',
    Architecture: facts.machine,
    IndexServerAddress: 'https://index.docker.io/v1/',
    RegistryConfig: registryConfig(config),
    NCPU: facts.cpus,
    MemTotal: facts.memory,
    GenericResources: null,
    DockerRootDir: config.dataRoot,
    HttpProxy: facts.proxies.http,
    HttpsProxy: facts.proxies.https,
    NoProxy: facts.proxies.no,
    Name: facts.hostname,
    Labels: [...config.labels],
    ExperimentalBuild: false,
    ServerVersion: VERSION,
    Runtimes: runtimes(config, supports('1.44') ? facts.runtimeFeatures : new Map()),
    DefaultRuntime: config.defaultRuntime,
    Swarm: {
      NodeID: '',
      NodeAddr: '',
      LocalNodeState: 'inactive',
      ControlAvailable: false,
      Error: '',
      RemoteManagers: null,
    },
    LiveRestoreEnabled: true,
    Isolation: '',
    InitBinary: config.initPath,
    ContainerdCommit: commit(''),
    RuncCommit: commit(facts.runtime.commit),
    InitCommit: commit(facts.init.commit),
    SecurityOptions: facts.securityOptions,
    DefaultAddressPools: config.defaultAddressPools.map(({ base, size }) => ({ Base: base, Size: size })),
    Warnings: warnings(facts, config),
  };
}

const commit = (id: string): Schemas['Commit'] => ({ ID: id, Expected: id });

const FEATURES = 'org.opencontainers.runtime-spec.features';

function runtimes(config: Config, features: ReadonlyMap<string, string>): Schemas['SystemInfo']['Runtimes'] {
  const entries = Object.entries(config.runtimes).map(([name, { path, args }]) => {
    const runtimeArgs = args.length > 0 ? args : undefined;
    const told = features.get(name);
    return [name, { path, runtimeArgs, status: told === undefined ? undefined : { [FEATURES]: told } }] as const;
  });
  return Object.fromEntries(entries);
}

function registryConfig({ registryMirrors, insecureRegistries }: Config): Schemas['RegistryConfig'] {
  const isNetwork = (registry: string): boolean => registry.includes('/');
  const index = (Name: string, Official: boolean) => ({
    Name,
    Mirrors: Official ? [...registryMirrors] : [],
    Secure: Official,
    Official,
  });
  const indexes = [index(INDEX, true), ...insecureRegistries.filter((r) => !isNetwork(r)).map((r) => index(r, false))];
  return {
    AllowNondistributableArtifactsCIDRs: null,
    AllowNondistributableArtifactsHostnames: null,
    // As in Docker, registries on this host need no TLS.
    InsecureRegistryCIDRs: [...insecureRegistries.filter(isNetwork), '::1/128', '127.0.0.0/8'],
    IndexConfigs: Object.fromEntries(indexes.map((each) => [each.Name, each])),
    Mirrors: [...registryMirrors],
  };
}

/** What dockerd calls a control that the kernel lacks; `V2_NAMES` takes precedence on cgroup v2. */
const CONTROL_NAMES: readonly [Control, string][] = [
  ['memory', 'memory limit'],
  ['swap', 'swap limit'],
  ['oomKillDisable', 'oom kill disable'],
  ['cpuCfs', 'cpu cfs quota'],
  ['cpuCfs', 'cpu cfs period'],
  ['cpuShares', 'cpu shares'],
  ['cpuset', 'cpuset'],
  ['blkioWeight', 'blkio weight'],
  ['blkioWeightDevice', 'blkio weight_device'],
  ['blkioReadBps', 'blkio throttle.read_bps_device'],
  ['blkioWriteBps', 'blkio throttle.write_bps_device'],
  ['blkioReadIOps', 'blkio throttle.read_iops_device'],
  ['blkioWriteIOps', 'blkio throttle.write_iops_device'],
];
const V2_NAMES: Partial<Record<Control, string>> = {
  blkioWeight: 'io.weight',
  blkioWeightDevice: 'io.weight (per device)',
  blkioReadBps: 'io.max (rbps)',
  blkioWriteBps: 'io.max (wbps)',
  blkioReadIOps: 'io.max (riops)',
  blkioWriteIOps: 'io.max (wiops)',
};

/** dockerd's warnings, to the letter (moby daemon/info_unix.go). */
function warnings(facts: SystemFacts, config: Config): string[] | null {
  const { ipv4Forwarding, bridgeNetfilter, storage, securityOptions } = facts;
  const customSeccomp = securityOptions.some((o) => o.startsWith('name=seccomp') && !o.endsWith('=builtin'));
  const conditions: [applies: boolean, text: string][] = [
    [!ipv4Forwarding, 'WARNING: IPv4 forwarding is disabled'],
    [!bridgeNetfilter.ipv4, 'WARNING: bridge-nf-call-iptables is disabled'],
    [!bridgeNetfilter.ipv6, 'WARNING: bridge-nf-call-ip6tables is disabled'],
    [
      !storage.supportsDType,
      `WARNING: ${storage.driver}: the backing ${storage.backing} filesystem is formatted without d_type support, which leads to incorrect behavior.`,
    ],
    [customSeccomp, 'WARNING: daemon is not using the default seccomp profile'],
  ];
  const all = [
    ...missingControls(facts),
    ...conditions.filter(([applies]) => applies).map(([, text]) => text),
    ...config.warnings,
  ];
  return all.length > 0 ? all : null;
}

function missingControls({ controls, cgroupVersion }: SystemFacts): string[] {
  const v2 = cgroupVersion === '2';
  return CONTROL_NAMES.filter(([control]) => !controls.has(control))
    .filter(([control]) => !(v2 && control === 'oomKillDisable')) // cgroup v2 does not have it.
    .map(([control, name]) => `WARNING: No ${(v2 && V2_NAMES[control]) || name} support`);
}

/** Sections that were not asked for are undefined. */
export interface Usage {
  /** Bytes of all layers, each counted once. */
  layersSize?: number;
  images?: Schemas['ImageSummary'][];
  containers?: Schemas['ContainerSummary'][];
  volumes?: Schemas['Volume'][];
  buildCache?: never[];
}

/** GET /system/df */
export const diskUsage = ({ layersSize, images, containers, volumes, buildCache }: Usage): Schemas['DiskUsage'] => ({
  LayersSize: layersSize ?? 0,
  Images: images ?? null,
  Containers: containers ?? null,
  Volumes: volumes ?? null,
  BuildCache: buildCache ?? null,
});
