/** A real distribution's root file system: scripts/debian-image, made once a machine. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** Path of its tar archive. The first time takes debootstrap a minute or more. */
export const debianTar = (): string => execFileSync(fileURLToPath(new URL('../../scripts/debian-image', import.meta.url)), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }).trim();
