/** What `holdfastd --help` prints. */
import { flagOf, options, variableOf, type Option } from './options.ts';

const COLUMN = 42;
const WIDTH = 100;

export function helpText(): string {
  const own = options.filter((o) => o.help !== undefined);
  const inert = options.filter((o) => o.inert !== undefined && o.refusal === undefined);
  const refused = options.filter((o) => o.refusal !== undefined);
  return `Usage:
  holdfastd [flags]          run the daemon
  holdfastd check [flags]    say what this host lacks, and how to get it

Every flag is also a key of the configuration file, as in Docker's daemon.json (those that may be
repeated are plural there: --host is "hosts"), and an environment variable
(${variableOf(own.find((o) => o.key === 'data-root')!)}; several values are separated by white space).

Flags:
${own.map(line).join('\n')}

Docker's, accepted without effect (the daemon's log says so):
${wrap(
  inert.map((o) => `--${flagOf(o)}`),
  2,
)}

Docker's, refused when they ask for a protection that Holdfast does not have:
${wrap(
  refused.map((o) => `--${flagOf(o)}`),
  2,
)}
`;
}

function line(option: Option): string {
  const short = option.short ? `-${option.short}, ` : '    ';
  const left = `  ${short}--${flagOf(option)}${option.value ? ` ${option.value}` : ''}`;
  const [first = '', ...more] = wrap(option.help!.split(' '), COLUMN).split('\n');
  // A flag too long for its column gets a line of its own.
  const head = left.length < COLUMN - 1 ? left.padEnd(COLUMN) + first.trimStart() : `${left}\n${first}`;
  return [head, ...more].join('\n');
}

function wrap(words: string[], indent: number): string {
  const lines: string[] = [];
  let current = '';
  for (const word of words) {
    if (current !== '' && indent + current.length + 1 + word.length > WIDTH) {
      lines.push(current);
      current = word;
    } else current = current === '' ? word : `${current} ${word}`;
  }
  return [...lines, current].map((text) => ' '.repeat(indent) + text).join('\n');
}
