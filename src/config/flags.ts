/** The command line and the environment, as daemon.json would say it. */
import { ConfigError } from './error.ts';
import { flagOf, kinds, options, variableOf, type Option } from './options.ts';

/** Values by their key in daemon.json, in its JSON. */
export type Raw = Record<string, unknown>;

export interface CommandLine {
  raw: Raw;
  words: string[];
}

const byFlag = new Map(options.map((o) => [flagOf(o), o]));
const byShort = new Map(options.flatMap((o) => (o.short ? [[o.short, o]] : [])));

/**
 * dockerd's flags are pflag's: --debug, --debug=false, -D, -Dl debug, -ldebug, --mtu -1. (node:util's parseArgs refuses
 * a
 * boolean with a value, and a value that begins with a dash.)
 * @throws ConfigError for a flag that is nobody's or a value that does not parse
 */
export function readCommandLine(argv: readonly string[]): CommandLine {
  const given = new Map<Option, string[]>();
  const words: string[] = [];
  const rest = [...argv];
  const take = (option: Option, value: string | undefined): void => {
    const found = value ?? (option.kind === 'boolean' ? 'true' : rest.shift());
    if (found === undefined) throw new ConfigError(`flag needs an argument: --${flagOf(option)}`);
    given.set(option, [...(given.get(option) ?? []), found]);
  };
  for (let argument = rest.shift(); argument !== undefined; argument = rest.shift()) {
    if (argument === '--') words.push(...rest.splice(0));
    else if (argument.startsWith('--')) takeLong(argument, take);
    else if (argument.startsWith('-') && argument !== '-') takeShort(argument, take);
    else words.push(argument);
  }
  return {
    raw: Object.fromEntries(
      [...given].map(([option, values]) => [option.key, parse(option, values, `--${flagOf(option)}`)]),
    ),
    words,
  };
}

type Take = (option: Option, value: string | undefined) => void;

function takeLong(argument: string, take: Take): void {
  const [, flag = '', value] = /^--([^=]*)(?:=(.*))?$/s.exec(argument) ?? [];
  const option = byFlag.get(flag);
  if (!option) throw new ConfigError(`unknown flag: --${flag}\nSee 'holdfastd --help'.`);
  take(option, value);
}

function takeShort(argument: string, take: Take): void {
  for (let letters = argument.slice(1); letters !== '';) {
    const option = byShort.get(letters[0]!);
    if (!option)
      throw new ConfigError(`unknown shorthand flag: '${letters[0]}' in ${argument}\nSee 'holdfastd --help'.`);
    letters = letters.slice(1);
    const bare = letters === '' || (option.kind === 'boolean' && !letters.startsWith('='));
    take(option, bare ? undefined : letters.replace(/^=/, ''));
    if (!bare) return;
  }
}

/** Every option can be given as HOLDFAST_…; several values are separated by white space. */
export function readEnvironment(env: NodeJS.ProcessEnv): Raw {
  const raw: Raw = {};
  for (const option of options) {
    if (option.inert !== undefined || (option.kind === 'boolean' && option.flagOnly)) continue;
    const variable = variableOf(option);
    const text = env[variable];
    if (text === undefined || text === '') continue;
    const single =
      option.kind === 'string' || option.kind === 'bytes' || option.kind === 'boolean' || option.kind === 'integer';
    raw[option.key] = parse(option, single ? [text] : text.trim().split(/\s+/), variable);
  }
  return raw;
}

function parse(option: Option, values: string[], where: string): unknown {
  try {
    return kinds[option.kind].parse(values);
  } catch (error) {
    throw new ConfigError(`invalid argument for ${where}: ${(error as Error).message}`);
  }
}
