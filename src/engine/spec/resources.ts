/** Checks the limits of a container's cgroup, and discards those that this host cannot enforce. cgroups(7) */
import { existsSync } from 'node:fs';
import { InvalidParameter } from '../../model/errors.ts';
import type { Host } from './host.ts';
import { LimitCheck, type Resources } from './limit-check.ts';

const MIN_MEMORY = 6 << 20;
const NANO = 1e9;

/**
 * Returns a copy of `asked` without the limits that this host cannot enforce, and a warning for each of them. The order
 * of the checks and their texts are dockerd's (daemon_unix.go).
 * @throws InvalidParameter for limits that make no sense
 */
export function checkResources<T extends Resources>(
  asked: T,
  host: Host,
  purpose: 'create' | 'update',
): { resources: T; warnings: string[] } {
  const resources = { ...asked };
  const check = new LimitCheck(resources, host);
  // The Docker CLI sends -1 for "not set".
  if (resources.MemorySwappiness === -1) resources.MemorySwappiness = null;
  checkMemory(check, purpose);
  checkOomAndPids(check);
  checkCpu(check);
  checkCpuset(check);
  checkBlockIo(check);
  return { resources, warnings: check.warnings };
}

function checkMemory(check: LimitCheck, purpose: 'create' | 'update'): void {
  const { limits: r } = check;
  check.refuse(r.Memory !== 0 && r.Memory < MIN_MEMORY, 'Minimum memory limit allowed is 6MB');
  check.discard(
    r.Memory > 0 && !check.can('memory'),
    'Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.',
    { Memory: 0, MemorySwap: -1 },
  );
  check.discard(
    r.Memory > 0 && r.MemorySwap !== -1 && !check.can('swap'),
    'Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.',
    { MemorySwap: -1 },
  );
  check.refuse(
    r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory,
    'Minimum memoryswap limit should be larger than memory limit, see usage',
  );
  check.refuse(
    r.Memory === 0 && r.MemorySwap > 0 && purpose === 'create',
    'You should always set the Memory limit when using Memoryswap limit, see usage',
  );
  checkSwappiness(check);
  checkReservation(check);
  checkKernelMemory(check);
}

function checkSwappiness(check: LimitCheck): void {
  const { limits: r } = check;
  check.discard(
    r.MemorySwappiness !== null && !check.can('swappiness'),
    'Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.',
    { MemorySwappiness: null },
  );
  check.refuse(
    r.MemorySwappiness !== null && (r.MemorySwappiness < 0 || r.MemorySwappiness > 100),
    `Invalid value: ${r.MemorySwappiness}, valid memory swappiness range is 0-100`,
  );
}

function checkReservation(check: LimitCheck): void {
  const { limits: r } = check;
  check.discard(
    r.MemoryReservation > 0 && !check.can('reservation'),
    'Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.',
    { MemoryReservation: 0 },
  );
  check.refuse(
    r.MemoryReservation !== 0 && r.MemoryReservation < MIN_MEMORY,
    'Minimum memory reservation allowed is 6MB',
  );
  check.refuse(
    r.Memory > 0 && r.MemoryReservation > 0 && r.Memory < r.MemoryReservation,
    'Minimum memory limit can not be less than memory reservation limit, see usage',
  );
}

function checkKernelMemory({ limits, warnings }: LimitCheck): void {
  if (limits.KernelMemory) {
    warnings.push(
      'KernelMemory: kernel memory limits are deprecated by the kernel and not supported. Limitation discarded.',
    );
    delete limits.KernelMemory;
  }
  // runc ignores it since 1.0, whatever the kernel supports.
  if (limits.KernelMemoryTCP) {
    warnings.push('KernelMemoryTCP: kernel memory TCP limits are not supported by the runtime. Limitation discarded.');
    delete limits.KernelMemoryTCP;
  }
}

function checkOomAndPids(check: LimitCheck): void {
  const { limits: r, warnings } = check;
  if (r.OomKillDisable !== null && !check.can('oomKillDisable')) {
    if (r.OomKillDisable) warnings.push('Your kernel does not support OomKillDisable. OomKillDisable discarded.');
    r.OomKillDisable = null;
  }
  if (r.OomKillDisable && r.Memory === 0) {
    warnings.push(
      'OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.',
    );
  }
  if (r.PidsLimit !== null && !check.can('pids')) {
    const warning =
      'Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.';
    if (r.PidsLimit > 0) warnings.push(warning);
    r.PidsLimit = null;
  }
}

