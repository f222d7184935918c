/**
 * `--change` of import and commit: Dockerfile instructions that modify an image configuration, parsed as BuildKit does
 * (frontend/dockerfile/parser, frontend/dockerfile/instructions).
 */
import { constants } from 'node:os';
import { posix } from 'node:path';
import type { ContainerConfig, Healthcheck } from '../../model/container-config.ts';
import { InvalidParameter } from '../../model/errors.ts';
import { parseDuration } from './go-time.ts';
import { expandWord, expandWords, type Variables } from './dockerfile-lexer.ts';

export type ImageSettings = Partial<ContainerConfig>;

interface Instruction {
  /** As written. */
  name: string;
  /** The arguments. */
  rest: string;
  /** The line with its continuations joined. */
  original: string;
}

interface State {
  config: ImageSettings;
  /** Whether a CMD preceded: otherwise ENTRYPOINT clears the parent's. */
  hasCommand: boolean;
}

type Apply = (instruction: Instruction, state: State, variables: Variables) => void;

const DEFAULT_SHELL = ['/bin/sh', '-c'];
/** Nanoseconds. */
const MIN_INTERVAL = 1_000_000n;
const MAX_SIGNAL = 64;
const MAX_PORT = 65_535;
const FLAG = /^--(\S*)\s*/;
/** HEALTHCHECK flags and the fields that they set. */
const HEALTHCHECK_DURATIONS = new Map<string, 'Interval' | 'Timeout' | 'StartPeriod' | 'StartInterval'>([
  ['interval', 'Interval'],
  ['timeout', 'Timeout'],
  ['start-period', 'StartPeriod'],
  ['start-interval', 'StartInterval'],
]);

// Docker's own list lacks SHELL.
const INSTRUCTIONS: Record<string, Apply> = {
  CMD: ({ rest }, state) => {
    noFlags(rest);
    const command = shellOrJson(rest);
    state.config.Cmd = withShell(command, state);
    if (command.words.length > 0) state.hasCommand = true;
  },
  ENTRYPOINT: ({ rest }, state) => {
    noFlags(rest);
    const command = shellOrJson(rest);
    state.config.Entrypoint = command.words.length > 0 ? withShell(command, state) : null;
    if (!state.hasCommand) state.config.Cmd = null;
  },
  ENV: ({ rest }, { config }, variables) => {
    const env = [...(config.Env ?? [])];
    for (const [key, value] of pairs('ENV', rest)) {
      const name = expandWord(key, variables);
      const entry = `${name}=${expandWord(value, variables)}`;
      const at = env.findIndex((known) => known.split('=', 1)[0] === name);
      if (at < 0) env.push(entry);
      else env[at] = entry;
    }
    config.Env = env;
  },
  EXPOSE: ({ rest }, { config }, variables) => {
    const words = rest === '' ? atLeastOne('EXPOSE') : rest.split(/\s+/);
    const ports = words.flatMap((word) => expandWords(word, variables)).flatMap(portsOf);
    config.ExposedPorts = { ...config.ExposedPorts, ...Object.fromEntries(ports.map((port) => [port, {}])) };
  },
  HEALTHCHECK: ({ rest }, { config }) => {
    config.Healthcheck = healthcheck(rest);
  },
  LABEL: ({ rest }, { config }, variables) => {
    const labels: Record<string, string> = { ...config.Labels };
    for (const [key, value] of pairs('LABEL', rest))
      define(labels, expandWord(key, variables), expandWord(value, variables));
    config.Labels = labels;
  },
  ONBUILD: ({ rest, original }, { config }) => {
    const trigger = rest.split(/\s/, 1)[0]!.toUpperCase();
    if (trigger === '') atLeastOne('ONBUILD');
    if (trigger === 'ONBUILD') throw new InvalidParameter("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
    if (trigger === 'MAINTAINER' || trigger === 'FROM')
      throw new InvalidParameter(`${trigger} isn't allowed as an ONBUILD trigger`);
    config.OnBuild = [...(config.OnBuild ?? []), original.replace(/^\s*ONBUILD\s*/i, '')];
  },
  SHELL: ({ rest, original }, { config }) => {
    const { words, json } = shellOrJson(rest);
    if (words.length === 0) atLeastOne('SHELL');
    if (!json) throw new InvalidParameter(`SHELL requires the arguments to be in JSON form: ${original}`);
    config.Shell = words;
  },
  STOPSIGNAL: ({ rest }, { config }, variables) => {
    const signal = expandWord(exactlyOne('STOPSIGNAL', rest), variables);
    if (!isSignal(signal)) throw new InvalidParameter(`invalid signal: ${signal}`);
    config.StopSignal = signal;
  },
  USER: ({ rest }, { config }, variables) => {
    config.User = expandWord(exactlyOne('USER', rest), variables);
  },
  VOLUME: ({ rest }, { config }, variables) => {
    const list = parseJsonForm(rest) ?? (rest === '' ? [] : rest.split(/\s+/));
    if (list.length === 0) atLeastOne('VOLUME');
    const volumes: Record<string, Record<string, never>> = { ...config.Volumes };
    for (const word of list) {
      const volume = expandWord(word.trim(), variables);
      if (volume === '') throw new InvalidParameter('VOLUME specified can not be an empty string');
      define(volumes, volume, {});
    }
    config.Volumes = volumes;
  },
  WORKDIR: ({ rest }, { config }, variables) => {
    const requested = expandWord(exactlyOne('WORKDIR', rest), variables);
    if (requested === '') throw new InvalidParameter('cannot normalize nothing');
    const path = posix.isAbsolute(requested)
      ? posix.normalize(requested)
      : posix.join('/', config.WorkingDir ?? '', requested);
    config.WorkingDir = path.replace(/(.)\/$/, '$1');
  },
};

/** Applies instructions to a configuration. @throws InvalidParameter with Docker's texts */
export function applyChanges(config: ImageSettings, changes: string[]): ImageSettings {
  if (changes.length === 0) return config;
  const instructions = parse(changes.join('\n'));
  if (instructions.length === 0) throw new InvalidParameter('file with no instructions');
  for (const { name } of instructions)
    if (!Object.hasOwn(INSTRUCTIONS, name.toUpperCase()))
      throw new InvalidParameter(`${name} is not a valid change command`);
  const state: State = { config: structuredClone(config), hasCommand: false };
  for (const instruction of instructions)
    INSTRUCTIONS[instruction.name.toUpperCase()]!(instruction, state, variablesOf(state.config));
  return state.config;
}

function variablesOf({ Env = [] }: ImageSettings): Variables {
  return new Map(
    Env.map((entry) => {
      const at = entry.indexOf('=');
      return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)];
    }),
  );
}

