/** `--volumes-from`: mounts that a container takes over from others. */
import { InvalidParameter } from '../../model/errors.ts';
import type { MountPoint } from '../../model/container.ts';
import { parseMode } from './mount-mode.ts';

/** Parses `container[:mode]`. @throws InvalidParameter */
export function parseVolumesFrom(text: string): { container: string; readOnly: boolean } {
  if (text === '') throw new InvalidParameter('volumes-from specification cannot be an empty string');
  const [container = '', ...rest] = text.split(':');
  const mode = rest.join(':');
  const options = parseMode(mode, ['access', 'label', 'consistency']);
  if (!options) throw new InvalidParameter(`invalid mode: ${mode}`);
  return { container, readOnly: options.includes('ro') };
}

/** The mounts of the containers in `volumesFrom`. Of several with the same destination the last one counts. */
export function inheritedMounts(
  volumesFrom: readonly string[],
  mountsOf: (container: string) => readonly MountPoint[],
): MountPoint[] {
  const points = new Map<string, MountPoint>();
  for (const { container, readOnly } of volumesFrom.map(parseVolumesFrom)) {
    for (const point of mountsOf(container))
      points.set(point.destination, { ...point, rw: point.rw && !readOnly, mode: '' });
  }
  return [...points.values()];
}
