/** What there is to tell of this daemon and its host. */
import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { arch, hostname, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { DEFAULT_SECCOMP_PROFILE, type Config } from '../config/config.ts';
import { replaceFile } from '../sys/replace-file.ts';
import { wallNow } from './clock.ts';
import type { Container } from '../model/container.ts';
import { dockerStatus } from '../model/container-status.ts';
import { featuresOf, versionOf, type Program } from './programs.ts';
import { hostHasAppArmor } from './spec/apparmor.ts';
import type { Control } from './spec/cgroup-controls.ts';
import { thisHost } from './spec/host.ts';
import { storageFacts, type StorageFacts } from './storage.ts';

export interface SystemParts {
  config: Config;
  containers: () => Container[];
  /** How many images there are. */
  images: () => number;
  /** How many clients listen to events. */
  listeners: () => number;
}

export interface SystemFacts {
  /** The daemon's, for as long as its data root lives. */
  id: string;
  hostname: string;
  /** Wall ns. */
  time: string;
  containers: { all: number; running: number; paused: number; stopped: number };
  images: number;
  storage: StorageFacts;
  controls: ReadonlySet<Control>;
  cgroupVersion: '1' | '2';
  ipv4Forwarding: boolean;
  /** Whether bridged packets pass the firewall. */
  bridgeNetfilter: { ipv4: boolean; ipv6: boolean };
  openFiles: number;
  listeners: number;
  kernel: string;
  operatingSystem: string;
  osVersion: string;
  /** As uname has it: x86_64. */
  machine: string;
  cpus: number;
  memory: number;
  proxies: { http: string; https: string; no: string };
  /** Docker's: name=apparmor, name=seccomp,profile=builtin … */
  securityOptions: string[];
  runtime: Program;
  init: Program;
  /** What each runtime tells of its features, by the runtime's configured name; JSON. */
  runtimeFeatures: ReadonlyMap<string, string>;
}

export interface VersionFacts {
  kernel: string;
  /** Go's name of it: amd64. */
  architecture: string;
  /** The default runtime by its configured name. */
  runtime: Program & { name: string };
  init: Program;
}

const MACHINE: Record<string, string> = { x64: 'x86_64', arm64: 'aarch64', ia32: 'i686' };
const ID_FILE = 'engine-id';

export class System {
  readonly #id: string;

  constructor(private readonly parts: SystemParts) {
    this.#id = stableId(join(parts.config.dataRoot, ID_FILE));
  }

  async facts(): Promise<SystemFacts> {
    const { config } = this.parts;
    const host = thisHost();
    const containers = this.parts.containers();
    const count = (status: string): number => containers.filter((c) => dockerStatus(c) === status).length;
    const running = count('running') + count('restarting');
    const paused = count('paused');
    const [[runtime, init], runtimeFeatures] = await Promise.all([this.#programs(), this.#runtimeFeatures()]);
    return {
      id: this.#id,
      hostname: hostname(),
      time: wallNow(),
      containers: { all: containers.length, running, paused, stopped: containers.length - running - paused },
      images: this.parts.images(),
      storage: storageFacts(config.dataRoot),
      controls: host.controls,
      cgroupVersion: host.cgroup === 'v2' ? '2' : '1',
      ipv4Forwarding: host.ipv4Forwarding,
      bridgeNetfilter: {
        ipv4: isOn('/proc/sys/net/bridge/bridge-nf-call-iptables'),
        ipv6: isOn('/proc/sys/net/bridge/bridge-nf-call-ip6tables'),
      },
      openFiles: readdirSync('/proc/self/fd').length,
      listeners: this.parts.listeners(),
      kernel: release(),
      operatingSystem: osRelease('PRETTY_NAME') || 'Linux',
      osVersion: osRelease('VERSION_ID'),
      machine: MACHINE[arch()] ?? arch(),
      cpus: host.cpus,
      memory: totalmem(),
      proxies: { http: proxy('HTTP_PROXY'), https: proxy('HTTPS_PROXY'), no: environment('NO_PROXY') },
      securityOptions: securityOptions(config, host.seccomp),
      runtime,
      init,
      runtimeFeatures,
    };
  }

  async versions(): Promise<VersionFacts> {
    const [runtime, init] = await this.#programs();
    return {
      kernel: release(),
      architecture: thisHost().architecture,
      runtime: { ...runtime, name: this.parts.config.defaultRuntime },
      init,
    };
  }

  async #runtimeFeatures(): Promise<Map<string, string>> {
    const all = Object.entries(this.parts.config.runtimes).map(
      async ([name, runtime]) => [name, await featuresOf(runtime)] as const,
    );
    return new Map((await Promise.all(all)).flatMap(([name, told]) => (told === undefined ? [] : [[name, told]])));
  }

  #programs(): Promise<[Program, Program]> {
    const { runtimes, defaultRuntime, initPath } = this.parts.config;
    return Promise.all([versionOf(runtimes[defaultRuntime]?.path ?? ''), versionOf(initPath)]);
  }
}

// A file, so that it outlives restarts, upgrades and a new host name.
function stableId(path: string): string {
  const known = text(path).trim();
  if (known) return known;
  const id = randomUUID();
  replaceFile(path, `${id}\n`);
  return id;
}

function securityOptions(config: Config, seccomp: boolean): string[] {
  const profile = config.seccompProfile === DEFAULT_SECCOMP_PROFILE ? 'builtin' : config.seccompProfile;
  return [
    ...(hostHasAppArmor() ? ['name=apparmor'] : []),
    ...(seccomp ? [`name=seccomp,profile=${profile}`] : []),
    ...(config.noNewPrivileges ? ['name=no-new-privileges'] : []),
    ...(hasCgroupNamespaces() ? ['name=cgroupns'] : []),
  ];
}

const hasCgroupNamespaces = (): boolean => readdirSync('/proc/self/ns').includes('cgroup');

/** os-release(5) */
const osRelease = (key: string): string =>
  new RegExp(`^${key}="?([^"\n]*)`, 'm').exec(text('/etc/os-release') || text('/usr/lib/os-release'))?.[1] ?? '';

const environment = (name: string): string => process.env[name] || process.env[name.toLowerCase()] || '';

/** Without its password. */
const proxy = (name: string): string => environment(name).replace(/\/\/[^@/]*@/, '//xxxxx:xxxxx@');

const isOn = (path: string): boolean => text(path).trim() === '1';

function text(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
