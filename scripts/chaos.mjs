// Builds the daemon and the chaos program, and runs the program in a network namespace of its own: it flushes the
// firewall.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import YAML from 'yaml';

const root = fileURLToPath(new URL('..', import.meta.url));
spawnSync(process.execPath, [`${root}scripts/bundle.mjs`], { stdio: 'inherit' });
const yaml = {
  name: 'yaml',
  setup: (b) =>
    b.onLoad({ filter: /\.yaml$/ }, ({ path }) => ({
      contents: JSON.stringify(YAML.parse(readFileSync(path, 'utf8'))),
      loader: 'json',
    })),
};
await build({
  entryPoints: [`${root}test/chaos/main.ts`],
  // Two levels below the root, as the sources are: they find the rest relative to themselves.
  outfile: `${root}dist/chaos/main.mjs`,
  bundle: true,
  platform: 'node',
  target: 'node20',
  format: 'esm',
  packages: 'external',
  logLevel: 'warning',
  plugins: [yaml],
});
const { status } = spawnSync(
  'unshare',
  ['--net', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh', process.execPath, `${root}dist/chaos/main.mjs`].concat(
    '--own-network',
    process.argv.slice(2),
  ),
  { stdio: 'inherit' },
);
process.exit(status ?? 1);
