/** Releases of Holdfast side by side: copies of this build, whose programs a test may replace as an upgrade does. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const FIXTURES = fileURLToPath(new URL('../fixtures/shims', import.meta.url));

export interface Release extends Disposable {
  /** The daemon's launcher. */
  program: string;
  /** What `npm run build` made. */
  dist: string;
  /** The program of its shims. */
  shim: string;
}

export function copyRelease(): Release {
  const root = mkdtempSync(join(tmpdir(), 'holdfast-release-'));
  const dist = join(root, 'dist');
  cpSync(join(ROOT, 'dist'), dist, { recursive: true });
  mkdirSync(join(root, 'bin'));
  cpSync(join(ROOT, 'bin/holdfastd'), join(root, 'bin/holdfastd'));
  symlinkSync(join(ROOT, 'node_modules'), join(root, 'node_modules'));
  return {
    program: join(root, 'bin/holdfastd'),
    dist,
    shim: join(dist, 'shim/shim.cjs'),
    [Symbol.dispose]: () => rmSync(root, { recursive: true, force: true }),
  };
}

/**
 * As copyRelease(), with the shim of an earlier build, kept in test/fixtures/shims under its date: what `npm run build`
 * made of the tree of that day, by `gzip -9n dist/shim/shim.cjs`.
 */
export function releaseWithShimOf(date: string): Release {
  const release = copyRelease();
  writeFileSync(release.shim, gunzipSync(readFileSync(join(FIXTURES, `${date}.cjs.gz`))));
  return release;
}
