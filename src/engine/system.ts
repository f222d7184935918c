/** What /info and /version tell of this host. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { arch, cpus, hostname, release, totalmem } from 'node:os';
import type { Config } from '../config/config.ts';
import { API_VERSION, MIN_API_VERSION, VERSION } from '../version.ts';
import type { Container } from './containers/container.ts';
import { standing } from './containers/moves.ts';
import { wallNow } from './clock.ts';
import { thisHost } from './spec/host.ts';
import { rfc3339 } from './time.ts';

export interface SystemParts {
  config: Config;
  containers: () => Container[];
  /** How many images there are. */
  images: () => number;
}

const GO_ARCHITECTURE: Record<string, string> = { x64: 'amd64', ia32: '386' };
const MACHINE: Record<string, string> = { x64: 'x86_64', arm64: 'aarch64' };

export class System {
  constructor(private readonly parts: SystemParts) {}

  info(): Record<string, unknown> {
    const { config } = this.parts;
    const containers = this.parts.containers();
    const count = (status: string): number => containers.filter((c) => standing(c) === status).length;
    const running = count('running') + count('restarting');
    const paused = count('paused');
    const images = this.parts.images();
    return {
      ID: hostname(), Containers: containers.length, ContainersRunning: running, ContainersPaused: paused, ContainersStopped: containers.length - running - paused, Images: images,
      Driver: 'overlay2', DriverStatus: [['Backing Filesystem', 'extfs'], ['Supports d_type', 'true'], ['Native Overlay Diff', 'true']],
      Plugins: { Volume: ['local'], Network: ['bridge', 'host', 'null'], Authorization: null, Log: ['json-file', 'none'] },
      MemoryLimit: true, SwapLimit: true, CpuCfsPeriod: true, CpuCfsQuota: true, CPUShares: true, CPUSet: true, PidsLimit: true, IPv4Forwarding: true,
      Debug: config.debug, NFd: 0, OomKillDisable: thisHost().cgroup !== 'v2', NGoroutines: 0, SystemTime: rfc3339(wallNow()),
      LoggingDriver: config.logDriver, CgroupDriver: config.cgroupDriver, CgroupVersion: thisHost().cgroup === 'v2' ? '2' : '1', NEventsListener: 0,
      KernelVersion: release(), OperatingSystem: operatingSystem(), OSVersion: '', OSType: 'linux', Architecture: MACHINE[arch()] ?? arch(),
      IndexServerAddress: 'https://index.docker.io/v1/', RegistryConfig: { InsecureRegistryCIDRs: ['127.0.0.0/8'], IndexConfigs: {}, Mirrors: [...config.registryMirrors] },
      NCPU: cpus().length, MemTotal: totalmem(), GenericResources: null, DockerRootDir: config.dataRoot, HttpProxy: '', HttpsProxy: '', NoProxy: '',
      Name: hostname(), Labels: [...config.labels], ExperimentalBuild: false, ServerVersion: VERSION,
      Runtimes: Object.fromEntries(Object.entries(config.runtimes).map(([name, { path, args }]) => [name, { path, ...(args.length > 0 ? { runtimeArgs: args } : {}) }])),
      DefaultRuntime: config.defaultRuntime, Swarm: { NodeID: '', NodeAddr: '', LocalNodeState: 'inactive', ControlAvailable: false, Error: '', RemoteManagers: null },
      LiveRestoreEnabled: true, Isolation: '', InitBinary: config.initPath, ContainerdCommit: { ID: '' }, RuncCommit: { ID: '' }, InitCommit: { ID: '' },
      SecurityOptions: ['name=seccomp,profile=builtin'], Warnings: [...config.warnings],
    };
  }

  version(): Record<string, unknown> {
    const details = { ApiVersion: API_VERSION, MinAPIVersion: MIN_API_VERSION, Arch: GO_ARCHITECTURE[arch()] ?? arch(), Os: 'linux', KernelVersion: release(), Experimental: 'false', GitCommit: '', GoVersion: '', BuildTime: '' };
    return {
      Platform: { Name: 'Holdfast' }, Components: [{ Name: 'Engine', Version: VERSION, Details: details }, { Name: 'runc', Version: runtimeVersion(this.parts.config), Details: { GitCommit: '' } }],
      Version: VERSION, ApiVersion: API_VERSION, MinAPIVersion: MIN_API_VERSION, GitCommit: '', GoVersion: '', Os: 'linux', Arch: details.Arch, KernelVersion: release(), BuildTime: '',
    };
  }
}

function runtimeVersion(config: Config): string {
  try {
    return /version (\S+)/.exec(execFileSync(config.runtimes[config.defaultRuntime]!.path, ['--version'], { encoding: 'utf8' }))?.[1] ?? '';
  } catch {
    return '';
  }
}

function operatingSystem(): string {
  try {
    return /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'Linux';
  } catch {
    return 'Linux';
  }
}
