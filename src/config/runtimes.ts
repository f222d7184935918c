/** The OCI runtimes available to containers. */
import { absolute } from './path-checks.ts';
import type { RuntimeConfig } from './config.ts';
import { ConfigError } from './error.ts';
import { findProgram } from './program.ts';

const KNOWN_RUNTIMES = ['runc', 'crun'];
/** containerd's name for runc, which clients may use. */
const RUNC_ALIAS = 'io.containerd.runc.v2';

/** One entry of daemon.json's `runtimes`. */
export interface RawRuntime {
  path?: string;
  runtimeArgs?: string[];
  runtimeType?: string;
  options?: unknown;
}

/** The installed and the configured runtimes, by name. @throws ConfigError */
export function runtimeTable(given: Record<string, RawRuntime>, env: NodeJS.ProcessEnv): Record<string, RuntimeConfig> {
  const table: Record<string, RuntimeConfig> = {};
  for (const name of KNOWN_RUNTIMES) {
    const path = findProgram(name, env);
    if (path) table[name] = { path, args: [] };
  }
  for (const [name, runtime] of Object.entries(given)) table[name] = checkRuntime(name, runtime, env);
  // A bare name if runc is not installed: `check` and the first start report that it is missing.
  const runc = table.runc ?? { path: 'runc', args: [] };
  return { ...table, runc, [RUNC_ALIAS]: table[RUNC_ALIAS] ?? runc };
}

function checkRuntime(name: string, runtime: RawRuntime, env: NodeJS.ProcessEnv): RuntimeConfig {
  const { path, runtimeArgs, runtimeType, options } = runtime;
  // The runtime's state is kept in a directory of this name.
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(name))
    throw new ConfigError(`invalid runtime name ${JSON.stringify(name)}: letters, digits, '_', '.' and '-' only`);
  if (runtimeType !== undefined || options !== undefined)
    throw new ConfigError(
      `runtime ${name}: runtimeType and options are for containerd shims; give the path of an OCI runtime`,
    );
  if (!path) throw new ConfigError(`runtime ${name}: it has no path`);
  const found = path.includes('/') ? absolute(`path of runtime ${name}`, path) : findProgram(path, env);
  if (!found) throw new ConfigError(`runtime ${name}: ${path} is not in PATH`);
  return { path: found, args: runtimeArgs ?? [] };
}

/** @throws ConfigError */
export function checkDefaultRuntime(name: string, runtimes: Record<string, RuntimeConfig>): string {
  if (!Object.hasOwn(runtimes, name)) throw new ConfigError(`specified default runtime '${name}' does not exist`);
  return name;
}
