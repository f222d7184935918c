/**
 * What bin/holdfastd runs: the daemon's bundle, compiled ahead. A start costs a third of the CPU time with V8's cache
 * of the
 * compiled code beside the bundle (110 ms instead of 365), and clients wait for it. A cache of another V8 is refused by
 * V8
 * itself and passed over. https://nodejs.org/api/vm.html#scriptcreatecacheddata
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire, wrap } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { constants, Script } from 'node:vm';

type Wrapped = (
  exports: object,
  require: NodeJS.Require,
  module: { exports: object },
  file: string,
  directory: string,
) => void;

const here = dirname(fileURLToPath(import.meta.url));
const bundle = join(here, 'daemon.cjs');
const cache = join(here, 'daemon.cache');
/** Set by the build: what was compiled in this run becomes the cache. */
const builds = process.env.HOLDFAST_CODE_CACHE === 'build';

const script = new Script(wrap(readFileSync(bundle, 'utf8')), {
  filename: bundle,
  cachedData: builds ? undefined : readIfThere(cache),
  importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
});
if (builds) process.once('exit', () => writeFileSync(cache, script.createCachedData()));
const module = { exports: {} };
(script.runInThisContext() as Wrapped)(module.exports, createRequire(bundle), module, bundle, here);

function readIfThere(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}
