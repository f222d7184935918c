/**
 * `--change` of import and commit: Dockerfile instructions that modify an image configuration. How an instruction
 * changes a configuration is the same in a build.
 */
import { constants } from 'node:os';
import { posix } from 'node:path';
import type { ContainerConfig } from '../../model/container-config.ts';
import { InvalidParameter } from '../../model/errors.ts';
import { expandInstruction } from '../dockerfile/expand-instruction.ts';
import type { Command, Instruction, InstructionKind } from '../dockerfile/instruction.ts';
import { parseInstruction } from '../dockerfile/parse-instruction.ts';
import { splitStatements } from '../dockerfile/statements.ts';

export type ImageSettings = Partial<ContainerConfig>;

interface State {
  config: ImageSettings;
  /** Whether a CMD preceded: otherwise ENTRYPOINT clears the parent's. */
  hasCommand: boolean;
}

type Appliers = {
  [Kind in InstructionKind]?: (instruction: Extract<Instruction, { kind: Kind }>, state: State) => void;
};

const DEFAULT_SHELL = ['/bin/sh', '-c'];
const MAX_SIGNAL = 64;
const MAX_PORT = 65_535;

// Docker's own list of changes lacks SHELL.
const APPLIERS: Appliers = {
  CMD: ({ command }, state) => {
    state.config.Cmd = withShell(command, state.config);
    if (command.words.length > 0) state.hasCommand = true;
  },
  ENTRYPOINT: ({ command }, state) => {
    state.config.Entrypoint = command.words.length > 0 ? withShell(command, state.config) : null;
    if (!state.hasCommand) state.config.Cmd = null;
  },
  ENV: ({ pairs }, { config }) => {
    const env = [...(config.Env ?? [])];
    for (const { key, value } of pairs) {
      const entry = `${key}=${value}`;
      const at = env.findIndex((known) => known.split('=', 1)[0] === key);
      if (at < 0) env.push(entry);
      else env[at] = entry;
    }
    config.Env = env;
  },
  EXPOSE: ({ ports }, { config }) => {
    const exposed = ports.flatMap(exposedPorts).map((port) => [port, {}] as const);
    config.ExposedPorts = { ...config.ExposedPorts, ...Object.fromEntries(exposed) };
  },
  HEALTHCHECK: ({ check }, { config }) => {
    config.Healthcheck = check;
  },
  LABEL: ({ pairs }, { config }) => {
    const labels: Record<string, string> = { ...config.Labels };
    for (const { key, value } of pairs) define(labels, key, value);
    config.Labels = labels;
  },
  ONBUILD: ({ trigger }, { config }) => {
    config.OnBuild = [...(config.OnBuild ?? []), trigger];
  },
  SHELL: ({ shell }, { config }) => {
    config.Shell = shell;
  },
  STOPSIGNAL: ({ signal }, { config }) => {
    if (!isSignal(signal)) throw new InvalidParameter(`invalid signal: ${signal}`);
    config.StopSignal = signal;
  },
  USER: ({ user }, { config }) => {
    config.User = user;
  },
  VOLUME: ({ volumes: added }, { config }) => {
    if (added.includes('')) throw new InvalidParameter('VOLUME specified can not be an empty string');
    const volumes: Record<string, Record<string, never>> = { ...config.Volumes };
    for (const volume of added) define(volumes, volume, {});
    config.Volumes = volumes;
  },
  WORKDIR: ({ path: requested }, { config }) => {
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
    if (!changesConfig(name.toUpperCase())) throw new InvalidParameter(`${name} is not a valid change command`);
  const state: State = { config: structuredClone(config), hasCommand: false };
  for (const statement of statements) {
    const instruction = parseInstruction(statement, escape);
    applyInstruction(expandInstruction(instruction, variablesOf(state.config.Env), { escape }), state);
  }
  return state.config;
}

/** Whether an instruction changes the configuration of the image, and nothing else. */
export const changesConfig = (kind: string): boolean => Object.hasOwn(APPLIERS, kind);

/**
 * Applies an instruction of a kind that changesConfig(), its variables replaced, to `state.config`.
 * @throws InvalidParameter
 */
export function applyInstruction(instruction: Instruction, state: State): void {
  // The applier of a kind takes instructions of that kind, which the compiler cannot follow through the table.
  const apply = APPLIERS[instruction.kind] as ((instruction: Instruction, state: State) => void) | undefined;
  apply?.(instruction, state);
}

/** The variables of an environment, `NAME=value`. */
export function variablesOf(env: string[] | null | undefined): Map<string, string> {
  return new Map(
    (env ?? []).map((entry) => {
      const at = entry.indexOf('=');
      return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)];
    }),
  );
}

/** A command as it is run: in shell form, by the image's shell. */
export const withShell = ({ words, json }: Command, { Shell }: ImageSettings): string[] =>
  json ? words : [...(Shell?.length ? Shell : DEFAULT_SHELL), ...words];

/** `80`, `8000-8010/udp`; of `ip:host:container` only the container's part is used. @throws InvalidParameter */
export function exposedPorts(spec: string): string[] {
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
