/**
 * Splits a Dockerfile into statements, one per instruction: continued lines are joined, comments are dropped, heredocs
 * are attached (BuildKit: frontend/dockerfile/parser).
 */
import { InvalidParameter } from '../../model/errors.ts';
import { DirectiveReader, type Directive } from './directives.ts';
import { atLines, DockerfileError, type LineRange } from './dockerfile-error.ts';
import { heredocsIn, type Heredoc } from './heredoc.ts';
import { jsonArguments } from './json-arguments.ts';

export interface Statement {
  /** The instruction's name as written. */
  name: string;
  /** `--name=value`, without quotes. */
  flags: string[];
  /** What follows the flags. */
  rest: string;
  /** The whole statement with its continued lines joined, without heredocs. */
  original: string;
  lines: LineRange;
  /** The comments directly above. */
  comments: string[];
  heredocs: Heredoc[];
}

export interface Statements {
  statements: Statement[];
  directives: Directive[];
  /** The escape character: `\` or a backtick. */
  escape: string;
  /** Empty lines within an instruction, which BuildKit warns of: the instruction, and its last line. */
  emptyContinuations: { original: string; line: number }[];
}

const DEFAULT_ESCAPE = '\\';
const HEREDOC_INSTRUCTIONS = new Set(['ADD', 'COPY', 'RUN']);
const WHITE_SPACE = /[\t\v\f\r ]+/;

/** @throws DockerfileError */
export const splitStatements = (text: string): Statements => new Splitter(text).run();

class Splitter {
  readonly #lines: string[];
  readonly #directives = new DirectiveReader();
  readonly #statements: Statement[] = [];
  readonly #emptyContinuations: Statements['emptyContinuations'] = [];
  #escape = DEFAULT_ESCAPE;
  #comments: string[] = [];
  /** Lines read so far. */
  #at = 0;

  constructor(text: string) {
    this.#lines = text.replace(/^\uFEFF/, '').match(/[^\n]*\n|[^\n]+$/g) ?? [];
  }

  run(): Statements {
    for (let line = this.#next(); line !== undefined; line = this.#next()) this.#readFrom(line);
    if (this.#statements.length === 0)
      throw new DockerfileError('file with no instructions', { first: this.#at, last: this.#at });
    return {
      statements: this.#statements,
      directives: this.#directives.directives,
      escape: this.#escape,
      emptyContinuations: this.#emptyContinuations,
    };
  }

  #readFrom(raw: string): void {
    const first = this.#at;
    const line = withoutLineEnd(raw).trimStart();
    const directive = atLines({ first, last: first }, () => this.#readDirective(line));
    if (isComment(line)) {
      if (!directive) this.#keepComment(line);
      return;
    }
    const { text, continued } = this.#withoutContinuation(line);
    if (text === '' && !continued) return;
    const original = continued ? this.#joined(text) : text;
    const place = (): LineRange => ({ first, last: this.#at });
    const statement = atLines(place(), () => statementOf(original));
    if (canHaveHeredocs(statement))
      statement.heredocs = heredocsIn(original).map((heredoc) => this.#filled(heredoc, first));
    this.#statements.push({ ...statement, lines: place(), comments: this.#comments });
    this.#comments = [];
  }

  #readDirective(line: string): Directive | undefined {
    const directive = this.#directives.read(line, this.#at);
    if (directive?.name !== 'escape') return directive;
    if (directive.value !== '\\' && directive.value !== '`')
      throw new InvalidParameter(`invalid escape token '${directive.value}' does not match \` or \\`);
    this.#escape = directive.value;
    return directive;
  }

  #keepComment(line: string): void {
    const comment = line.slice(1).trim();
    if (comment === '') this.#comments = [];
    else this.#comments.push(comment);
  }

  // Comments and empty lines within an instruction do not end it.
  #joined(first: string): string {
    let original = first;
    let hasEmpty = false;
    for (let raw = this.#next(); raw !== undefined; raw = this.#next()) {
      const line = withoutLineEnd(raw);
      if (isComment(line.trimStart())) continue;
      if (line.trim() === '') {
        hasEmpty = true;
        continue;
      }
      const { text, continued } = this.#withoutContinuation(line);
      original += text;
      if (!continued) break;
    }
    if (hasEmpty) this.#emptyContinuations.push({ original, line: this.#at });
    return original;
  }

  // An escape character at the line's end continues it, unless another one is before it.
  #withoutContinuation(line: string): { text: string; continued: boolean } {
    const trimmed = line.replace(/[ \t]+$/, '');
    const continued = trimmed.endsWith(this.#escape) && trimmed.at(-2) !== this.#escape;
    return { text: continued ? trimmed.slice(0, -1) : line, continued };
  }

  #filled(heredoc: Heredoc, first: number): Heredoc {
    let content = '';
    for (let raw = this.#next(); raw !== undefined; raw = this.#next()) {
      const line = withoutLineEnd(raw);
      if ((heredoc.chomp ? line.replace(/^\t+/, '') : line) === heredoc.name) return { ...heredoc, content };
      content += raw;
    }
    throw new DockerfileError('unterminated heredoc', { first, last: this.#at });
  }

  #next(): string | undefined {
    const line = this.#lines[this.#at];
    if (line !== undefined) this.#at++;
    return line;
  }
}

/** One statement by itself, as ONBUILD has it: without lines, comments and heredocs. */
export function statementOf(original: string): Statement {
  const [, name = '', after = ''] = /^(\S+)(?:\s+(.*))?$/s.exec(original.trim()) ?? [];
  const { flags, rest } = takeFlags(after);
  return { name, flags, rest, original, lines: { first: 0, last: 0 }, comments: [], heredocs: [] };
}

/** The words of arguments that are separated by white space alone. */
export const plainWords = (text: string): string[] => (text === '' ? [] : text.split(WHITE_SPACE));

const withoutLineEnd = (line: string): string => line.replace(/[\r\n]+$/, '');
const isComment = (line: string): boolean => line.startsWith('#');

function canHaveHeredocs({ name, rest, original }: Statement): boolean {
  if (!original.includes('<<')) return false;
  if (name.toUpperCase() === 'ONBUILD') return canHaveHeredocs(statementOf(rest));
  return HEREDOC_INSTRUCTIONS.has(name.toUpperCase()) && jsonArguments(rest) === undefined;
}

/** Takes words that begin with `--` off the beginning; `--` alone ends them. Quotes and backslashes as in a shell. */
function takeFlags(text: string): { flags: string[]; rest: string } {
  const flags: string[] = [];
  let rest = text;
  for (;;) {
    const [word] = /^\s*--(?:\\.|'(?:\\.|[^'\\])*'?|"(?:\\.|[^"\\])*"?|[^\s'"\\]|\\$)*/s.exec(rest) ?? [];
    if (word === undefined) break;
    rest = rest.slice(word.length);
    const flag = unquoted(word.trimStart());
    if (flag === '--') break;
    flags.push(flag);
  }
  return { flags, rest: rest.trim() };
}

const unquoted = (word: string): string =>
  word.replace(
    /\\(.?)|'((?:\\.|[^'\\])*)'?|"((?:\\.|[^"\\])*)"?/gs,
    (_, escaped?: string, single?: string, double?: string) =>
      escaped ?? (single ?? double ?? '').replace(/\\(.?)/gs, '$1'),
  );
