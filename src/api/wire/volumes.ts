/** JSON of volumes. */
import type { Volume } from '../../model/volume.ts';
import { rfc3339 } from '../../engine/time.ts';
import type { Schemas } from './schemas.ts';

/** Computed for GET /system/df only; -1: not computed. */
export interface VolumeUse {
  size: number;
  containers: number;
}

export function volumeInspect(v: Volume, use?: VolumeUse): Schemas['Volume'] {
  return {
    // dockerd truncates to seconds.
    CreatedAt: rfc3339(v.created).replace(/\.\d+Z$/, 'Z'),
    Driver: v.driver,
    Labels: orNull(v.labels),
    Mountpoint: v.mountpoint,
    Name: v.name,
    Options: orNull(v.options),
    Scope: 'local',
    ...(v.damaged !== undefined && { Status: { Damaged: v.damaged } }),
    UsageData: use && { Size: use.size, RefCount: use.containers },
  };
}

export const volumeList = (volumes: Volume[]): Schemas['VolumeListResponse'] => ({
  Volumes: volumes.map((v) => volumeInspect(v)),
  Warnings: warnings(volumes),
});

export const volumesPruned = (pruned: { deleted: string[]; reclaimed: number }): Schemas['VolumePruneResponse'] => ({
  VolumesDeleted: pruned.deleted,
  SpaceReclaimed: pruned.reclaimed,
});

function warnings(volumes: Volume[]): string[] | null {
  const texts = volumes.flatMap(({ name, damaged }) => (damaged === undefined ? [] : [`volume ${name}: ${damaged}`]));
  return texts.length > 0 ? texts : null;
}

const orNull = (map: Record<string, string>): Record<string, string> | null =>
  Object.keys(map).length > 0 ? map : null;
