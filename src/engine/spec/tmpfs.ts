/** Options of tmpfs mounts. mount(8), tmpfs(5) */
import { InvalidParameter } from '../../model/errors.ts';
import type { MountSpec } from '../../model/container-config.ts';

const DEFAULTS = ['noexec', 'nosuid', 'nodev', 'rprivate'];
const DATA = new Set(['size', 'mode', 'uid', 'gid', 'nr_inodes', 'nr_blocks', 'mpol']);

/** Of the options in one group the last one counts. */
const FLAG_GROUPS: readonly string[][] = [
  ['ro', 'rw'],
  ['suid', 'nosuid'],
  ['dev', 'nodev'],
  ['exec', 'noexec'],
  ['sync', 'async'],
  ['dirsync'],
  ['remount'],
  ['mand', 'nomand'],
  ['atime', 'noatime'],
  ['diratime', 'nodiratime'],
  ['bind', 'rbind'],
  ['relatime', 'norelatime'],
  ['strictatime', 'nostrictatime'],
  ['private', 'rprivate', 'shared', 'rshared', 'slave', 'rslave', 'unbindable', 'runbindable'],
];
const groupOf = new Map(
  FLAG_GROUPS.flatMap((group, index) => group.map((flag): [string, string] => [flag, `flag ${index}`])),
);

/** Applies options like `size=64m,exec` to Docker's defaults. @throws InvalidParameter `invalid tmpfs option ["x"]` */
export function tmpfsOptions(text: string): string[] {
  const merged = new Map<string, string>();
  for (const option of [...DEFAULTS, ...text.split(',')]) {
    if (option === '' || option === 'defaults') continue;
    const [name, value] = splitOption(option);
    const isData = DATA.has(name) && value !== undefined;
    const key = groupOf.get(option) ?? (isData ? name : undefined);
    if (key === undefined) throw unknownOption(name, value);
    merged.delete(key);
    merged.set(key, option);
  }
  return [...merged.values()];
}

function unknownOption(name: string, value: string | undefined): InvalidParameter {
  const parts = value === undefined ? [name] : [name, value];
  return new InvalidParameter(`invalid tmpfs option [${parts.map((part) => JSON.stringify(part)).join(' ')}]`);
}

const BINARY_SUFFIXES: readonly [string, bigint][] = [
  ['g', 1n << 30n],
  ['m', 1n << 20n],
  ['k', 1n << 10n],
];

/** The options of a `Mounts` entry of type tmpfs as text, for `tmpfsOptions`. @throws Error with Docker's reason */
export function tmpfsText(mount: MountSpec): string {
  const { Mode, SizeBytes, Options } = mount.TmpfsOptions ?? {};
  const options: string[] = mount.ReadOnly ? ['ro'] : [];
  if (Mode) options.push(`mode=${Mode.toString(8)}`);
  if (SizeBytes) {
    const size = BigInt(SizeBytes);
    const [suffix, unit] = BINARY_SUFFIXES.find(([, divisor]) => size % divisor === 0n) ?? ['', 1n];
    options.push(`size=${size / unit}${suffix}`);
  }
  for (const option of Options ?? []) {
    if (option.length < 1 || option.length > 2) throw new Error('invalid option array length');
    if (option[0] !== 'exec' && option[0] !== 'noexec') throw new Error(`invalid option: ${option[0]}`);
    options.push(option.join('='));
  }
  return options.join(',');
}

function splitOption(option: string): [string, string?] {
  const equals = option.indexOf('=');
  return equals < 0 ? [option] : [option.slice(0, equals), option.slice(equals + 1)];
}
