/**
 * Limits of a container's cgroup: what of them makes sense, what this kernel can do, and how the runtime is told.
 * cgroups(7)
 */
import { existsSync } from 'node:fs';
import { InvalidParameter } from '../../model/errors.ts';
import type { HostConfig, ThrottleDevice } from '../../model/container-config.ts';
import { deviceNumbers } from './devices.ts';
import type { Control } from './cgroup-controls.ts';
import type { Host } from './host.ts';
import type { OciResources } from './oci.ts';

const MIN_MEMORY = 6 << 20;
const CFS_PERIOD = 100_000;
const NANO = 1e9;

export type Resources = Pick<
  HostConfig,
  | 'Memory'
  | 'MemorySwap'
  | 'MemoryReservation'
  | 'MemorySwappiness'
  | 'KernelMemory'
  | 'KernelMemoryTCP'
  | 'OomKillDisable'
  | 'PidsLimit'
  | 'NanoCpus'
  | 'CpuShares'
  | 'CpuPeriod'
  | 'CpuQuota'
  | 'CpuRealtimePeriod'
  | 'CpuRealtimeRuntime'
  | 'CpusetCpus'
  | 'CpusetMems'
  | 'CpuPercent'
  | 'CpuCount'
  | 'BlkioWeight'
  | 'BlkioWeightDevice'
  | 'BlkioDeviceReadBps'
  | 'BlkioDeviceWriteBps'
  | 'BlkioDeviceReadIOps'
  | 'BlkioDeviceWriteIOps'
  | 'IOMaximumBandwidth'
  | 'IOMaximumIOps'
>;

/** What is left of the limits on this host, and what was discarded. The order and the texts are dockerd's
 * (daemon_unix.go).
 *  @throws InvalidParameter */
export function checkResources<T extends Resources>(
  asked: T,
  host: Host,
  purpose: 'create' | 'update',
): { resources: T; warnings: string[] } {
  const resources = { ...asked };
  const warnings: string[] = [];
  const can = (control: Control): boolean => host.controls.has(control);
  // The command line's way of saying "not set".
  if (resources.MemorySwappiness === -1) resources.MemorySwappiness = null;
  checkMemory(resources, can, warnings, purpose);
  checkOomAndPids(resources, can, warnings);
  checkCpu(resources, can, warnings, host);
  checkCpuset(resources, can, warnings, host);
  checkBlockIo(resources, can, warnings);
  return { resources, warnings };
}

type Can = (control: Control) => boolean;

function checkMemory(r: Resources, can: Can, warnings: string[], purpose: 'create' | 'update'): void {
  if (r.Memory !== 0 && r.Memory < MIN_MEMORY) throw new InvalidParameter('Minimum memory limit allowed is 6MB');
  if (r.Memory > 0 && !can('memory')) {
    warnings.push(
      'Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.',
    );
    r.Memory = 0;
    r.MemorySwap = -1;
  }
  if (r.Memory > 0 && r.MemorySwap !== -1 && !can('swap')) {
    warnings.push(
      'Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.',
    );
    r.MemorySwap = -1;
  }
  if (r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory) {
    throw new InvalidParameter('Minimum memoryswap limit should be larger than memory limit, see usage');
  }
  if (r.Memory === 0 && r.MemorySwap > 0 && purpose === 'create') {
    throw new InvalidParameter('You should always set the Memory limit when using Memoryswap limit, see usage');
  }
  if (r.MemorySwappiness !== null && !can('swappiness')) {
    warnings.push(
      'Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.',
    );
    r.MemorySwappiness = null;
  }
  if (r.MemorySwappiness !== null && (r.MemorySwappiness < 0 || r.MemorySwappiness > 100)) {
    throw new InvalidParameter(`Invalid value: ${r.MemorySwappiness}, valid memory swappiness range is 0-100`);
  }
  if (r.MemoryReservation > 0 && !can('reservation')) {
    warnings.push(
      'Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.',
    );
    r.MemoryReservation = 0;
  }
  if (r.MemoryReservation !== 0 && r.MemoryReservation < MIN_MEMORY)
    throw new InvalidParameter('Minimum memory reservation allowed is 6MB');
  if (r.Memory > 0 && r.MemoryReservation > 0 && r.Memory < r.MemoryReservation) {
    throw new InvalidParameter('Minimum memory limit can not be less than memory reservation limit, see usage');
  }
  if (r.KernelMemory) {
    warnings.push(
      'KernelMemory: kernel memory limits are deprecated by the kernel and not supported. Limitation discarded.',
    );
    delete r.KernelMemory;
  }
  // runc since 1.0 ignores it, whatever the kernel can do.
  if (r.KernelMemoryTCP) {
    warnings.push('KernelMemoryTCP: kernel memory TCP limits are not supported by the runtime. Limitation discarded.');
    delete r.KernelMemoryTCP;
  }
}

