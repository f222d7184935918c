/** The OCI runtimes that containers may name. */
import { absolute } from './absolute.ts';
import type { RuntimeConfig } from './config.ts';
import { ConfigError } from './error.ts';
import { findProgram } from './program.ts';

const KNOWN_RUNTIMES = ['runc', 'crun'];
/** What containerd calls runc, and clients may ask for. */
const RUNC_ALIAS = 'io.containerd.runc.v2';

/** One entry of daemon.json's `runtimes`. */
export interface RawRuntime {
  path?: string;
  runtimeArgs?: string[];
  runtimeType?: string;
  options?: unknown;
}

/** What is installed, and what was given, by name. */
export function runtimeTable(given: Record<string, RawRuntime>, env: NodeJS.ProcessEnv): Record<string, RuntimeConfig> {
  const table: Record<string, RuntimeConfig> = {};
  for (const name of KNOWN_RUNTIMES) {
    const path = findProgram(name, env);
    if (path) table[name] = { path, args: [] };
  }
  for (const [name, { path, runtimeArgs, runtimeType, options: shimOptions }] of Object.entries(given)) {
    // Its state is kept in a directory of this name.
    if (!/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(name))
      throw new ConfigError(`invalid runtime name ${JSON.stringify(name)}: letters, digits, '_', '.' and '-' only`);
    if (runtimeType !== undefined || shimOptions !== undefined)
      throw new ConfigError(
        `runtime ${name}: runtimeType and options name a containerd shim; give the path of an OCI runtime`,
      );
    if (!path) throw new ConfigError(`runtime ${name}: it has no path`);
    const found = path.includes('/') ? absolute(`path of runtime ${name}`, path) : findProgram(path, env);
    if (!found) throw new ConfigError(`runtime ${name}: ${path} is not in PATH`);
    table[name] = { path: found, args: runtimeArgs ?? [] };
  }
  // Without any, the name stands for itself: `check` and the first start say what is missing.
  table.runc ??= { path: 'runc', args: [] };
  table[RUNC_ALIAS] ??= table.runc;
  return table;
}

export function checkDefaultRuntime(name: string, runtimes: Record<string, RuntimeConfig>): string {
  if (!Object.hasOwn(runtimes, name)) throw new ConfigError(`specified default runtime '${name}' does not exist`);
  return name;
}
