/** What the host's kernel offers to containers, and what this process is permitted to give them. Read once. */
import { existsSync, readdirSync } from 'node:fs';
import { availableParallelism, hostname, release } from 'node:os';
import { join } from 'node:path';
import { hostArchitecture } from '../architecture.ts';
import { cgroupFacts, type CgroupFacts } from './cgroup-controls.ts';
import { readHostFile } from './host-file.ts';

/** Infinity = unlimited. */
export interface Limit {
  soft: number;
  hard: number;
}

export interface Host extends CgroupFacts {
  /** Go's name: amd64, arm64 … */
  architecture: string;
  /** Major and minor version. */
  kernel: readonly [number, number];
  hostname: string;
  cpus: number;
  /** Effective capabilities of this process, CAP_…, in the kernel's order. */
  capabilities: readonly string[];
  /** This process's resource limits by Docker's names: nofile, nproc … */
  limits: ReadonlyMap<string, Limit>;
  /** fs.nr_open, the upper bound of nofile limits. */
  maxOpenFiles: number;
  oomScoreAdj: number;
  ipv4Forwarding: boolean;
  seccomp: boolean;
  /** The CPUs' thermal_throttle directories, which Docker masks. */
  thermalThrottle: readonly string[];
}

/** In the kernel's order: the index is the bit number (linux/capability.h). */
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

/** Docker's names of resource limits, and their labels in /proc/self/limits. proc(5) */
const LIMIT_LABELS: Readonly<Record<string, string>> = {
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

type FixedFacts = Omit<Host, 'ipv4Forwarding'>;

let cached: FixedFacts | undefined;

/** Everything but IPv4 forwarding is read once. */
export function thisHost(): Host {
  cached ??= readHost();
  return { ...cached, ipv4Forwarding: readHostFile('/proc/sys/net/ipv4/ip_forward') !== '0' };
}

function readHost(): FixedFacts {
  const [major = 0, minor = 0] = release()
    .split('.')
    .map((part) => parseInt(part, 10));
  const status = readHostFile('/proc/self/status');
  return {
    architecture: hostArchitecture,
    kernel: [major, minor],
    hostname: hostname(),
    cpus: availableParallelism(),
    ...cgroupFacts(),
    capabilities: capabilitiesOf(/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'),
    limits: limits(readHostFile('/proc/self/limits')),
    maxOpenFiles: Number(readHostFile('/proc/sys/fs/nr_open')) || Infinity,
    oomScoreAdj: Number(readHostFile('/proc/self/oom_score_adj')) || 0,
    seccomp: /^Seccomp:/m.test(status),
    thermalThrottle: thermalThrottle(),
  };
}

function capabilitiesOf(mask: string): string[] {
  const bits = BigInt(`0x${mask}`);
  return CAPABILITIES.filter((_, bit) => (bits >> BigInt(bit)) & 1n);
}

function limits(table: string): Map<string, Limit> {
  const value = (word: string): number => (word === 'unlimited' ? Infinity : Number(word));
  const found = new Map<string, Limit>();
  for (const [name, label] of Object.entries(LIMIT_LABELS)) {
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
