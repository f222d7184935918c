/** Parses the command line. Flags take precedence over the environment, then daemon.json, then defaults. */
import { VERSION } from '../version.ts';
import type { Config } from './config.ts';
import { ConfigError } from './error.ts';
import { readConfigFile, unusable } from './file.ts';
import { readCommandLine, readEnvironment, type Raw } from './flags.ts';
import { helpText } from './help.ts';
import { resolveConfig } from './resolve.ts';

const DEFAULT_CONFIG_FILE = '/etc/holdfast/daemon.json';

/** Subcommands. */
const commands = ['check'] as const;

export type Invocation =
  | { command: 'daemon' | 'validate' | (typeof commands)[number]; config: Config }
  | { command: 'help' | 'version'; text: string };

/** @throws ConfigError with a message for the user */
export function loadConfig(argv: readonly string[], env: NodeJS.ProcessEnv): Invocation {
  const { raw: flags, positionals } = readCommandLine(argv);
  if (flags.help) return { command: 'help', text: helpText() };
  if (flags.version) return { command: 'version', text: `Holdfast version ${VERSION}` };
  const [first, ...more] = positionals;
  const command = commands.find((c) => c === first);
  if (more.length > 0 || (first !== undefined && !command))
    throw new ConfigError(`unknown command: ${positionals.join(' ')}\nSee 'holdfastd --help'.`);

  const environment = readEnvironment(env);
  const given = { ...environment, ...flags };
  const path = (given['config-file'] as string | undefined) ?? DEFAULT_CONFIG_FILE;
  const file = readConfigFile(path, { required: given['config-file'] !== undefined });
  rejectConflicts(path, { flags, environment, file });
  const runtimes = { ...(file.runtimes as Raw | undefined), ...(given.runtimes as Raw | undefined) };
  return {
    command: command ?? (flags.validate ? 'validate' : 'daemon'),
    config: resolveConfig({ ...file, ...given, runtimes }, env),
  };
}

/** As dockerd, rejects options given both in daemon.json and elsewhere. Runtimes are merged instead. */
function rejectConflicts(
  path: string,
  { flags, environment, file }: { flags: Raw; environment: Raw; file: Raw },
): void {
  const given = { ...environment, ...flags };
  const conflicts = Object.keys(file).filter((key) => key in given && key !== 'runtimes');
  if (conflicts.length === 0) return;
  const descriptions = conflicts.map(
    (key) =>
      `${key}: (from ${key in flags ? 'flag' : 'environment'}: ${show(given[key])}, from file: ${show(file[key])})`,
  );
  const where = conflicts.some((key) => key in flags) ? 'as a flag' : 'in the environment';
  throw unusable(
    path,
    `the following directives are specified both ${where} and in the configuration file: ${descriptions.join(', ')}`,
  );
}

function show(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(show).join(' ')}]`;
  return typeof value === 'string' ? value : JSON.stringify(value);
}