function checkOomAndPids(r: Resources, can: Can, warnings: string[]): void {
  if (r.OomKillDisable !== null && !can('oomKillDisable')) {
    if (r.OomKillDisable) warnings.push('Your kernel does not support OomKillDisable. OomKillDisable discarded.');
    r.OomKillDisable = null;
  }
  if (r.OomKillDisable && r.Memory === 0) {
    warnings.push(
      'OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.',
    );
  }
  if (r.PidsLimit !== null && !can('pids')) {
    if (r.PidsLimit > 0)
      warnings.push(
        'Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.',
      );
    r.PidsLimit = null;
  }
}

function checkCpu(r: Resources, can: Can, warnings: string[], host: Host): void {
  if (r.NanoCpus > 0 && r.CpuPeriod > 0)
    throw new InvalidParameter('Conflicting options: Nano CPUs and CPU Period cannot both be set');
  if (r.NanoCpus > 0 && r.CpuQuota > 0)
    throw new InvalidParameter('Conflicting options: Nano CPUs and CPU Quota cannot both be set');
  if (r.NanoCpus > 0 && !can('cpuCfs')) {
    throw new InvalidParameter(
      'NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted',
    );
  }
  if (r.NanoCpus < 0 || r.NanoCpus > host.cpus * NANO) {
    throw new InvalidParameter(
      `range of CPUs is from 0.01 to ${host.cpus}.00, as there are only ${host.cpus} CPUs available`,
    );
  }
  if (r.CpuShares > 0 && !can('cpuShares')) {
    warnings.push('Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.');
    r.CpuShares = 0;
  }
  if ((r.CpuPeriod !== 0 || r.CpuQuota !== 0) && !can('cpuCfs')) {
    warnings.push('Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.');
    r.CpuPeriod = 0;
    r.CpuQuota = 0;
  }
  if (r.CpuPeriod !== 0 && (r.CpuPeriod < 1000 || r.CpuPeriod > 1_000_000)) {
    throw new InvalidParameter('CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)');
  }
  if (r.CpuQuota > 0 && r.CpuQuota < 1000)
    throw new InvalidParameter('CPU cfs quota can not be less than 1ms (i.e. 1000)');
  if (r.CpuRealtimePeriod !== 0 || r.CpuRealtimeRuntime !== 0) {
    // The kernel gives real-time only out of what the parent cgroup was allotted, and nothing allots any there.
    warnings.push(
      'CpuRealtimePeriod and CpuRealtimeRuntime: real-time CPU limits are not supported. Limits discarded.',
    );
    r.CpuRealtimePeriod = 0;
    r.CpuRealtimeRuntime = 0;
  }
  if (r.CpuPercent > 0) {
    warnings.push('linux does not support CPU percent. Percent discarded. (CpuPercent)');
    r.CpuPercent = 0;
  }
  if (r.CpuCount > 0) {
    warnings.push('linux does not support CPU count. Count discarded. (CpuCount)');
    r.CpuCount = 0;
  }
}

function checkCpuset(r: Resources, can: Can, warnings: string[], host: Host): void {
  if ((r.CpusetCpus !== '' || r.CpusetMems !== '') && !can('cpuset')) {
    warnings.push('Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.');
    r.CpusetCpus = '';
    r.CpusetMems = '';
  }
  checkList(r.CpusetCpus, host.cpusetCpus, 'cpuset cpus', 'Requested CPUs are not available');
  checkList(r.CpusetMems, host.cpusetMems, 'cpuset mems', 'Requested memory nodes are not available');
}

function checkList(asked: string, available: string, what: string, refusal: string): void {
  const wanted = ranges(asked);
  if (!wanted) throw new InvalidParameter(`Invalid value ${asked} for ${what}: invalid format: ${asked}`);
  const there = ranges(available) ?? [];
  const covered = wanted.every(([first, last]) => there.some(([low, high]) => first >= low && last <= high));
  if (!covered) throw new InvalidParameter(`${refusal} - requested ${asked}, available: ${available}`);
}

/**
 * `0-2,5` as pairs; adjacent ones are not joined in what is asked for, but are in what is there. undefined when
 * malformed.
 */
function ranges(list: string): [number, number][] | undefined {
  if (list === '') return [];
  const pairs: [number, number][] = [];
  for (const part of list.split(',')) {
    const [, first, last] = /^\s*(\d+)(?:-(\d+))?\s*$/.exec(part) ?? [];
    if (first === undefined || Number(last ?? first) < Number(first)) return undefined;
    const previous = pairs.at(-1);
    if (previous && Number(first) === previous[1] + 1) previous[1] = Number(last ?? first);
    else pairs.push([Number(first), Number(last ?? first)]);
  }
  return pairs;
}

