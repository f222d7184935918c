/** The mode of a bind (`-v SOURCE:TARGET:MODE`) and of `--volumes-from CONTAINER:MODE`. */

export const PROPAGATIONS: ReadonlySet<string> = new Set([
  'private',
  'rprivate',
  'slave',
  'rslave',
  'shared',
  'rshared',
]);

type Kind = 'access' | 'label' | 'copy' | 'consistency' | 'propagation';

const KINDS: Readonly<Record<string, Kind>> = {
  ro: 'access',
  rw: 'access',
  z: 'label',
  Z: 'label',
  nocopy: 'copy',
  consistent: 'consistency',
  cached: 'consistency',
  delegated: 'consistency',
};

const kindOf = (option: string): Kind | undefined => (PROPAGATIONS.has(option) ? 'propagation' : KINDS[option]);

/**
 * The options of a mode; undefined if it is invalid: an option is unknown or not of the `allowed` kinds, or two are of
 * the same kind.
 */
export function parseMode(
  mode: string,
  allowed: readonly Kind[] = ['access', 'label', 'copy', 'consistency', 'propagation'],
): string[] | undefined {
  if (mode === '') return [];
  const options = mode.split(',');
  const kinds = new Set<Kind>();
  for (const option of options) {
    const kind = kindOf(option);
    if (kind === undefined || !allowed.includes(kind) || kinds.has(kind)) return undefined;
    kinds.add(kind);
  }
  return options;
}
