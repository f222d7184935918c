/**
 * Parser directives: comments `# name=value` at the beginning of a Dockerfile, as BuildKit reads them
 * (frontend/dockerfile/parser/directives.go).
 */
import { InvalidParameter } from '../../model/errors.ts';
import type { LineRange } from './dockerfile-error.ts';

export type DirectiveName = 'syntax' | 'escape' | 'check';

export interface Directive {
  name: DirectiveName;
  value: string;
  lines: LineRange;
}

const NAMES: readonly string[] = ['syntax', 'escape', 'check'] satisfies DirectiveName[];
const isDirectiveName = (name: string): name is DirectiveName => NAMES.includes(name);

/** Reads directives line by line; after the first line that is none there can be no more. */
export class DirectiveReader {
  readonly directives: Directive[] = [];
  #done = false;

  /** @param prefix begins a comment */
  constructor(private readonly prefix = '#') {}

  get done(): boolean {
    return this.#done;
  }

  /**
   * @param line without white space at its beginning
   * @param number the line's number, from 1
   * @throws InvalidParameter for a directive that was given before
   */
  read(line: string, number: number): Directive | undefined {
    if (this.#done) return undefined;
    const comment = line.startsWith(this.prefix) ? line.slice(this.prefix.length).trimStart() : '';
    const [, written = '', value = ''] = /^([a-z][a-z0-9]*)\s*=\s*(.+?)\s*$/i.exec(comment) ?? [];
    const name = written.toLowerCase();
    if (!isDirectiveName(name)) {
      this.#done = true;
      return undefined;
    }
    if (this.directives.some((known) => known.name === name))
      throw new InvalidParameter(`only one ${name} parser directive can be used`);
    const directive: Directive = { name, value, lines: { first: number, last: number } };
    this.directives.push(directive);
    return directive;
  }
}

/**
 * The frontend that a file asks for by `syntax`: in a directive, in one after `//`, or as a member of a JSON object, so
 * that files of other languages can ask too. A first line that begins with `#!` is skipped.
 */
export function syntaxOf(text: string): { image: string; lines: LineRange } | undefined {
  const lines = text.replace(/^\uFEFF/, '').split('\n');
  const skipped = lines[0]!.startsWith('#!') ? 1 : 0;
  const directive = directiveIn(lines, skipped, '#') ?? directiveIn(lines, skipped, '//');
  if (directive) return { image: directive.value.split(' ', 1)[0]!, lines: directive.lines };
  const image = syntaxOfJson(lines.slice(skipped).join('\n'));
  return image === undefined ? undefined : { image, lines: { first: skipped + 1, last: skipped + 1 } };
}

function directiveIn(lines: string[], from: number, prefix: string): Directive | undefined {
  const reader = new DirectiveReader(prefix);
  try {
    for (let i = from; i < lines.length && !reader.done; i++) reader.read(lines[i]!, i + 1);
  } catch {
    // A directive given twice is reported when the file is read as a Dockerfile.
  }
  return reader.directives.find(({ name }) => name === 'syntax');
}

function syntaxOfJson(text: string): string | undefined {
  if (!text.trimStart().startsWith('{')) return undefined;
  try {
    const { syntax } = JSON.parse(text) as { syntax?: unknown };
    return typeof syntax === 'string' ? syntax : undefined;
  } catch {
    return undefined;
  }
}
