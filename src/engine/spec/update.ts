/** `docker update`: changes of an existing container's limits and restart policy. */
import { Conflict, InvalidParameter } from '../../model/errors.ts';
import type { HostConfig, Int64 } from '../../model/container-config.ts';
import type { Container } from '../../model/container.ts';
import { asSent } from './as-sent.ts';
import { HOST_CONFIG_KEYS } from './defaults.ts';
import { thisHost, type Host } from './host.ts';
import { ociResources } from './oci-resources.ts';
import { checkResources } from './resources.ts';
import { checkRestartPolicy } from './validate.ts';

export interface Update {
  hostConfig: HostConfig;
  /** For `runtime update --resources -`: all limits, so that the runtime's own record stays complete. */
  resources: Record<string, unknown>;
  warnings: string[];
}

/** 0 and '' mean "no change". */
const CHANGEABLE = [
  'BlkioWeight',
  'CpuShares',
  'NanoCpus',
  'CpuPeriod',
  'CpuQuota',
  'CpusetCpus',
  'CpusetMems',
  'Memory',
  'MemorySwap',
  'MemoryReservation',
] as const;

/** What a policy leaves out. */
const NO_POLICY: HostConfig['RestartPolicy'] = { Name: '', MaximumRetryCount: 0 };

/** Fields without the warning that they cannot be updated: they can, or have a warning of their own. */
const WITHOUT_WARNING = new Set<string>([
  ...CHANGEABLE,
  'PidsLimit',
  'RestartPolicy',
  'CpuRealtimePeriod',
  'CpuRealtimeRuntime',
  'CpuPercent',
  'CpuCount',
  'OomKillDisable',
]);

/**
 * Validates a change of limits and restart policy, and applies it to a copy of the host config.
 * @throws InvalidParameter, Conflict
 */
export function validateUpdate(container: Pick<Container, 'id' | 'hostConfig'>, changes: Partial<HostConfig>): Update {
  return updateOn(thisHost(), container, changes);
}

export function updateOn(
  host: Host,
  container: Pick<Container, 'id' | 'hostConfig'>,
  changes: Partial<HostConfig>,
): Update {
  const present = container.hostConfig;
  const asked = { ...NO_LIMITS, ...Object.fromEntries(Object.entries(changes).filter(([, value]) => value != null)) };
  if (asked.CpuShares < 0)
    throw new InvalidParameter(`invalid CPU shares (${asked.CpuShares}): value must be a positive integer`);
  const { resources: wanted, warnings } = checkResources(asked, host, 'update');
  if (changes.RestartPolicy) checkRestartPolicy({ ...NO_POLICY, ...changes.RestartPolicy });
  const refused = (why: string): never => {
    throw new Conflict(`Cannot update container ${container.id}: ${why}`);
  };
  checkConflicts(wanted, present, refused);
  const hostConfig = { ...present };
  for (const field of CHANGEABLE) if (wanted[field]) Object.assign(hostConfig, { [field]: wanted[field] });
  // 0 and less lift the limit; Docker then stores 0.
  if (wanted.PidsLimit !== null) hostConfig.PidsLimit = wanted.PidsLimit > 0 ? wanted.PidsLimit : 0;
  const policy = changes.RestartPolicy && asSent(changes.RestartPolicy);
  if (policy?.Name) {
    if (present.AutoRemove && policy.Name !== 'no')
      refused('Restart policy cannot be updated because AutoRemove is enabled for the container');
    hostConfig.RestartPolicy = { Name: policy.Name, MaximumRetryCount: policy.MaximumRetryCount ?? 0 };
  }
  const resources = ociResources(hostConfig);
  // `ociResources` leaves -1 out, with which the runtime would keep the present limit.
  if (changes.MemorySwap === -1 && host.controls.has('swap')) resources.memory = { ...resources.memory, swap: -1 };
  return { hostConfig, resources: { ...resources }, warnings: [...warnings, ...ignoredChanges(changes)] };
}

function checkConflicts(wanted: typeof NO_LIMITS, present: HostConfig, refused: (why: string) => never): void {
  const cpus: [boolean, string][] = [
    [wanted.NanoCpus > 0 && present.CpuPeriod > 0, 'Nano CPUs cannot be updated as CPU Period has already been set'],
    [wanted.NanoCpus > 0 && present.CpuQuota > 0, 'Nano CPUs cannot be updated as CPU Quota has already been set'],
    [wanted.CpuPeriod > 0 && present.NanoCpus > 0, 'CPU Period cannot be updated as NanoCPUs has already been set'],
    [wanted.CpuQuota > 0 && present.NanoCpus > 0, 'CPU Quota cannot be updated as NanoCPUs has already been set'],
  ];
  const conflict = cpus.find(([applies]) => applies);
  if (conflict) refused(`Conflicting options: ${conflict[1]}`);
  const raisesMemoryOnly = wanted.Memory !== 0 && wanted.MemorySwap === 0;
  if (raisesMemoryOnly && wanted.Memory > present.MemorySwap) {
    refused('Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time');
  }
}

/** A warning for each requested change that is not possible. */
function ignoredChanges(changes: Partial<HostConfig>): string[] {
  const ignored = Object.entries(changes)
    .filter(([key, value]) => HOST_CONFIG_KEYS.includes(key) && !WITHOUT_WARNING.has(key) && !isEmpty(value))
    .map(([key]) => key);
  return ignored.map((key) => `${key} cannot be updated. ${key} discarded.`);
}

function isEmpty(value: unknown): boolean {
  if (value === null || value === undefined || value === 0 || value === '' || value === false || value === -1)
    return true;
  return typeof value === 'object' && Object.values(value).every(isEmpty);
}

const NO_LIMITS = {
  Memory: 0 as Int64,
  MemorySwap: 0 as Int64,
  MemoryReservation: 0 as Int64,
  MemorySwappiness: null as number | null,
  OomKillDisable: null as boolean | null,
  PidsLimit: null as Int64 | null,
  NanoCpus: 0,
  CpuShares: 0 as Int64,
  CpuPeriod: 0,
  CpuQuota: 0 as Int64,
  CpuRealtimePeriod: 0,
  CpuRealtimeRuntime: 0,
  CpusetCpus: '',
  CpusetMems: '',
  CpuPercent: 0,
  CpuCount: 0,
  BlkioWeight: 0,
  BlkioWeightDevice: null as HostConfig['BlkioWeightDevice'],
  BlkioDeviceReadBps: null as HostConfig['BlkioDeviceReadBps'],
  BlkioDeviceWriteBps: null as HostConfig['BlkioDeviceWriteBps'],
  BlkioDeviceReadIOps: null as HostConfig['BlkioDeviceReadIOps'],
  BlkioDeviceWriteIOps: null as HostConfig['BlkioDeviceWriteIOps'],
  IOMaximumBandwidth: 0,
  IOMaximumIOps: 0,
};
