/** A daemon's configuration, a host and an image for tests of container specs. */
import type { Config } from '../../src/config/config.ts';
import type { Container, MountPoint } from '../../src/model/container.ts';
import type { CreateRequest } from '../../src/model/container-config.ts';
import type { Image, ImageConfig } from '../../src/engine/images/image.ts';
import { Paths } from '../../src/engine/paths.ts';
import type { Control } from '../../src/engine/spec/cgroup-controls.ts';
import { CAPABILITIES, thisHost, type Host } from '../../src/engine/spec/host.ts';
import { prepareOn, type Prepared } from '../../src/engine/spec/prepare.ts';
import { initialRunState } from '../../src/protocol/runstate.ts';

export const ID = 'abcdef0123456789'.repeat(4);

export const daemon = (changes: Partial<Config> = {}): Config =>
  ({
    dataRoot: '/var/lib/holdfast',
    execRoot: '/run/holdfast',
    hosts: [],
    group: '',
    pidfile: '',
    debug: false,
    logLevel: 'info',
    logDriver: 'json-file',
    logOpts: {},
    cgroupDriver: 'cgroupfs',
    cgroupParent: '/holdfast-test',
    runtimes: { runc: { path: 'runc', args: [] } },
    defaultRuntime: 'runc',
    defaultUlimits: {},
    defaultShmSize: 64 << 20,
    registryMirrors: [],
    insecureRegistries: [],
    bip: '',
    bridge: '',
    defaultAddressPools: [],
    dns: [],
    dnsOptions: [],
    dnsSearch: [],
    mtu: 1500,
    ip: '',
    iptables: true,
    storageDriver: 'overlay2',
    labels: [],
    features: {},
    seccompProfile: '/usr/share/containers/seccomp.json',
    defaultCgroupnsMode: '',
    defaultIpcMode: 'private',
    init: false,
    initPath: '/usr/bin/tini-static',
    noNewPrivileges: false,
    shutdownTimeout: 15,
    slowClientMs: 60_000,
    warmShims: 0,
    warnings: [],
    ...changes,
  }) as Config;

const CONTROLS: readonly Control[] = [
  'memory',
  'swap',
  'reservation',
  'swappiness',
  'oomKillDisable',
  'cpuShares',
  'cpuCfs',
  'cpuRealtime',
  'cpuset',
  'pids',
  'blkioWeight',
  'blkioWeightDevice',
  'blkioReadBps',
  'blkioWriteBps',
  'blkioReadIOps',
  'blkioWriteIOps',
];

/** A host with two CPUs, all controls of cgroup v1, and root without CAP_SYS_RESOURCE. */
export const host = (changes: Partial<Host> = {}): Host => ({
  architecture: 'amd64',
  kernel: [6, 1],
  hostname: 'machine',
  cpus: 2,
  cpusetCpus: '0-1',
  cpusetMems: '0',
  cgroup: 'v1',
  controls: new Set(CONTROLS),
  capabilities: CAPABILITIES.filter((name) => name !== 'CAP_SYS_RESOURCE'),
  limits: new Map(
    [...thisHost().limits.keys()].map((name) => [
      name,
      name === 'nofile' ? { soft: 1024, hard: 20_000 } : { soft: Infinity, hard: Infinity },
    ]),
  ),
  maxOpenFiles: 1 << 20,
  oomScoreAdj: 0,
  ipv4Forwarding: true,
  seccomp: true,
  thermalThrottle: [],
  ...changes,
});

export const without = (...missing: Control[]): Host =>
  host({ controls: new Set(CONTROLS.filter((control) => !missing.includes(control))) });

export const image = (config: ImageConfig['config'] = {}, changes: Partial<ImageConfig> = {}): Image => ({
  id: `sha256:${'1'.repeat(64)}`,
  parent: '',
  created: '0',
  tagged: '0',
  size: 0,
  chains: [],
  repoTags: ['busybox:latest'],
  repoDigests: [],
  config: { architecture: 'amd64', os: 'linux', config, rootfs: { type: 'layers', diff_ids: [] }, ...changes },
});

export interface Options {
  host?: Host;
  image?: Image;
  daemon?: Config;
  mountsOf?: (reference: string) => MountPoint[];
}

export function prepared(request: CreateRequest, options: Options = {}): Prepared {
  const config = options.daemon ?? daemon();
  return prepareOn(
    options.host ?? host(),
    ID,
    { Image: 'busybox', Cmd: ['true'], ...request },
    options.image ?? image(),
    {
      config,
      paths: new Paths(config.dataRoot, config.execRoot),
      mountsOf: options.mountsOf ?? (() => []),
    },
  );
}

/** The container that the engine makes from a request. */
export function container(request: CreateRequest, options: Options & { id?: string } = {}): Container {
  return {
    ...prepared(request, options),
    id: options.id ?? ID,
    name: 'tester',
    phase: 'ready',
    created: '0',
    imageId: image().id,
    endpoints: {},
    ports: [],
    netns: '',
    state: initialRunState(),
    cursor: 0,
    platform: 'linux',
  };
}
