/** A container's limits in the form of the OCI runtime specification. */
import type { Int64, ThrottleDevice, WeightDevice } from '../../model/container-config.ts';
import { deviceNumbers } from './devices.ts';
import type { Resources } from './limit-check.ts';
import type { OciResources } from './oci.ts';

/** Microseconds; a quota is the CPU time per period. */
const CFS_PERIOD = 100_000;
const NANO = 1e9;

/** Limits that are not set are left out. @throws SystemFault when a device does not exist */
export function ociResources(limits: Resources): OciResources {
  const resources: OciResources = {};
  const memory = compact({
    limit: positive(limits.Memory),
    reservation: positive(limits.MemoryReservation),
    swap: positive(limits.MemorySwap),
    swappiness: limits.MemorySwappiness ?? undefined,
    disableOOMKiller: limits.OomKillDisable || undefined,
  });
  const cpu = compact({
    shares: positive(limits.CpuShares),
    period: limits.NanoCpus > 0 ? CFS_PERIOD : positive(limits.CpuPeriod),
    quota: limits.NanoCpus > 0 ? Math.floor((limits.NanoCpus * CFS_PERIOD) / NANO) : limits.CpuQuota || undefined,
    cpus: limits.CpusetCpus || undefined,
    mems: limits.CpusetMems || undefined,
  });
  const blockIO = compact({
    weight: positive(limits.BlkioWeight),
    weightDevice: mapped(limits.BlkioWeightDevice, weightOf),
    throttleReadBpsDevice: mapped(limits.BlkioDeviceReadBps, throttleOf),
    throttleWriteBpsDevice: mapped(limits.BlkioDeviceWriteBps, throttleOf),
    throttleReadIOPSDevice: mapped(limits.BlkioDeviceReadIOps, throttleOf),
    throttleWriteIOPSDevice: mapped(limits.BlkioDeviceWriteIOps, throttleOf),
  });
  if (memory) resources.memory = memory;
  if (cpu) resources.cpu = cpu;
  // -1 lifts a limit that was set before.
  if (limits.PidsLimit !== null) resources.pids = { limit: limits.PidsLimit > 0 ? limits.PidsLimit : -1 };
  if (blockIO) resources.blockIO = blockIO;
  return resources;
}

const weightOf = ({ Path, Weight }: WeightDevice) => ({ ...deviceNumbers(Path), weight: Weight });
const throttleOf = ({ Path, Rate }: ThrottleDevice) => ({ ...deviceNumbers(Path), rate: Rate });

const positive = <T extends Int64>(n: T): T | undefined => (n > 0 ? n : undefined);

const mapped = <T, U>(items: readonly T[] | null, map: (item: T) => U): U[] | undefined =>
  items?.length ? items.map(map) : undefined;

/** Drops the keys that are undefined; returns undefined if none is left. */
function compact<T extends object>(record: T): T | undefined {
  const entries = Object.entries(record).filter(([, value]) => value !== undefined);
  return entries.length ? (Object.fromEntries(entries) as T) : undefined;
}