const THROTTLES = [
  [
    'BlkioDeviceReadBps',
    'blkioReadBps',
    'Your kernel does not support BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded.',
  ],
  [
    'BlkioDeviceWriteBps',
    'blkioWriteBps',
    'Your kernel does not support BPS Block I/O write limit or the cgroup is not mounted. Block I/O BPS write limit discarded.',
  ],
  [
    'BlkioDeviceReadIOps',
    'blkioReadIOps',
    'Your kernel does not support IOPS Block read limit or the cgroup is not mounted. Block I/O IOPS read limit discarded.',
  ],
  [
    'BlkioDeviceWriteIOps',
    'blkioWriteIOps',
    'Your kernel does not support IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded.',
  ],
] as const;

const isWeight = (weight: number): boolean => weight >= 10 && weight <= 1000;

function checkBlockIo(r: Resources, can: Can, warnings: string[]): void {
  if (r.BlkioWeight > 0 && !can('blkioWeight')) {
    warnings.push('Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.');
    r.BlkioWeight = 0;
  }
  if (r.BlkioWeight !== 0 && !isWeight(r.BlkioWeight))
    throw new InvalidParameter('Range of blkio weight is from 10 to 1000');
  if (r.IOMaximumBandwidth !== 0 || r.IOMaximumIOps !== 0) {
    throw new InvalidParameter('Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps');
  }
  if (r.BlkioWeightDevice?.length && !can('blkioWeightDevice')) {
    warnings.push(
      'Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.',
    );
    r.BlkioWeightDevice = [];
  }
  for (const { Path, Weight } of r.BlkioWeightDevice ?? []) {
    if (!isWeight(Weight)) throw new InvalidParameter(`invalid weight for device: ${Path}:${Weight}`);
    checkPath(Path);
  }
  for (const [field, control, warning] of THROTTLES) {
    if (r[field]?.length && !can(control)) {
      warnings.push(warning);
      r[field] = [];
    }
    for (const { Path, Rate } of r[field] ?? []) {
      if (Rate < 0) throw new InvalidParameter(`invalid rate for device: ${Path}:${Rate}`);
      checkPath(Path);
    }
  }
}

function checkPath(path: string): void {
  if (!existsSync(path)) throw new InvalidParameter(`stat ${path}: no such file or directory`);
}

/** The limits in the runtime's terms; what is not set is left out. @throws SystemFault when a device is not there */
export function ociResources(r: Resources): OciResources {
  return (
    compact({
      memory: compact({
        limit: positive(r.Memory),
        reservation: positive(r.MemoryReservation),
        swap: positive(r.MemorySwap),
        swappiness: r.MemorySwappiness ?? undefined,
        disableOOMKiller: r.OomKillDisable || undefined,
      }),
      cpu: compact({
        shares: positive(r.CpuShares),
        period: r.NanoCpus > 0 ? CFS_PERIOD : positive(r.CpuPeriod),
        quota: r.NanoCpus > 0 ? Math.floor((r.NanoCpus * CFS_PERIOD) / NANO) : r.CpuQuota || undefined,
        cpus: r.CpusetCpus || undefined,
        mems: r.CpusetMems || undefined,
      }),
      // The runtime needs -1 to lift a limit that was set.
      pids: r.PidsLimit === null ? undefined : { limit: r.PidsLimit > 0 ? r.PidsLimit : -1 },
      blockIO: compact({
        weight: positive(r.BlkioWeight),
        weightDevice: list(r.BlkioWeightDevice, ({ Path, Weight }) => ({ ...deviceNumbers(Path), weight: Weight })),
        throttleReadBpsDevice: list(r.BlkioDeviceReadBps, throttle),
        throttleWriteBpsDevice: list(r.BlkioDeviceWriteBps, throttle),
        throttleReadIOPSDevice: list(r.BlkioDeviceReadIOps, throttle),
        throttleWriteIOPSDevice: list(r.BlkioDeviceWriteIOps, throttle),
      }),
    }) ?? {}
  );
}

const throttle = ({ Path, Rate }: ThrottleDevice): { major: number; minor: number; rate: number } => ({
  ...deviceNumbers(Path),
  rate: Rate,
});
const positive = (n: number): number | undefined => (n > 0 ? n : undefined);
const list = <T, U>(items: readonly T[] | null, make: (item: T) => U): U[] | undefined =>
  items?.length ? items.map(make) : undefined;

/** Without the keys that are undefined; undefined itself when none is left. */
function compact<T extends object>(record: T): T | undefined {
  const entries = Object.entries(record).filter(([, value]) => value !== undefined);
  return entries.length ? (Object.fromEntries(entries) as T) : undefined;
}
