/** Statements → instructions, checked as BuildKit does (frontend/dockerfile/instructions/parse.go). */
import { InvalidParameter } from '../../model/errors.ts';
import { atLines } from './dockerfile-error.ts';
import { Flags } from './flags.ts';
import { parseHealthcheck } from './healthcheck.ts';
import { heredocOf, type Heredoc } from './heredoc.ts';
import type { Command, Instruction, InstructionBody, InstructionKind, Transfer } from './instruction.ts';
import { jsonArguments } from './json-arguments.ts';
import { commentOn, parseArguments, parsePairs } from './pairs.ts';
import { checkMounts } from './run-mount.ts';
import { plainWords, statementOf, type Statement } from './statements.ts';
import { suggestion } from './suggestion.ts';

const TRANSFER_FLAGS = { chown: 'value', chmod: 'value', link: 'boolean', exclude: 'values' } as const;
const ADD_FLAGS = { ...TRANSFER_FLAGS, 'keep-git-dir': 'boolean', checksum: 'value', unpack: 'boolean' } as const;
const COPY_FLAGS = { ...TRANSFER_FLAGS, from: 'value', parents: 'boolean' } as const;
const RUN_FLAGS = { mount: 'values', network: 'value', security: 'value' } as const;
const NETWORKS = ['default', 'none', 'host'];
const SECURITY_MODES = ['insecure', 'sandbox'];
const STAGE_NAME = /^[a-z][a-z0-9-_.]*$/;

type Parse<Kind extends InstructionKind> = (
  statement: Statement,
  escape: string,
) => Omit<Extract<InstructionBody, { kind: Kind }>, 'kind'>;

