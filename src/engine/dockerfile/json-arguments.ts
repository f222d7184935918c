import { InvalidParameter } from '../../model/errors.ts';

/**
 * Arguments in JSON form, `["a", "b"]`; undefined for anything else, which is shell form, broken JSON included.
 * @throws InvalidParameter for an array of anything but strings
 */
export function jsonArguments(text: string): string[] | undefined {
  if (!text.startsWith('[')) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!Array.isArray(value)) return undefined;
  if (!value.every((item) => typeof item === 'string'))
    throw new InvalidParameter('when using JSON array syntax, arrays must be comprised of strings only');
  return value;
}
