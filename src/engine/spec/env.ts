/** The environment of a container's processes. */
import { InvalidParameter } from '../../model/errors.ts';
import type { ContainerConfig } from '../../model/container-config.ts';

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** @throws InvalidParameter `invalid environment variable: =x` */
export function checkEnvironment(env: readonly string[]): void {
  for (const entry of env) {
    if (nameOf(entry) === '') throw new InvalidParameter(`invalid environment variable: ${entry}`);
    if (entry.includes('\0')) throw new InvalidParameter(`invalid environment variable: ${JSON.stringify(entry)}`);
  }
}

/** Docker's defaults, overridden, by the variables of links, of the container, and of an exec (`extra`). */
export function environment(
  config: ContainerConfig,
  options: { tty: boolean; home: string; links?: readonly string[]; extra?: readonly string[] },
): string[] {
  const defaults = [
    `PATH=${PATH}`,
    `HOSTNAME=${config.Hostname}`,
    ...(options.tty ? ['TERM=xterm'] : []),
    ...(options.links ?? []),
  ];
  const own = override(override(defaults, config.Env), options.extra ?? []);
  return own.some((entry) => nameOf(entry) === 'HOME') ? own : [...own, `HOME=${options.home}`];
}

/** `overrides` replace the variables of `base` in place; a name without `=` removes its variable. */
export function override(base: readonly string[], overrides: readonly string[]): string[] {
  const entries = new Map(base.map((entry) => [nameOf(entry), entry]));
  for (const entry of overrides) {
    if (entry.includes('=')) entries.set(nameOf(entry), entry);
    else entries.delete(entry);
  }
  return [...entries.values()];
}

export const nameOf = (entry: string): string => entry.split('=', 1)[0] ?? '';
