/** The root file system of a real distribution: scripts/debian-image, made once per machine. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** Path of its tar archive; the first call runs debootstrap for a minute or more. @param packages to install */
export const debianTar = (...packages: string[]): string =>
  execFileSync(fileURLToPath(new URL('../../scripts/debian-image', import.meta.url)), packages, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  }).trim();
