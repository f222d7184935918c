/** Events of volumes. */
import type { NewEvent } from '../../model/event.ts';
import type { Volume } from '../../model/volume.ts';
import { wallNow } from '../clock.ts';

/** `details` are the attributes of mount and unmount events beside the driver. */
export const volumeEvent = (
  volume: Pick<Volume, 'name' | 'driver'>,
  action: 'create' | 'destroy' | 'mount' | 'unmount',
  details: Record<string, string> = {},
): NewEvent => ({
  type: 'volume',
  action,
  actor: volume.name,
  attributes: { driver: volume.driver, ...details },
  time: wallNow(),
});
