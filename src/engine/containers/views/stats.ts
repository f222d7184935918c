/** One sample of a container's resources, in Docker's JSON shape, from cgroup v1, v2 or hybrid. */
import { existsSync, readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { wallClock } from '../../../sys/clock.ts';
import { rfc3339, ZERO_TIME } from '../../time.ts';
import { cgroupDirectories } from '../../../sys/cgroupfs.ts';
import type { Container } from '../../../model/container.ts';
import { isRunning } from '../../../model/container-status.ts';

export interface CpuStats {
  cpu_usage: { total_usage: number; percpu_usage?: number[]; usage_in_kernelmode: number; usage_in_usermode: number };
  system_cpu_usage?: number;
  online_cpus?: number;
  throttling_data: { periods: number; throttled_periods: number; throttled_time: number };
}

interface BlkioEntry {
  major: number;
  minor: number;
  op: string;
  value: number;
}
type BlkioTable =
  | 'io_service_bytes_recursive'
  | 'io_serviced_recursive'
  | 'io_queue_recursive'
  | 'io_service_time_recursive'
  | 'io_wait_time_recursive'
  | 'io_merged_recursive'
  | 'io_time_recursive'
  | 'sectors_recursive';
type BlkioStats = Record<BlkioTable, BlkioEntry[] | null>;

/** What the cgroup tells. */
interface Sample {
  pids_stats: { current?: number; limit?: number };
  blkio_stats: BlkioStats;
  cpu_stats: CpuStats;
  memory_stats: {
    usage?: number;
    max_usage?: number;
    stats?: Record<string, number>;
    failcnt?: number;
    limit?: number;
  };
}

/** In Docker's terms (api/wire/stats.ts makes its JSON of it). */
export interface Stats extends Sample {
  /** RFC 3339; Go's zero time when it does not run. */
  read: string;
  /** Interfaces by their names in the container; undefined without any. */
  networks?: Record<string, InterfaceStats>;
}

export interface InterfaceStats {
  rx_bytes: number;
  rx_packets: number;
  rx_errors: number;
  rx_dropped: number;
  tx_bytes: number;
  tx_packets: number;
  tx_errors: number;
  tx_dropped: number;
}

/** All zero (and from the year 1) for a container that does not run. */
export function readStats(container: Container, cgroup: string): Stats {
  const sample: Partial<Sample> = isRunning(container) ? sampleOf(cgroupDirectories(cgroup)) : {};
  const cpu = sample.cpu_stats;
  const networks = cpu && container.hostConfig.NetworkMode !== 'host' ? networksOf(container.state.pid) : undefined;
  return {
    read: cpu ? rfc3339(wallClock()) : ZERO_TIME,
    pids_stats: {},
    blkio_stats: NO_BLKIO,
    memory_stats: {},
    ...sample,
    cpu_stats: cpu ? { ...cpu, system_cpu_usage: systemCpu(), online_cpus: onlineCpus() } : NO_CPU,
    ...(networks && { networks }),
  };
}

/** What the cgroup's directories tell: one for each v1 controller, or one for all. {} when they are gone. */
function sampleOf(directories: string[]): Partial<Sample> {
  const having = (file: string): string | undefined =>
    directories.find((directory) => existsSync(join(directory, file)));
  const accounting = having('cpuacct.usage');
  if (accounting) return sampleV1(accounting, having);
  const unified = having('cgroup.controllers');
  return unified ? sampleV2(unified) : {};
}

const NO_BLKIO: BlkioStats = {
  io_service_bytes_recursive: null,
  io_serviced_recursive: null,
  io_queue_recursive: null,
  io_service_time_recursive: null,
  io_wait_time_recursive: null,
  io_merged_recursive: null,
  io_time_recursive: null,
  sectors_recursive: null,
};
export const NO_CPU: CpuStats = {
  cpu_usage: { total_usage: 0, usage_in_kernelmode: 0, usage_in_usermode: 0 },
  throttling_data: { periods: 0, throttled_periods: 0, throttled_time: 0 },
};

/** USER_HZ is 100 on every Linux. */
const NS_PER_TICK = 10_000_000;
const NS_PER_US = 1_000;

function sampleV1(cpuacct: string, having: (file: string) => string | undefined): Sample {
  const memory = having('memory.usage_in_bytes');
  const pids = having('pids.current');
  const blkio = having('blkio.throttle.io_service_bytes');
  const cpu = having('cpu.shares');
  const ticks = table(cpuacct, 'cpuacct.stat');
  const throttling = cpu ? table(cpu, 'cpu.stat') : {};
  return {
    pids_stats: pids
      ? withoutZeros({ current: value(pids, 'pids.current'), limit: limitOf(pids, 'pids.max') ?? 0 })
      : {},
    blkio_stats: blkio ? blkioV1(blkio) : NO_BLKIO,
    cpu_stats: {
      cpu_usage: {
        total_usage: value(cpuacct, 'cpuacct.usage'),
        percpu_usage: text(cpuacct, 'cpuacct.usage_percpu')
          .trim()
          .split(/\s+/)
          .filter((n) => n !== '')
          .map(Number),
        usage_in_kernelmode: (ticks.system ?? 0) * NS_PER_TICK,
        usage_in_usermode: (ticks.user ?? 0) * NS_PER_TICK,
      },
      throttling_data: {
        periods: throttling.nr_periods ?? 0,
        throttled_periods: throttling.nr_throttled ?? 0,
        throttled_time: throttling.throttled_time ?? 0,
      },
    },
    memory_stats: memory
      ? {
          ...withoutZeros({
            usage: value(memory, 'memory.usage_in_bytes'),
            max_usage: value(memory, 'memory.max_usage_in_bytes'),
          }),
          stats: table(memory, 'memory.stat'),
          ...withoutZeros({ failcnt: value(memory, 'memory.failcnt') }),
          limit: Math.min(value(memory, 'memory.limit_in_bytes'), totalmem()),
        }
      : {},
  };
}

function blkioV1(directory: string): BlkioStats {
  const entries = (file: string): BlkioEntry[] =>
    text(directory, file)
      .split('\n')
      .flatMap((line) => {
        const [, major, minor, op, count] = /^(\d+):(\d+) (\w+) (\d+)$/.exec(line) ?? [];
        return count === undefined
          ? []
          : [{ major: Number(major), minor: Number(minor), op: op!, value: Number(count) }];
      });
  return {
    ...(Object.fromEntries(Object.keys(NO_BLKIO).map((key) => [key, []])) as unknown as BlkioStats),
    io_service_bytes_recursive: entries('blkio.throttle.io_service_bytes_recursive'),
    io_serviced_recursive: entries('blkio.throttle.io_serviced_recursive'),
  };
}

function sampleV2(directory: string): Sample {
  const cpu = table(directory, 'cpu.stat');
  return {
    pids_stats: withoutZeros({
      current: value(directory, 'pids.current'),
      limit: limitOf(directory, 'pids.max') ?? MAX_UINT64,
    }),
    blkio_stats: { ...NO_BLKIO, io_service_bytes_recursive: ioV2(text(directory, 'io.stat')) },
    cpu_stats: {
      cpu_usage: {
        total_usage: (cpu.usage_usec ?? 0) * NS_PER_US,
        usage_in_kernelmode: (cpu.system_usec ?? 0) * NS_PER_US,
        usage_in_usermode: (cpu.user_usec ?? 0) * NS_PER_US,
      },
      throttling_data: {
        periods: cpu.nr_periods ?? 0,
        throttled_periods: cpu.nr_throttled ?? 0,
        throttled_time: (cpu.throttled_usec ?? 0) * NS_PER_US,
      },
    },
    memory_stats: {
      ...withoutZeros({ usage: value(directory, 'memory.current') }),
      stats: table(directory, 'memory.stat'),
      ...withoutZeros({ failcnt: table(directory, 'memory.events').oom ?? 0 }),
      limit: Math.min(limitOf(directory, 'memory.max') ?? Infinity, totalmem()),
    },
  };
}

function ioV2(stat: string): BlkioEntry[] | null {
  const entries = stat.split('\n').flatMap((line) => {
    const [, major, minor, fields = ''] = /^(\d+):(\d+) (.*)$/.exec(line) ?? [];
    if (minor === undefined) return [];
    const bytes = (key: string): number => Number(new RegExp(`\\b${key}=(\\d+)`).exec(fields)?.[1] ?? 0);
    const device = { major: Number(major), minor: Number(minor) };
    return [
      { ...device, op: 'read', value: bytes('rbytes') },
      { ...device, op: 'write', value: bytes('wbytes') },
    ];
  });
  return entries.length > 0 ? entries : null;
}

/**
 * Counters of the interfaces in the process's network namespace, by their names there; undefined when it has but its
 * loopback. proc_pid_net(5).
 */
function networksOf(pid: number): Record<string, InterfaceStats> | undefined {
  return parseNetDev(pid > 0 ? text(`/proc/${pid}/net`, 'dev') : '');
}

function parseNetDev(dev: string): Record<string, InterfaceStats> | undefined {
  const networks: Record<string, InterfaceStats> = {};
  for (const line of dev.split('\n').slice(2)) {
    const [, name, counters] = /^\s*(\S+?):\s*(.*)$/.exec(line) ?? [];
    if (!name || name === 'lo') continue;
    const n = counters!.trim().split(/\s+/).map(Number);
    networks[name] = {
      rx_bytes: n[0] ?? 0,
      rx_packets: n[1] ?? 0,
      rx_errors: n[2] ?? 0,
      rx_dropped: n[3] ?? 0,
      tx_bytes: n[8] ?? 0,
      tx_packets: n[9] ?? 0,
      tx_errors: n[10] ?? 0,
      tx_dropped: n[11] ?? 0,
    };
  }
  return Object.keys(networks).length > 0 ? networks : undefined;
}

/** The host's, in ns over all CPUs: what every client divides by. */
function systemCpu(): number {
  const [first = ''] = text('/proc', 'stat').split('\n');
  return (
    first
      .split(/\s+/)
      .slice(1, 8)
      .reduce((sum, ticks) => sum + Number(ticks), 0) * NS_PER_TICK
  );
}

const onlineCpus = (): number =>
  text('/proc', 'stat')
    .split('\n')
    .filter((line) => /^cpu\d/.test(line)).length;

/** Largest double below 2^64: prints as an integer that fits a uint64, which 2^64-1 does not. */
const MAX_UINT64 = 18446744073709549568;

// A container that dies meanwhile takes its files along: what is gone counts as empty.
function text(directory: string, file: string): string {
  try {
    return readFileSync(join(directory, file), 'latin1');
  } catch {
    return '';
  }
}

const value = (directory: string, file: string): number =>
  Math.min(Number(text(directory, file).trim()) || 0, MAX_UINT64);

/** undefined for `max`. */
function limitOf(directory: string, file: string): number | undefined {
  const limit = text(directory, file).trim();
  return limit === 'max' || limit === '' ? undefined : Number(limit);
}

/** `key value` lines. */
const table = (directory: string, file: string): Record<string, number> =>
  Object.fromEntries(
    text(directory, file)
      .split('\n')
      .flatMap((line) => {
        const [key, count] = line.split(' ');
        return count === undefined ? [] : [[key!, Math.min(Number(count), MAX_UINT64)]];
      }),
  );

/** As Go's omitempty. */
const withoutZeros = (fields: Record<string, number>): Record<string, number> =>
  Object.fromEntries(Object.entries(fields).filter(([, n]) => n !== 0));
