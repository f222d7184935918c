/** Flags of an instruction, `COPY --from=x --link`, checked as BuildKit does (instructions/bflag.go). */
import { InvalidParameter } from '../../model/errors.ts';
import { suggestion } from './suggestion.ts';

/** What a flag takes: a value, one or more values, or true and false. */
export type FlagKind = 'value' | 'values' | 'boolean';

export class Flags<Name extends string> {
  readonly #values = new Map<string, string[]>();

  /**
   * @param written `--name=value`, without quotes
   * @param known every flag that the instruction has
   * @throws InvalidParameter
   */
  constructor(written: string[], known: Record<Name, FlagKind>) {
    for (const flag of written) {
      const [name = '', value] = flag.slice(2).split(/=(.*)/s);
      if (!isKnown(name, known))
        throw new InvalidParameter(`unknown flag: --${name}${suggestion(name, Object.keys(known), true)}`);
      const before = this.#values.get(name);
      if (before && known[name] !== 'values') throw new InvalidParameter(`duplicate flag specified: --${name}`);
      this.#values.set(name, [...(before ?? []), checked(name, value, known[name])]);
    }
  }

  has(name: Name): boolean {
    return this.#values.has(name);
  }

  /** Of a flag that was not given: ''. */
  value(name: Name): string {
    return this.#values.get(name)?.[0] ?? '';
  }

  values(name: Name): string[] {
    return this.#values.get(name) ?? [];
  }

  isTrue(name: Name): boolean {
    return this.value(name) === 'true';
  }
}

const isKnown = <Name extends string>(name: string, known: Record<Name, FlagKind>): name is Name =>
  Object.hasOwn(known, name);

function checked(name: string, value: string | undefined, kind: FlagKind): string {
  if (kind !== 'boolean') {
    if (value === undefined) throw new InvalidParameter(`missing a value on flag: --${name}`);
    return value;
  }
  if (value === '') throw new InvalidParameter(`missing a value on flag: --${name}`);
  const lower = (value ?? 'true').toLowerCase();
  if (lower !== 'true' && lower !== 'false')
    throw new InvalidParameter(`expecting boolean value for flag --${name}, not: ${value}`);
  return lower;
}
