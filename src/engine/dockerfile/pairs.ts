/** Names and values of ENV, LABEL and ARG. Quotes remain in them until they are expanded. */
import { InvalidParameter } from '../../model/errors.ts';
import type { Argument, Pair } from './instruction.ts';

/**
 * `a=b "c d"=e`, or the old form `a b c`.
 * @param escape the Dockerfile's escape character
 * @throws InvalidParameter
 */
export function parsePairs(name: 'ENV' | 'LABEL', text: string, escape: string): Pair[] {
  const words = splitWords(text, escape);
  if (words.length === 0) throw new InvalidParameter(`${name} requires at least one argument`);
  if (!words[0]!.includes('=')) {
    const [, key, value] = /^(\S+)\s+(.*)$/s.exec(text) ?? [];
    if (key === undefined || value === undefined) throw new InvalidParameter(`${name} must have two arguments`);
    return [{ key, value, separatedBySpace: true }];
  }
  return words.map((word) => {
    const [key, value] = halves(word);
    if (value === undefined)
      throw new InvalidParameter(
        `Syntax error - can't find = in ${JSON.stringify(word)}. Must be of the form: name=value`,
      );
    if (key === '') throw new InvalidParameter(`${name} names can not be blank`);
    return { key, value };
  });
}

/** `name name=value …`. @throws InvalidParameter */
export function parseArguments(text: string, comments: string[], escape: string): Argument[] {
  const words = splitWords(text, escape);
  if (words.length === 0) throw new InvalidParameter('ARG requires at least one argument');
  return words.map((word) => {
    const [key, value] = halves(word);
    if (key === '' && value !== undefined) throw new InvalidParameter('ARG names can not be blank');
    return { key, ...(value !== undefined && { value }), comment: commentOn(key, comments) };
  });
}

/** What a comment above an instruction says of `name`: the text after it. */
export function commentOn(name: string, comments: string[]): string {
  const begin = `${name} `;
  return name === '' ? '' : (comments.find((line) => line.startsWith(begin))?.slice(begin.length) ?? '');
}

function halves(word: string): [key: string, value?: string] {
  const at = word.indexOf('=');
  return at < 0 ? [word] : [word.slice(0, at), word.slice(at + 1)];
}

const WORDS = new Map(
  ['\\', '`'].map((escape) => {
    const e = escape === '\\' ? '\\\\' : escape;
    return [escape, new RegExp(`(?:${e}.|'[^']*'?|"(?:${e}.|[^"${e}])*"?|[^\\s${e}'"]|${e}$)+`, 'gs')];
  }),
);

// An escape character at the very end belongs to no word.
function splitWords(text: string, escape: string): string[] {
  const words = text.match(WORDS.get(escape)!) ?? [];
  return words
    .map((word, i) => (i === words.length - 1 ? withoutDanglingEscape(word, escape) : word))
    .filter((word) => word !== '');
}

function withoutDanglingEscape(word: string, escape: string): string {
  let count = 0;
  while (word.at(-1 - count) === escape) count++;
  return count % 2 === 1 ? word.slice(0, -1) : word;
}
