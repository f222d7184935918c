import { InvalidParameter } from '../../model/errors.ts';
import type { HostConfig } from '../../model/container-config.ts';
import type { Control } from './cgroup-controls.ts';
import type { Host } from './host.ts';

/** The limits of a container's cgroup. */
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

/** The state of one check of limits: what is left of them, and the warnings so far. */
export class LimitCheck {
  readonly warnings: string[] = [];

  constructor(
    /** Changed by `discard`. */
    readonly limits: Resources,
    readonly host: Host,
  ) {}

  can(control: Control): boolean {
    return this.host.controls.has(control);
  }

  /** @throws InvalidParameter if `applies` */
  refuse(applies: boolean, message: string): void {
    if (applies) throw new InvalidParameter(message);
  }

  /** If `applies`: warns, and sets the discarded limits to `reset`. */
  discard(applies: boolean, warning: string, reset: Partial<Resources>): void {
    if (!applies) return;
    this.warnings.push(warning);
    Object.assign(this.limits, reset);
  }
}
