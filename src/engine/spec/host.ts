/** What this host's kernel offers to containers, and what this process may do. Read once. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { availableParallelism, hostname, release } from 'node:os';
import { join } from 'node:path';
import { cgroupHierarchies, cgroupLayout, isUnified, type CgroupLayout } from '../../sys/cgroupfs.ts';
import { hostArchitecture } from '../architecture.ts';

/** A control that a cgroup hierarchy may lack. */
export type Control =
  | 'memory'
  | 'swap'
  | 'reservation'
  | 'swappiness'
  | 'oomKillDisable'
  | 'cpuShares'
  | 'cpuCfs'
  | 'cpuRealtime'
  | 'cpuset'
  | 'pids'
  | 'blkioWeight'
  | 'blkioWeightDevice'
  | 'blkioReadBps'
  | 'blkioWriteBps'
  | 'blkioReadIOps'
  | 'blkioWriteIOps';

/** Infinity = unlimited. */
export interface Limit {
  soft: number;
  hard: number;
}

export interface Host {
  /** Docker's name: amd64, arm64 … */
  architecture: string;
  kernel: readonly [number, number];
  hostname: string;
  cpus: number;
  /** Lists as in cpuset.cpus: 0-3,7. */
  cpusetCpus: string;
  cpusetMems: string;
  cgroup: CgroupLayout;
  controls: ReadonlySet<Control>;
  /** Effective capabilities of this process, CAP_…, in the kernel's order. */
  capabilities: readonly string[];
  /** Own resource limits by Docker's names: nofile, nproc … */
  limits: ReadonlyMap<string, Limit>;
  /** fs.nr_open: no nofile limit can be above. */
  maxOpenFiles: number;
  oomScoreAdj: number;
  ipv4Forwarding: boolean;
  seccomp: boolean;
  /** Paths of CPUs' thermal_throttle directories, which Docker masks. */
  thermalThrottle: readonly string[];
}

/** In the kernel's order: the index is the bit. capability.h */
export const CAPABILITIES: readonly string[] = [
  'CHOWN',
  'DAC_OVERRIDE',
  'DAC_READ_SEARCH',
  'FOWNER',
  'FSETID',
  'KILL',
  'SETGID',
  'SETUID',
  'SETPCAP',
  'LINUX_IMMUTABLE',
  'NET_BIND_SERVICE',
  'NET_BROADCAST',
  'NET_ADMIN',
  'NET_RAW',
  'IPC_LOCK',
  'IPC_OWNER',
  'SYS_MODULE',
  'SYS_RAWIO',
  'SYS_CHROOT',
  'SYS_PTRACE',
  'SYS_PACCT',
  'SYS_ADMIN',
  'SYS_BOOT',
  'SYS_NICE',
  'SYS_RESOURCE',
  'SYS_TIME',
  'SYS_TTY_CONFIG',
  'MKNOD',
  'LEASE',
  'AUDIT_WRITE',
  'AUDIT_CONTROL',
  'SETFCAP',
  'MAC_OVERRIDE',
  'MAC_ADMIN',
  'SYSLOG',
  'WAKE_ALARM',
  'BLOCK_SUSPEND',
  'AUDIT_READ',
  'PERFMON',
  'BPF',
  'CHECKPOINT_RESTORE',
].map((name) => `CAP_${name}`);

/** Docker's names of resource limits, with their lines in /proc/self/limits. */
const LIMIT_LINES: Readonly<Record<string, string>> = {
  core: 'Max core file size',
  cpu: 'Max cpu time',
  data: 'Max data size',
  fsize: 'Max file size',
  locks: 'Max file locks',
  memlock: 'Max locked memory',
  msgqueue: 'Max msgqueue size',
  nice: 'Max nice priority',
  nofile: 'Max open files',
  nproc: 'Max processes',
  rss: 'Max resident set',
  rtprio: 'Max realtime priority',
  rttime: 'Max realtime timeout',
  sigpending: 'Max pending signals',
  stack: 'Max stack size',
};

let known: Host | undefined;

export function thisHost(): Host {
  known ??= look();
  return { ...known, ipv4Forwarding: text('/proc/sys/net/ipv4/ip_forward') !== '0' };
}

