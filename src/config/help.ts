/** The text of `holdfastd --help`. */
import { variableOf, type Option } from './option.ts';
import { options } from './options.ts';

const COLUMN = 42;
const WIDTH = 100;

export function helpText(): string {
  const own = options.filter((o) => o.inert === undefined);
  const example = own.find((o) => o.flag === 'data-root')!;
  const inert = options.filter((o) => o.inert !== undefined && !o.inert.rejected);
  const rejected = options.filter((o) => o.inert?.rejected);
  return `Usage:
  holdfastd [flags]          run the daemon
  holdfastd check [flags]    report what this host lacks, and how to install it

Every flag is also a key of the configuration file, named as in Docker's daemon.json (plural if the
flag may be repeated: "hosts" for --host), and an environment variable (${variableOf(example)}
for --data-root; several values are separated by white space).

Flags:
${own.map(line).join('\n')}

dockerd's flags that are accepted without effect, with a warning in the log:
${wrap(inert.map(longFlag), 2)}

dockerd's flags that are rejected if they ask for a protection that Holdfast does not have:
${wrap(rejected.map(longFlag), 2)}
`;
}

const longFlag = ({ flag }: Option): string => `--${flag}`;

function line(option: Option): string {
  const short = option.short ? `-${option.short}, ` : '    ';
  const left = `  ${short}--${option.flag}${option.value ? ` ${option.value}` : ''}`;
  const [first = '', ...more] = wrap(option.help!.split(' '), COLUMN).split('\n');
  // A flag wider than its column gets a line of its own.
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
