/** Reads the command line and the environment into the form of daemon.json. */
import { ConfigError } from './error.ts';
import { kinds } from './kinds.ts';
import { variableOf, type Option } from './option.ts';
import { options } from './options.ts';

/** Values by their key in daemon.json. */
export type Raw = Record<string, unknown>;

export interface CommandLine {
  raw: Raw;
  /** Arguments that are not flags. */
  positionals: string[];
}

const byFlag = new Map(options.map((o) => [o.flag, o]));
const byShort = new Map(options.flatMap((o) => (o.short ? [[o.short, o]] : [])));

/**
 * Parses flags like pflag, which dockerd uses: --debug, --debug=false, -D, -Dl debug, -ldebug, --mtu -1. parseArgs of
 * node:util rejects a boolean with a value, and a value that starts with a dash.
 * @throws ConfigError for an unknown flag or a malformed value
 */
export function readCommandLine(argv: readonly string[]): CommandLine {
  const given = new Map<Option, string[]>();
  const positionals: string[] = [];
  const rest = [...argv];
  const take: Take = (option, value) => {
    const found = value ?? (option.kind === 'boolean' ? 'true' : rest.shift());
    if (found === undefined) throw new ConfigError(`flag needs an argument: --${option.flag}`);
    given.set(option, [...(given.get(option) ?? []), found]);
  };
  for (let argument = rest.shift(); argument !== undefined; argument = rest.shift()) {
    if (argument === '--') positionals.push(...rest.splice(0));
    else if (argument.startsWith('--')) takeLong(argument, take);
    else if (argument.startsWith('-') && argument !== '-') takeShort(argument, take);
    else positionals.push(argument);
  }
  const entries = [...given].map(([option, values]) => [option.key, parse(option, values, `--${option.flag}`)]);
  return { raw: Object.fromEntries(entries) as Raw, positionals };
}

/** Receives a flag; without `value`, that of a non-boolean is the next argument. */
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

/** Reads the HOLDFAST_… variables; several values are separated by white space. @throws ConfigError */
export function readEnvironment(env: NodeJS.ProcessEnv): Raw {
  const raw: Raw = {};
  for (const option of options.filter(isReadFromEnvironment)) {
    const variable = variableOf(option);
    const text = env[variable];
    if (text === undefined || text === '') continue;
    const values = kinds[option.kind].single ? [text] : text.trim().split(/\s+/);
    raw[option.key] = parse(option, values, variable);
  }
  return raw;
}

/** HOLDFAST_VERSION must not mean --version. */
const isReadFromEnvironment = ({ inert, kind, flagOnly }: Option): boolean =>
  inert === undefined && !(kind === 'boolean' && flagOnly);

function parse(option: Option, values: string[], where: string): unknown {
  try {
    return kinds[option.kind].parse(values);
  } catch (error) {
    throw new ConfigError(`invalid argument for ${where}: ${(error as Error).message}`);
  }
}
