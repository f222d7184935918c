/** Shim bundles, stored by content hash: an upgrade never changes the files that a running shim was started from. */
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const FILES = ['shim.cjs', 'koffi.node'];

export interface ShimBundle {
  hash: string;
  /** Path of the script to run. */
  script: string;
}

/** Copies the bundle in `from` to `<store>/<hash>/`, unless it exists. The directory appears atomically, by rename. */
export function installShimBundle(from: string, store: string): ShimBundle {
  const digest = createHash('sha256');
  for (const file of FILES) digest.update(readFileSync(join(from, file)));
  const hash = digest.digest('hex').slice(0, 16);
  const target = join(store, hash);
  if (!existsSync(target)) {
    const draft = join(store, `.${hash}.${process.pid}`);
    rmSync(draft, { recursive: true, force: true });
    mkdirSync(draft, { recursive: true, mode: 0o700 });
    for (const file of FILES) copyFileSync(join(from, file), join(draft, file));
    renameSync(draft, target);
  }
  return { hash, script: join(target, 'shim.cjs') };
}
