/**
 * `--change` of import and commit: Dockerfile instructions that modify an image configuration. How an instruction
 * changes a configuration is the same in a build.
 */
import { constants } from 'node:os';
import { posix } from 'node:path';
import type { ContainerConfig } from '../../model/container-config.ts';
import { InvalidParameter } from '../../model/errors.ts';
import type { Command, Instruction, InstructionKind } from '../dockerfile/instruction.ts';
import { isInstruction, parseInstruction } from '../dockerfile/parse-instruction.ts';
import { splitStatements } from '../dockerfile/statements.ts';
import { expandWord, expandWords, type Variables } from '../dockerfile/words.ts';

export type ImageSettings = Partial<ContainerConfig>;

interface State {
  config: ImageSettings;
  /** Whether a CMD preceded: otherwise ENTRYPOINT clears the parent's. */
  hasCommand: boolean;
}

type Appliers = {
  [Kind in InstructionKind]?: (
    instruction: Extract<Instruction, { kind: Kind }>,
    state: State,
    variables: Variables,
  ) => void;
};

const DEFAULT_SHELL = ['/bin/sh', '-c'];
const MAX_SIGNAL = 64;
const MAX_PORT = 65_535;

// Docker's own list lacks SHELL.
const APPLIERS: Appliers = {
  CMD: ({ command }, state) => {
    state.config.Cmd = withShell(command, state);
    if (command.words.length > 0) state.hasCommand = true;
  },
  ENTRYPOINT: ({ command }, state) => {
    state.config.Entrypoint = command.words.length > 0 ? withShell(command, state) : null;
    if (!state.hasCommand) state.config.Cmd = null;
  },
  ENV: ({ pairs }, { config }, variables) => {
    const env = [...(config.Env ?? [])];
    for (const { key, value } of pairs) {
      const name = expandWord(key, variables);
      const entry = `${name}=${expandWord(value, variables)}`;
      const at = env.findIndex((known) => known.split('=', 1)[0] === name);
      if (at < 0) env.push(entry);
      else env[at] = entry;
    }
    config.Env = env;
  },
  EXPOSE: ({ ports: words }, { config }, variables) => {
    const ports = words.flatMap((word) => expandWords(word, variables)).flatMap(portsOf);
    config.ExposedPorts = { ...config.ExposedPorts, ...Object.fromEntries(ports.map((port) => [port, {}])) };
  },
  HEALTHCHECK: ({ check }, { config }) => {
    config.Healthcheck = check;
  },
  LABEL: ({ pairs }, { config }, variables) => {
    const labels: Record<string, string> = { ...config.Labels };
    for (const { key, value } of pairs) define(labels, expandWord(key, variables), expandWord(value, variables));
    config.Labels = labels;
  },
  ONBUILD: ({ trigger }, { config }) => {
    config.OnBuild = [...(config.OnBuild ?? []), trigger];
  },
  SHELL: ({ shell }, { config }) => {
    config.Shell = shell;
  },
  STOPSIGNAL: ({ signal: written }, { config }, variables) => {
    const signal = expandWord(written, variables);
    if (!isSignal(signal)) throw new InvalidParameter(`invalid signal: ${signal}`);
    config.StopSignal = signal;
  },
  USER: ({ user }, { config }, variables) => {
    config.User = expandWord(user, variables);
  },
  VOLUME: ({ volumes: words }, { config }, variables) => {
    const volumes: Record<string, Record<string, never>> = { ...config.Volumes };
    for (const word of words) {
      const volume = expandWord(word, variables);
      if (volume === '') throw new InvalidParameter('VOLUME specified can not be an empty string');
      define(volumes, volume, {});
    }
    config.Volumes = volumes;
  },
  WORKDIR: ({ path: written }, { config }, variables) => {
    const requested = expandWord(written, variables);
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
  const { statements, escape } = splitStatements(changes.join('\n'));
  for (const { name } of statements)
    if (applierOf(name.toUpperCase()) === undefined)
      throw new InvalidParameter(`${name} is not a valid change command`);
  const state: State = { config: structuredClone(config), hasCommand: false };
  for (const statement of statements) {
    const instruction = parseInstruction(statement, escape);
    applierOf(instruction.kind)?.(instruction, state, variablesOf(state.config));
  }
  return state.config;
}

// The applier of a kind takes instructions of that kind, which the compiler cannot follow through the table.
const applierOf = (
  name: string,
): ((instruction: Instruction, state: State, variables: Variables) => void) | undefined =>
  isInstruction(name) ? (APPLIERS[name] as ReturnType<typeof applierOf>) : undefined;

function variablesOf({ Env = [] }: ImageSettings): Variables {
  return new Map(
    Env.map((entry) => {
      const at = entry.indexOf('=');
      return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)];
    }),
  );
}

const withShell = ({ words, json }: Command, { config }: State): string[] =>
  json ? words : [...(config.Shell ?? DEFAULT_SHELL), ...words];

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

// Not an assignment: a key from the Dockerfile may be `__proto__`.
function define<T>(map: Record<string, T>, key: string, value: T): void {
  Object.defineProperty(map, key, { value, enumerable: true, configurable: true, writable: true });
}