const PARSERS: { [Kind in InstructionKind]: Parse<Kind> } = {
  ADD: (statement) => {
    const words = transferWords('ADD', statement);
    const flags = new Flags(statement.flags, ADD_FLAGS);
    return {
      ...transfer('ADD', words, flags, statement.heredocs),
      keepGitDir: flags.isTrue('keep-git-dir'),
      checksum: flags.value('checksum'),
      unpack: flags.has('unpack') ? flags.isTrue('unpack') : undefined,
    };
  },
  ARG: ({ flags, rest, comments }, escape) => {
    noFlags(flags);
    return { arguments: parseArguments(rest, comments, escape) };
  },
  CMD: ({ flags, rest }) => {
    noFlags(flags);
    return { command: commandOf(rest) };
  },
  COPY: (statement) => {
    const words = transferWords('COPY', statement);
    const flags = new Flags(statement.flags, COPY_FLAGS);
    return {
      ...transfer('COPY', words, flags, statement.heredocs),
      from: flags.value('from'),
      parents: flags.isTrue('parents'),
    };
  },
  ENTRYPOINT: ({ flags, rest }) => {
    noFlags(flags);
    return { command: commandOf(rest) };
  },
  ENV: ({ flags, rest }, escape) => {
    noFlags(flags);
    return { pairs: parsePairs('ENV', rest, escape) };
  },
  EXPOSE: ({ flags, rest }) => {
    const ports = plainWords(rest);
    if (ports.length === 0) return atLeastOne('EXPOSE');
    noFlags(flags);
    return { ports: ports.sort() };
  },
  FROM: ({ flags: written, rest, comments }) => {
    const words = plainWords(rest);
    const { stage, asWritten } = stageName(words);
    const flags = new Flags(written, { platform: 'value' });
    const comment = commentOn(stage, comments);
    return { image: words[0]!, stage, stageAsWritten: asWritten, platform: flags.value('platform'), comment };
  },
  HEALTHCHECK: (statement) => ({ check: parseHealthcheck(statement) }),
  LABEL: ({ flags, rest }, escape) => {
    noFlags(flags);
    return { pairs: parsePairs('LABEL', rest, escape) };
  },
  MAINTAINER: ({ flags, rest }) => {
    const author = exactlyOne('MAINTAINER', rest);
    noFlags(flags);
    return { author };
  },
  ONBUILD: ({ flags, rest, original, heredocs }) => {
    const trigger = statementOf(rest).name.toUpperCase();
    if (trigger === '') return atLeastOne('ONBUILD');
    noFlags(flags);
    if (trigger === 'ONBUILD') throw new InvalidParameter("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
    if (trigger === 'MAINTAINER' || trigger === 'FROM')
      throw new InvalidParameter(`${trigger} isn't allowed as an ONBUILD trigger`);
    const text = original.replace(/^\s*ONBUILD\s*/i, '');
    return { trigger: [text, ...heredocs.map(({ content, name }) => content + name)].join('\n') };
  },
  RUN: ({ flags: written, rest, heredocs }) => {
    const flags = new Flags(written, RUN_FLAGS);
    const mounts = flags.values('mount');
    checkMounts(mounts);
    const network = oneOf('network mode', flags.value('network') || 'default', NETWORKS);
    const security = oneOf('security', flags.value('security') || 'sandbox', SECURITY_MODES);
    return { command: commandOf(rest), heredocs, mounts, network, security };
  },
  SHELL: ({ flags, rest, original }) => {
    noFlags(flags);
    const { words, json } = commandOf(rest);
    if (words.length === 0) return atLeastOne('SHELL');
    if (!json) throw new InvalidParameter(`SHELL requires the arguments to be in JSON form: ${original}`);
    return { shell: words };
  },
  STOPSIGNAL: ({ rest }) => ({ signal: exactlyOne('STOPSIGNAL', rest) }),
  USER: ({ flags, rest }) => {
    const user = exactlyOne('USER', rest);
    noFlags(flags);
    return { user };
  },
  VOLUME: ({ flags, rest }) => {
    const written = jsonArguments(rest) ?? plainWords(rest);
    if (written.length === 0) return atLeastOne('VOLUME');
    noFlags(flags);
    const volumes = written.map((volume) => volume.trim());
    if (volumes.includes('')) throw new InvalidParameter('VOLUME specified can not be an empty string');
    return { volumes };
  },
  WORKDIR: ({ flags, rest }) => {
    const path = exactlyOne('WORKDIR', rest);
    noFlags(flags);
    return { path };
  },
};

const isInstruction = (name: string): name is InstructionKind => Object.hasOwn(PARSERS, name);

/**
 * @param escape the Dockerfile's escape character
 * @throws DockerfileError with the statement's lines
 */
export function parseInstruction(statement: Statement, escape: string): Instruction {
  const { name, original, lines } = statement;
  return atLines(lines, () => {
    const kind = name.toUpperCase();
    if (!isInstruction(kind))
      throw new InvalidParameter(`unknown instruction: ${name}${suggestion(name, Object.keys(PARSERS))}`);
    const body = { kind, ...PARSERS[kind](statement, escape) } as InstructionBody;
    return { ...body, name, code: original.trim(), lines };
  });
}

function commandOf(text: string): Command {
  const words = jsonArguments(text);
  return words ? { words, json: true } : { words: text === '' ? [] : [text], json: false };
}

function transferWords(name: 'ADD' | 'COPY', { rest }: Statement): string[] {
  const words = jsonArguments(rest) ?? plainWords(rest);
  if (words.length < 2)
    throw new InvalidParameter(
      `${name} requires at least two arguments, but only one was provided. Destination could not be determined`,
    );
  return words;
}

function transfer(
  name: 'ADD' | 'COPY',
  words: string[],
  flags: Flags<keyof typeof TRANSFER_FLAGS>,
  heredocs: Heredoc[],
): Transfer {
  const destination = words.at(-1)!;
  if (heredocOf(destination)) throw new InvalidParameter(`${name} cannot accept a heredoc as a destination`);
  return {
    sources: words.slice(0, -1).filter((word) => !heredocOf(word)),
    heredocs,
    destination,
    chown: flags.value('chown'),
    chmod: flags.value('chmod'),
    link: flags.isTrue('link'),
    exclude: flags.values('exclude'),
  };
}

function stageName(words: string[]): { stage: string; asWritten: string } {
  if (words.length === 1) return { stage: '', asWritten: '' };
  const [, as = '', asWritten = ''] = words;
  if (words.length !== 3 || as.toLowerCase() !== 'as')
    throw new InvalidParameter('FROM requires either one or three arguments');
  const stage = asWritten.toLowerCase();
  if (!STAGE_NAME.test(stage))
    throw new InvalidParameter(
      `invalid name for build stage: ${JSON.stringify(asWritten)}, name can't start with a number or contain symbols`,
    );
  return { stage, asWritten };
}

function oneOf(what: string, value: string, options: string[]): string {
  if (!options.includes(value))
    throw new InvalidParameter(`unsupported ${what} ${JSON.stringify(value)}${suggestion(value, options, true)}`);
  return value;
}

const noFlags = (flags: string[]): void => void new Flags<never>(flags, {});

function atLeastOne(name: string): never {
  throw new InvalidParameter(`${name} requires at least one argument`);
}

function exactlyOne(name: string, text: string): string {
  if (text === '') throw new InvalidParameter(`${name} requires exactly one argument`);
  return text;
}