// Joins lines that end in a backslash. Skips comments and empty lines, also within an instruction.
function parse(text: string): Instruction[] {
  const instructions: Instruction[] = [];
  let line = '';
  const take = (): void => {
    const [, name, rest = ''] = /^(\S+)(?:\s+(.*))?$/s.exec(line.trim()) ?? [];
    if (name) instructions.push({ name, rest, original: line });
    line = '';
  };
  for (const raw of text.split(/\r?\n/)) {
    const part = line === '' ? raw.trimStart() : raw;
    if (/^\s*(#|$)/.test(part)) continue;
    const continued = /^(.*[^\\]|)\\[ \t]*$/s.exec(part);
    line += continued ? continued[1]! : part;
    if (!continued) take();
  }
  take();
  return instructions;
}

// A JSON array of strings; undefined for anything else, which is shell form. Docker refuses arrays of other types.
function parseJsonForm(text: string): string[] | undefined {
  if (!text.startsWith('[')) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!Array.isArray(value)) return undefined;
  if (!value.every((item) => typeof item === 'string'))
    throw new InvalidParameter('when using JSON array syntax, arrays must be comprised of strings only');
  return value;
}

interface Command {
  words: string[];
  /** In JSON (exec) form; otherwise `words` is one shell command. */
  json: boolean;
}

function shellOrJson(text: string): Command {
  const words = parseJsonForm(text);
  return words ? { words, json: true } : { words: text === '' ? [] : [text], json: false };
}

const withShell = ({ words, json }: Command, { config }: State): string[] =>
  json ? words : [...(config.Shell ?? DEFAULT_SHELL), ...words];

// `a=b "c d"=e`, or the old form `a b c`. Quotes remain until the words are expanded.
function pairs(command: string, text: string): [string, string][] {
  const words = text.match(/(?:\\.|'[^']*'?|"(?:\\.|[^"\\])*"?|[^\s\\'"]|\\$)+/gs) ?? [];
  if (words.length === 0) return atLeastOne(command);
  if (!words[0]!.includes('=')) {
    const [, key, value] = /^(\S+)\s+(.*)$/s.exec(text) ?? [];
    if (key === undefined || value === undefined) throw new InvalidParameter(`${command} must have two arguments`);
    return [[key, value]];
  }
  return words.map((word) => {
    const at = word.indexOf('=');
    if (at < 0)
      throw new InvalidParameter(
        `Syntax error - can't find = in ${JSON.stringify(word)}. Must be of the form: name=value`,
      );
    if (at === 0) throw new InvalidParameter(`${command} names can not be blank`);
    return [word.slice(0, at), word.slice(at + 1)];
  });
}

function healthcheck(text: string): Healthcheck {
  const { flags, rest } = takeFlags(text, [...HEALTHCHECK_DURATIONS.keys(), 'retries']);
  const [, type = '', command = ''] = /^(\S+)\s*(.*)$/s.exec(rest) ?? [];
  if (type === '') return atLeastOne('HEALTHCHECK');
  if (type.toUpperCase() === 'NONE') {
    if (command !== '') throw new InvalidParameter('HEALTHCHECK NONE takes no arguments');
    return { Test: ['NONE'] };
  }
  if (type.toUpperCase() !== 'CMD')
    throw new InvalidParameter(`Unknown type ${JSON.stringify(type.toUpperCase())} in HEALTHCHECK (try CMD)`);
  const { words, json: exec } = shellOrJson(command);
  if (words.length === 0) throw new InvalidParameter('Missing command after HEALTHCHECK CMD');
  const check: Healthcheck = { Test: [exec ? 'CMD' : 'CMD-SHELL', ...words] };
  for (const [flag, key] of HEALTHCHECK_DURATIONS) {
    const duration = parseDuration(flags.get(flag) || '0');
    if (duration !== 0n && duration < MIN_INTERVAL)
      throw new InvalidParameter(`Interval "${flag}" cannot be less than 1ms`);
    if (duration !== 0n) check[key] = Number(duration);
  }
  const retries = flags.get('retries') ?? '';
  if (retries !== '' && !/^[-+]?\d+$/.test(retries))
    throw new InvalidParameter(`strconv.ParseInt: parsing ${JSON.stringify(retries)}: invalid syntax`);
  if (Number(retries) < 0) throw new InvalidParameter(`--retries cannot be negative (${Number(retries)})`);
  if (Number(retries) > 0) check.Retries = Number(retries);
  return check;
}

// Takes `--name=value` from the start of an instruction's arguments.
function takeFlags(text: string, known: string[]): { flags: Map<string, string>; rest: string } {
  const flags = new Map<string, string>();
  let rest = text;
  for (let match = FLAG.exec(rest); match; match = FLAG.exec(rest)) {
    const [flag = '', value] = match[1]!.split(/=(.*)/s);
    if (!known.includes(flag)) throw new InvalidParameter(`unknown flag: --${flag}`);
    if (flags.has(flag)) throw new InvalidParameter(`Duplicate flag specified: ${flag}`);
    if (value === undefined) throw new InvalidParameter(`Missing a value on flag: ${flag}`);
    flags.set(flag, value);
    rest = rest.slice(match[0].length);
  }
  return { flags, rest };
}

// `80`, `8000-8010/udp`; of `ip:host:container` only the container's part is used.
function portsOf(spec: string): string[] {
  const [range = '', protocol = 'tcp'] = spec.slice(spec.lastIndexOf(':') + 1).split('/');
  if (range === '') throw new InvalidParameter(`no port specified: ${spec}<empty>`);
  if (!['tcp', 'udp', 'sctp'].includes(protocol.toLowerCase()))
    throw new InvalidParameter(`invalid proto: ${protocol}`);
  const [first = '', last = first] = range.split('-');
  const arePorts = [first, last].every((port) => /^\d+$/.test(port) && Number(port) <= MAX_PORT);
  if (!arePorts || Number(first) > Number(last)) throw new InvalidParameter(`invalid containerPort: ${range}`);
  return Array.from(
    { length: Number(last) - Number(first) + 1 },
    (_, i) => `${Number(first) + i}/${protocol.toLowerCase()}`,
  );
}

function isSignal(text: string): boolean {
  if (/^\d+$/.test(text)) return Number(text) > 0 && Number(text) <= MAX_SIGNAL;
  const name = text.toUpperCase().replace(/^SIG/, '');
  return `SIG${name}` in constants.signals || /^RTM(IN(\+([1-9]|1[0-5]))?|AX(-([1-9]|1[0-4]))?)$/.test(name);
}

function noFlags(text: string): void {
  const flag = /^--(\S+)/.exec(text)?.[1];
  if (flag !== undefined) throw new InvalidParameter(`unknown flag: --${flag.split('=', 1)[0]!}`);
}

// Not an assignment: a key from the Dockerfile may be `__proto__`.
function define<T>(map: Record<string, T>, key: string, value: T): void {
  Object.defineProperty(map, key, { value, enumerable: true, configurable: true, writable: true });
}

function atLeastOne(command: string): never {
  throw new InvalidParameter(`${command} requires at least one argument`);
}

const exactlyOne = (command: string, text: string): string => {
  if (text === '') throw new InvalidParameter(`${command} requires exactly one argument`);
  return text;
};
