/** The root file system that tests run in: scripts/busybox-image, made once a process. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

let made: Buffer | undefined;

export const busyboxTar = (): Buffer =>
  (made ??= execFileSync(fileURLToPath(new URL('../../scripts/busybox-image', import.meta.url)), {
    maxBuffer: 64 * 1024 * 1024,
  }));
