/** Heredocs, `RUN <<EOF`: lines below an instruction that are a part of it. */
import { expandWords, type Variables } from './words.ts';

export interface Heredoc {
  /** The line that ends it. */
  name: string;
  /** As written, with its line ends. */
  content: string;
  /** Variables in the content are expanded: no part of the name was quoted. */
  expand: boolean;
  /** Tabs at the beginning of lines are not part of the content (`<<-`). */
  chomp: boolean;
  /** Of the shell that reads it: `3<<EOF`. */
  descriptor: number;
}

const NO_VARIABLES: Variables = new Map();
/** A word with its quotes and escapes as written. White space behind `<<` belongs to the word. */
const RAW_WORD = /(?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|<<[ \t\r]*|[^\s'"\\])+/gs;
const HEREDOC = /^(\d*)<<(-?)\s*([^<]*)$/s;

/** The heredocs, still without content, that an instruction's text begins, in order. */
export const heredocsIn = (text: string): Heredoc[] =>
  (text.match(RAW_WORD) ?? []).flatMap((word) => heredocOf(word) ?? []);

/** The heredoc that a word begins; undefined for any other word. */
export function heredocOf(word: string): Heredoc | undefined {
  const match = HEREDOC.exec(word);
  if (!match) return undefined;
  const [, descriptor = '', dash, rest = ''] = match;
  const [name, ...others] = namesIn(rest);
  if (name === undefined || others.length > 0) return undefined;
  const chomp = dash === '-';
  return { name, content: '', expand: !/['"]/.test(rest), chomp, descriptor: Number(descriptor) };
}

/** The content as it is meant. */
export const heredocText = ({ content, chomp }: Heredoc): string => (chomp ? content.replace(/^\t+/gm, '') : content);

// Variables in a name stay as they are.
function namesIn(text: string): string[] {
  try {
    return expandWords(text.replaceAll('$', '\\$'), NO_VARIABLES);
  } catch {
    return [];
  }
}