function checkCpu(check: LimitCheck): void {
  const { limits: r } = check;
  checkNanoCpus(check);
  check.discard(
    r.CpuShares > 0 && !check.can('cpuShares'),
    'Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.',
    { CpuShares: 0 },
  );
  check.discard(
    (r.CpuPeriod !== 0 || r.CpuQuota !== 0) && !check.can('cpuCfs'),
    'Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.',
    { CpuPeriod: 0, CpuQuota: 0 },
  );
  check.refuse(
    r.CpuPeriod !== 0 && (r.CpuPeriod < 1000 || r.CpuPeriod > 1_000_000),
    'CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)',
  );
  check.refuse(r.CpuQuota > 0 && r.CpuQuota < 1000, 'CPU cfs quota can not be less than 1ms (i.e. 1000)');
  // The kernel gives a cgroup real-time only out of its parent's budget, which nothing here sets (sched-rt-group.rst).
  check.discard(
    r.CpuRealtimePeriod !== 0 || r.CpuRealtimeRuntime !== 0,
    'CpuRealtimePeriod and CpuRealtimeRuntime: real-time CPU limits are not supported. Limits discarded.',
    { CpuRealtimePeriod: 0, CpuRealtimeRuntime: 0 },
  );
  check.discard(r.CpuPercent > 0, 'linux does not support CPU percent. Percent discarded. (CpuPercent)', {
    CpuPercent: 0,
  });
  check.discard(r.CpuCount > 0, 'linux does not support CPU count. Count discarded. (CpuCount)', { CpuCount: 0 });
}

function checkNanoCpus(check: LimitCheck): void {
  const { limits: r, host } = check;
  check.refuse(r.NanoCpus > 0 && r.CpuPeriod > 0, 'Conflicting options: Nano CPUs and CPU Period cannot both be set');
  check.refuse(r.NanoCpus > 0 && r.CpuQuota > 0, 'Conflicting options: Nano CPUs and CPU Quota cannot both be set');
  check.refuse(
    r.NanoCpus > 0 && !check.can('cpuCfs'),
    'NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted',
  );
  check.refuse(
    r.NanoCpus < 0 || r.NanoCpus > host.cpus * NANO,
    `range of CPUs is from 0.01 to ${host.cpus}.00, as there are only ${host.cpus} CPUs available`,
  );
}

function checkCpuset(check: LimitCheck): void {
  const { limits: r, host } = check;
  check.discard(
    (r.CpusetCpus !== '' || r.CpusetMems !== '') && !check.can('cpuset'),
    'Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.',
    { CpusetCpus: '', CpusetMems: '' },
  );
  checkList(r.CpusetCpus, host.cpusetCpus, 'cpuset cpus', 'Requested CPUs are not available');
  checkList(r.CpusetMems, host.cpusetMems, 'cpuset mems', 'Requested memory nodes are not available');
}

function checkList(asked: string, available: string, what: string, refusal: string): void {
  const wanted = parseRanges(asked);
  if (!wanted) throw new InvalidParameter(`Invalid value ${asked} for ${what}: invalid format: ${asked}`);
  const existing = parseRanges(available) ?? [];
  const covered = wanted.every(([first, last]) => existing.some(([low, high]) => first >= low && last <= high));
  if (!covered) throw new InvalidParameter(`${refusal} - requested ${asked}, available: ${available}`);
}

/** `0-2,5` as pairs of first and last; a range that continues the previous one is joined. undefined if malformed. */
function parseRanges(list: string): [number, number][] | undefined {
  if (list === '') return [];
  const ranges: [number, number][] = [];
  for (const part of list.split(',')) {
    const match = /^\s*(\d+)(?:-(\d+))?\s*$/.exec(part);
    if (!match) return undefined;
    const first = Number(match[1]);
    const last = Number(match[2] ?? first);
    if (last < first) return undefined;
    const previous = ranges.at(-1);
    if (previous && first === previous[1] + 1) previous[1] = last;
    else ranges.push([first, last]);
  }
  return ranges;
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

function checkBlockIo(check: LimitCheck): void {
  const { limits: r } = check;
  check.discard(
    r.BlkioWeight > 0 && !check.can('blkioWeight'),
    'Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.',
    { BlkioWeight: 0 },
  );
  check.refuse(r.BlkioWeight !== 0 && !isWeight(r.BlkioWeight), 'Range of blkio weight is from 10 to 1000');
  check.refuse(
    r.IOMaximumBandwidth !== 0 || r.IOMaximumIOps !== 0,
    'Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps',
  );
  check.discard(
    isGiven(r.BlkioWeightDevice) && !check.can('blkioWeightDevice'),
    'Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.',
    { BlkioWeightDevice: [] },
  );
  for (const { Path, Weight } of r.BlkioWeightDevice ?? []) {
    check.refuse(!isWeight(Weight), `invalid weight for device: ${Path}:${Weight}`);
    checkPath(Path);
  }
  for (const [field, control, warning] of THROTTLES) {
    check.discard(isGiven(r[field]) && !check.can(control), warning, { [field]: [] });
    for (const { Path, Rate } of r[field] ?? []) {
      check.refuse(Rate < 0, `invalid rate for device: ${Path}:${Rate}`);
      checkPath(Path);
    }
  }
}

const isGiven = (list: readonly unknown[] | null): boolean => list !== null && list.length > 0;

function checkPath(path: string): void {
  if (!existsSync(path)) throw new InvalidParameter(`stat ${path}: no such file or directory`);
}
