/** Which cgroup controls and CPUs this host offers to containers. cgroups(7), cpuset(7) */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { cgroupHierarchies, cgroupLayout, isUnified, type CgroupLayout } from '../../sys/cgroupfs.ts';
import { readHostFile } from './host-file.ts';

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

export interface CgroupFacts {
  cgroup: CgroupLayout;
  controls: ReadonlySet<Control>;
  /** Lists in the format of cpuset.cpus: 0-3,7. */
  cpusetCpus: string;
  cpusetMems: string;
}

interface CgroupMounts {
  layout: CgroupLayout;
  /** Mount points of the v1 hierarchies by controller. */
  controllers: ReadonlyMap<string, string>;
  /** Mount point of v2; '' if there is none. */
  unified: string;
}

/** The control exists if its file does. */
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

const V2_CONTROLS: Readonly<Record<string, readonly Control[]>> = {
  memory: ['memory', 'reservation'],
  cpu: ['cpuShares', 'cpuCfs'],
  cpuset: ['cpuset'],
  pids: ['pids'],
  io: ['blkioWeight', 'blkioWeightDevice', 'blkioReadBps', 'blkioWriteBps', 'blkioReadIOps', 'blkioWriteIOps'],
};

/** Reads them from the mounted hierarchies. */
export function cgroupFacts(): CgroupFacts {
  const mounts = cgroupMounts();
  const controls = mounts.layout === 'v2' ? controlsOfV2(mounts.unified) : controlsOfV1(mounts.controllers);
  return { cgroup: mounts.layout, controls, ...cpusets(mounts) };
}

function cgroupMounts(): CgroupMounts {
  const hierarchies = cgroupHierarchies();
  const controllers = new Map<string, string>();
  for (const hierarchy of hierarchies)
    for (const controller of hierarchy.controllers)
      if (!controllers.has(controller)) controllers.set(controller, hierarchy.mountPoint);
  return { controllers, unified: hierarchies.find(isUnified)?.mountPoint ?? '', layout: cgroupLayout(hierarchies) };
}

function controlsOfV1(controllers: CgroupMounts['controllers']): Set<Control> {
  const controls = new Set<Control>();
  for (const [control, controller, file] of V1_FILES) {
    const mountPoint = controllers.get(controller);
    if (mountPoint !== undefined && existsSync(join(mountPoint, file))) controls.add(control);
  }
  return controls;
}

function controlsOfV2(root: string): Set<Control> {
  const controllers = readHostFile(join(root, 'cgroup.controllers')).split(' ');
  const controls = new Set(controllers.flatMap((controller) => V2_CONTROLS[controller] ?? []));
  if (controls.has('memory') && hasSwapV2(root)) controls.add('swap');
  return controls;
}

/** The root cgroup has no memory.swap.max, so this looks into the process's own cgroup, or any other below the root. */
function hasSwapV2(root: string): boolean {
  const hasSwap = (cgroup: string): boolean => existsSync(join(root, cgroup, 'memory.swap.max'));
  const own = ownCgroupV2();
  if (own !== '/') return hasSwap(own);
  return readdirSync(root, { withFileTypes: true }).some((entry) => entry.isDirectory() && hasSwap(entry.name));
}

function ownCgroupV2(): string {
  const prefix = '0::';
  const line = readHostFile('/proc/self/cgroup')
    .split('\n')
    .find((candidate) => candidate.startsWith(prefix));
  return line?.slice(prefix.length) ?? '/';
}

function cpusets({ controllers, unified }: CgroupMounts): Pick<CgroupFacts, 'cpusetCpus' | 'cpusetMems'> {
  const directory = controllers.get('cpuset') ?? unified;
  const list = (name: string, fallback: string): string =>
    readHostFile(join(directory, `cpuset.${name}.effective`)) ||
    readHostFile(join(directory, `cpuset.${name}`)) ||
    readHostFile(fallback) ||
    '0';
  return {
    cpusetCpus: list('cpus', '/sys/devices/system/cpu/online'),
    cpusetMems: list('mems', '/sys/devices/system/node/online'),
  };
}
