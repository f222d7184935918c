/** A volume as the engine knows it. */
import { wallNow } from '../engine/clock.ts';
import type { NewEvent } from './event.ts';

export interface Volume {
  name: string;
  driver: string;
  /** Wall ns, decimal string. */
  created: string;
  mountpoint: string;
  labels: Record<string, string>;
  options: Record<string, string>;
  anonymous: boolean;
}

/** Its events carry its driver; those of mounts more. */
export const volumeEvent = (
  volume: Pick<Volume, 'name' | 'driver'>,
  action: 'create' | 'destroy' | 'mount' | 'unmount',
  own: Record<string, string> = {},
): NewEvent => ({
  type: 'volume',
  action,
  actor: volume.name,
  attributes: { driver: volume.driver, ...own },
  time: wallNow(),
});
