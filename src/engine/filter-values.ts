/** Values of Docker's list filters that containers, networks and volumes read alike. */
import { InvalidParameter } from '../model/errors.ts';
import { Pattern } from './pattern.ts';

/** A boolean filter: exactly one of true (`true`, `1`) and false (`false`, `0`). @throws InvalidParameter */
export function booleanOf(key: string, values: readonly string[]): boolean {
  const isTrue = values.includes('true') || values.includes('1');
  const isFalse = values.includes('false') || values.includes('0');
  if (isTrue === isFalse) throw new InvalidParameter(`invalid filter '${key}=[${values.join(' ')}]'`);
  return isTrue;
}

/**
 * Returns a test for texts in which any of the regular expressions matches. Invalid expressions match nothing. The test
 * @throws InvalidParameter when an expression takes too long.
 */
export function anyPattern(values: readonly string[]): (text: string) => boolean {
  const patterns = values.flatMap((value) => parsePattern(value) ?? []);
  return (text) => patterns.some((pattern) => pattern.test(text));
}

function parsePattern(value: string): Pattern | undefined {
  // Go's leading flag is the only difference in syntax that clients use in practice.
  const ignoreCase = value.startsWith('(?i)');
  try {
    return new Pattern(ignoreCase ? value.slice(4) : value, ignoreCase ? 'i' : '');
  } catch {
    return undefined;
  }
}
