/**
 * Bundles the programs that run as processes of their own (unpacker, packer, shim), as scripts/bundle.mjs does for a
 * release.
 */
import { build } from 'esbuild';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const require = createRequire(import.meta.url);

export interface Bundles {
  directory: string;
  unpacker: string;
  packer: string;
  /** Bundles `source` (below the repository's root) as well; returns the script. */
  add(source: string): Promise<string>;
  [Symbol.dispose](): void;
}

export async function bundles(): Promise<Bundles> {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-bundle-'));
  copyFileSync(
    require.resolve(`@koromix/koffi-linux-${process.arch}/linux_${process.arch}/koffi.node`),
    join(directory, 'koffi.node'),
  );
  const add = async (source: string): Promise<string> => {
    const outfile = join(directory, `${source.replace(/^.*\//, '').replace(/\.ts$/, '')}.cjs`);
    await build({
      entryPoints: [join(root, source)],
      outfile,
      bundle: true,
      platform: 'node',
      target: 'node20',
      format: 'cjs',
      logLevel: 'error',
      loader: { '.sql': 'text' },
      define: { 'import.meta.url': '__moduleUrl' },
      banner: { js: "const __moduleUrl = require('node:url').pathToFileURL(__filename).href;" },
      external: ['better-sqlite3'],
    });
    return outfile;
  };
  await add('src/engine/images/file-writer-thread.ts');
  return {
    directory,
    unpacker: await add('src/engine/images/unpacker-main.ts'),
    packer: await add('src/engine/images/packer-main.ts'),
    add,
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  };
}

/** Bundles the shim into `directory`. @returns the script's path */
export async function bundleShim(directory: string): Promise<string> {
  const outfile = join(directory, 'shim.cjs');
  await build({
    bundle: true,
    platform: 'node',
    target: 'node20',
    entryPoints: [join(root, 'src/shim/main.ts')],
    outfile,
    format: 'cjs',
    minifySyntax: true,
    treeShaking: true,
    logLevel: 'warning',
    define: { HOLDFAST_VERSION: '"test"', 'import.meta.url': '__moduleUrl' },
    banner: { js: "const __moduleUrl = require('node:url').pathToFileURL(__filename).href;" },
  });
  copyFileSync(
    require.resolve(`@koromix/koffi-linux-${process.arch}/linux_${process.arch}/koffi.node`),
    join(directory, 'koffi.node'),
  );
  return outfile;
}