function look(): Host {
  const cgroups = cgroupMounts();
  const [major = 0, minor = 0] = release()
    .split('.')
    .map((part) => parseInt(part, 10));
  const status = text('/proc/self/status');
  return {
    architecture: hostArchitecture,
    kernel: [major, minor],
    hostname: hostname(),
    cpus: availableParallelism(),
    ...cpusets(cgroups),
    cgroup: cgroups.layout,
    controls: cgroups.layout === 'v2' ? controlsOfV2(cgroups.unified) : controlsOfV1(cgroups.controllers),
    capabilities: capabilitiesOf(/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'),
    limits: limits(text('/proc/self/limits')),
    maxOpenFiles: Number(text('/proc/sys/fs/nr_open')) || Infinity,
    oomScoreAdj: Number(text('/proc/self/oom_score_adj')) || 0,
    ipv4Forwarding: true,
    seccomp: /^Seccomp:/m.test(status),
    thermalThrottle: thermalThrottle(),
  };
}

interface CgroupMounts {
  layout: CgroupLayout;
  /** Of v1, by controller. */
  controllers: Map<string, string>;
  /** Mount point of v2, '' if there is none. */
  unified: string;
}

function cgroupMounts(): CgroupMounts {
  const hierarchies = cgroupHierarchies();
  const controllers = new Map<string, string>();
  for (const hierarchy of hierarchies)
    for (const controller of hierarchy.controllers)
      if (!controllers.has(controller)) controllers.set(controller, hierarchy.mountPoint);
  return { controllers, unified: hierarchies.find(isUnified)?.mountPoint ?? '', layout: cgroupLayout(hierarchies) };
}

const V1_FILES: readonly [Control, controller: string, file: string][] = [
  ['memory', 'memory', 'memory.limit_in_bytes'],
  ['swap', 'memory', 'memory.memsw.limit_in_bytes'],
  ['reservation', 'memory', 'memory.soft_limit_in_bytes'],
  ['swappiness', 'memory', 'memory.swappiness'],
  ['oomKillDisable', 'memory', 'memory.oom_control'],
  ['cpuShares', 'cpu', 'cpu.shares'],
  ['cpuCfs', 'cpu', 'cpu.cfs_quota_us'],
  ['cpuRealtime', 'cpu', 'cpu.rt_runtime_us'],
  ['cpuset', 'cpuset', 'cpuset.cpus'],
  ['pids', 'pids', 'cgroup.procs'],
  ['blkioWeight', 'blkio', 'blkio.weight'],
  ['blkioWeightDevice', 'blkio', 'blkio.weight_device'],
  ['blkioReadBps', 'blkio', 'blkio.throttle.read_bps_device'],
  ['blkioWriteBps', 'blkio', 'blkio.throttle.write_bps_device'],
  ['blkioReadIOps', 'blkio', 'blkio.throttle.read_iops_device'],
  ['blkioWriteIOps', 'blkio', 'blkio.throttle.write_iops_device'],
];

function controlsOfV1(controllers: Map<string, string>): Set<Control> {
  const has = ([, controller, file]: readonly [Control, string, string]): boolean =>
    existsSync(join(controllers.get(controller) ?? '/nonexistent', file));
  return new Set(V1_FILES.filter(has).map(([control]) => control));
}

const V2_CONTROLS: Readonly<Record<string, readonly Control[]>> = {
  memory: ['memory', 'reservation'],
  cpu: ['cpuShares', 'cpuCfs'],
  cpuset: ['cpuset'],
  pids: ['pids'],
  io: ['blkioWeight', 'blkioWeightDevice', 'blkioReadBps', 'blkioWriteBps', 'blkioReadIOps', 'blkioWriteIOps'],
};

function controlsOfV2(root: string): Set<Control> {
  const controllers = text(join(root, 'cgroup.controllers')).split(' ');
  const controls = new Set(controllers.flatMap((controller) => V2_CONTROLS[controller] ?? []));
  if (controls.has('memory') && swapOfV2(root)) controls.add('swap');
  return controls;
}

// The root cgroup has no memory.swap.max: a look at this process's own, or at any other.
function swapOfV2(root: string): boolean {
  const own =
    text('/proc/self/cgroup')
      .split('\n')
      .find((line) => line.startsWith('0::'))
      ?.slice('0::'.length) ?? '/';
  if (own !== '/') return existsSync(join(root, own, 'memory.swap.max'));
  return readdirSync(root, { withFileTypes: true }).some(
    (entry) => entry.isDirectory() && existsSync(join(root, entry.name, 'memory.swap.max')),
  );
}

function cpusets(cgroups: CgroupMounts): Pick<Host, 'cpusetCpus' | 'cpusetMems'> {
  const directory = cgroups.controllers.get('cpuset') ?? cgroups.unified;
  const list = (name: string, fallback: string): string =>
    text(join(directory, `cpuset.${name}.effective`)) ||
    text(join(directory, `cpuset.${name}`)) ||
    text(fallback) ||
    '0';
  return {
    cpusetCpus: list('cpus', '/sys/devices/system/cpu/online'),
    cpusetMems: list('mems', '/sys/devices/system/node/online'),
  };
}

function capabilitiesOf(mask: string): string[] {
  const bits = BigInt(`0x${mask}`);
  return CAPABILITIES.filter((_, bit) => (bits >> BigInt(bit)) & 1n);
}

function limits(table: string): Map<string, Limit> {
  const value = (word: string): number => (word === 'unlimited' ? Infinity : Number(word));
  const found = new Map<string, Limit>();
  for (const [name, label] of Object.entries(LIMIT_LINES)) {
    const line = table.split('\n').find((candidate) => candidate.startsWith(label));
    const [soft = 'unlimited', hard = 'unlimited'] = line?.slice(label.length).trim().split(/\s+/) ?? [];
    found.set(name, { soft: value(soft), hard: value(hard) });
  }
  return found;
}

function thermalThrottle(): string[] {
  const root = '/sys/devices/system/cpu';
  if (!existsSync(root)) return [];
  return readdirSync(root)
    .filter((name) => /^cpu\d+$/.test(name))
    .map((name) => join(root, name, 'thermal_throttle'))
    .filter(existsSync);
}

function text(path: string): string {
  try {
    return readFileSync(path, 'latin1').trim();
  } catch {
    return '';
  }
}
