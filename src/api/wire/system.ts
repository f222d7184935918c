/** The daemon and its host as Docker's JSON. */
import type { Config } from '../../config/config.ts';
import type { SystemFacts, VersionFacts } from '../../engine/system.ts';
import type { Control } from '../../engine/spec/cgroup-controls.ts';
import { rfc3339 } from '../../engine/time.ts';
import { API_VERSION, MIN_API_VERSION, VERSION } from '../../version.ts';
import type { Schemas, Speaks } from './schemas.ts';

const INDEX = 'docker.io';
/** Answers of what the build does not know. */
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
export function systemInfo(facts: SystemFacts, config: Config, speaks: Speaks): Schemas['SystemInfo'] {
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
    BridgeNfIptables: facts.bridgeNetfilter.ipv4,
    BridgeNfIp6tables: facts.bridgeNetfilter.ipv6,
    Debug: config.debug,
    NFd: facts.openFiles,
    OomKillDisable: has('oomKillDisable'),
    NGoroutines: 0,
    SystemTime: rfc3339(facts.time),
    LoggingDriver: config.logDriver,
    CgroupDriver: config.cgroupDriver,
    ...(speaks('1.41') ? { CgroupVersion: facts.cgroupVersion } : {}),
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
    Runtimes: Object.fromEntries(
      Object.entries(config.runtimes).map(([name, { path, args }]) => [
        name,
        { path, ...(args.length > 0 ? { runtimeArgs: args } : {}) },
      ]),
    ),
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

function registryConfig({ registryMirrors, insecureRegistries }: Config): Schemas['RegistryConfig'] {
  const isNetwork = (registry: string): boolean => registry.includes('/');
  const index = (Name: string, Official: boolean): Schemas['RegistryConfig']['IndexConfigs'][string] => ({
    Name,
    Mirrors: Official ? [...registryMirrors] : [],
    Secure: Official,
    Official,
  });
  return {
    AllowNondistributableArtifactsCIDRs: null,
    AllowNondistributableArtifactsHostnames: null,
    // Docker trusts what is on this host without TLS.
    InsecureRegistryCIDRs: [...insecureRegistries.filter(isNetwork), '::1/128', '127.0.0.0/8'],
    IndexConfigs: Object.fromEntries([
      [INDEX, index(INDEX, true)],
      ...insecureRegistries.filter((r) => !isNetwork(r)).map((r) => [r, index(r, false)]),
    ]),
    Mirrors: [...registryMirrors],
  };
}

const MISSING: readonly [Control, string][] = [
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
const MISSING_V2: Partial<Record<Control, string>> = {
  blkioWeight: 'io.weight',
  blkioWeightDevice: 'io.weight (per device)',
  blkioReadBps: 'io.max (rbps)',
  blkioWriteBps: 'io.max (wbps)',
  blkioReadIOps: 'io.max (riops)',
  blkioWriteIOps: 'io.max (wiops)',
};

/** In dockerd's words (moby daemon/info_unix.go). */
function warnings(
  { controls, cgroupVersion, ipv4Forwarding, bridgeNetfilter, storage, securityOptions }: SystemFacts,
  config: Config,
): string[] | null {
  const v2 = cgroupVersion === '2';
  const lacking = MISSING.filter(([control]) => !controls.has(control) && !(v2 && control === 'oomKillDisable')).map(
    ([control, words]) => `WARNING: No ${(v2 && MISSING_V2[control]) || words} support`,
  );
  const all = [
    ...lacking,
    ...(ipv4Forwarding ? [] : ['WARNING: IPv4 forwarding is disabled']),
    ...(bridgeNetfilter.ipv4 ? [] : ['WARNING: bridge-nf-call-iptables is disabled']),
    ...(bridgeNetfilter.ipv6 ? [] : ['WARNING: bridge-nf-call-ip6tables is disabled']),
    ...(storage.supportsDType
      ? []
      : [
          `WARNING: ${storage.driver}: the backing ${storage.backing} filesystem is formatted without d_type support, which leads to incorrect behavior.`,
        ]),
    ...(securityOptions.some((option) => option.startsWith('name=seccomp') && !option.endsWith('=builtin'))
      ? ['WARNING: daemon is not using the default seccomp profile']
      : []),
    ...config.warnings,
  ];
  return all.length > 0 ? all : null;
}

/** What was not asked for is not there. */
export interface UsageParts {
  /** Bytes of all layers, each counted once. */
  layersSize?: number;
  images?: Schemas['ImageSummary'][];
  containers?: Schemas['ContainerSummary'][];
  volumes?: Schemas['Volume'][];
  buildCache?: never[];
}

/** GET /system/df */
export const diskUsage = ({
  layersSize = 0,
  images,
  containers,
  volumes,
  buildCache,
}: UsageParts): Schemas['DiskUsage'] => ({
  LayersSize: layersSize,
  Images: images ?? null,
  Containers: containers ?? null,
  Volumes: volumes ?? null,
  BuildCache: buildCache ?? null,
});
