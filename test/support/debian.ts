/** A real distribution's root file system: scripts/debian-image, made once a machine. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** Path of its tar archive. The first time takes debootstrap a minute or more. @param packages to have in it */
export const debianTar = (...packages: string[]): string =>
  execFileSync(fileURLToPath(new URL('../../scripts/debian-image', import.meta.url)), packages, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  }).trim();
