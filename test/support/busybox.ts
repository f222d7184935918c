/** The root file system of most tests: a tar archive by scripts/busybox-image, made once per process. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

let made: Buffer | undefined;

export const busyboxTar = (): Buffer =>
  (made ??= execFileSync(fileURLToPath(new URL('../../scripts/busybox-image', import.meta.url)), {
    maxBuffer: 64 * 1024 * 1024,
  }));
