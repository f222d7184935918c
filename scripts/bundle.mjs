// Bundles the daemon (dist/daemon.cjs, with all packages except native ones, and its code cache) and the shim
// (dist/shim/: one file and koffi's native module).
import { execFileSync } from 'node:child_process';
import { build } from 'esbuild';
import { cpSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import YAML from 'yaml';

const root = fileURLToPath(new URL('..', import.meta.url));
const require = createRequire(import.meta.url);
const dist = `${root}dist`;
rmSync(dist, { recursive: true, force: true });
mkdirSync(`${dist}/shim`, { recursive: true });

const { version } = JSON.parse(readFileSync(`${root}package.json`, 'utf8'));
const common = {
  bundle: true,
  platform: 'node',
  target: 'node20',
  define: { HOLDFAST_VERSION: JSON.stringify(version) },
  loader: { '.sql': 'text' },
  logLevel: 'warning',
};

// Converts openapi.yaml to JSON, because parsing YAML at start-up takes 0.4 s.
const yaml = {
  name: 'yaml',
  setup: (b) =>
    b.onLoad({ filter: /\.yaml$/ }, ({ path }) => ({
      contents: JSON.stringify(YAML.parse(readFileSync(path, 'utf8'))),
      loader: 'json',
    })),
};

const cjs = {
  ...common,
  format: 'cjs',
  minifySyntax: true,
  define: { ...common.define, 'import.meta.url': '__moduleUrl' },
  banner: { js: "const __moduleUrl = require('node:url').pathToFileURL(__filename).href;" },
};
await build({
  ...cjs,
  entryPoints: [`${root}src/main.ts`],
  outfile: `${dist}/daemon.cjs`,
  external: ['better-sqlite3', 'koffi'],
  minifyWhitespace: true,
  sourcemap: true,
  plugins: [yaml],
});
await build({ ...cjs, entryPoints: [`${root}src/loader.ts`], outfile: `${dist}/holdfastd.cjs` });
// With splitting, `holdfastd check` imports native modules at run time, and can report one that does not load.
await build({
  ...common,
  entryPoints: { check: `${root}src/check/main.ts` },
  outdir: `${dist}/check`,
  outExtension: { '.js': '.mjs' },
  format: 'esm',
  splitting: true,
  external: ['better-sqlite3', 'koffi'],
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
  },
});
await build({
  ...cjs,
  entryPoints: [`${root}src/shim/main.ts`],
  outfile: `${dist}/shim/shim.cjs`,
  treeShaking: true,
  minifyWhitespace: true,
  sourcemap: 'external',
});
// Helper processes: the jailed unpacker (and the script of its second thread) and packer, the archive worker, the port
// proxy, the DNS server.
for (const [entry, name] of [
  ['src/engine/images/unpacker-main.ts', 'unpacker'],
  ['src/engine/images/file-writer-thread.ts', 'file-writer-thread'],
  ['src/engine/images/packer-main.ts', 'packer'],
  ['src/engine/files/archive-worker.ts', 'archiver'],
  ['src/engine/networks/port-proxy-main.ts', 'port-proxy'],
  ['src/engine/networks/dns/main.ts', 'dns-server'],
]) {
  await build({ ...cjs, entryPoints: [`${root}${entry}`], outfile: `${dist}/${name}.cjs` });
}
const triplet = `linux_${process.arch}`;
cpSync(require.resolve(`@koromix/koffi-linux-${process.arch}/${triplet}/koffi.node`), `${dist}/shim/koffi.node`);
cpSync(require.resolve(`@koromix/koffi-linux-${process.arch}/${triplet}/koffi.node`), `${dist}/koffi.node`);
execFileSync(process.execPath, [`${dist}/holdfastd.cjs`, '--version'], {
  env: { HOLDFAST_CODE_CACHE: 'build' },
  stdio: ['ignore', 'ignore', 'inherit'],
});
