/** The instructions of a Dockerfile as written: variables are not yet expanded. */
import type { Healthcheck } from '../../model/container-config.ts';
import type { LineRange } from './dockerfile-error.ts';
import type { Heredoc } from './heredoc.ts';

/** `a=b` of ENV and LABEL; quotes remain until the words are expanded. */
export interface Pair {
  key: string;
  value: string;
  /** In the old form, `ENV a b`. */
  separatedBySpace?: true;
}

/** `name` or `name=value` of ARG. */
export interface Argument {
  key: string;
  value?: string;
  /** From a comment above that begins with the name. */
  comment: string;
}

/** A command in JSON (exec) form, or one text for the shell. */
export interface Command {
  words: string[];
  json: boolean;
}

/** Files, or heredocs in their place, and where they go. */
export interface Transfer {
  sources: string[];
  heredocs: Heredoc[];
  destination: string;
  chown: string;
  chmod: string;
  link: boolean;
  exclude: string[];
}

export type InstructionBody =
  | ({ kind: 'ADD'; keepGitDir: boolean; checksum: string; unpack: boolean | undefined } & Transfer)
  | ({ kind: 'COPY'; from: string; parents: boolean } & Transfer)
  | { kind: 'ARG'; arguments: Argument[] }
  | { kind: 'CMD'; command: Command }
  | { kind: 'ENTRYPOINT'; command: Command }
  | { kind: 'ENV'; pairs: Pair[] }
  | { kind: 'EXPOSE'; ports: string[] }
  | { kind: 'FROM'; image: string; stage: string; stageAsWritten: string; platform: string; comment: string }
  | { kind: 'HEALTHCHECK'; check: Healthcheck }
  | { kind: 'LABEL'; pairs: Pair[] }
  | { kind: 'MAINTAINER'; author: string }
  | { kind: 'ONBUILD'; trigger: string }
  | { kind: 'RUN'; command: Command; heredocs: Heredoc[]; mounts: string[]; network: string; security: string }
  | { kind: 'SHELL'; shell: string[] }
  | { kind: 'STOPSIGNAL'; signal: string }
  | { kind: 'USER'; user: string }
  | { kind: 'VOLUME'; volumes: string[] }
  | { kind: 'WORKDIR'; path: string };

export type InstructionKind = InstructionBody['kind'];

export type Instruction = InstructionBody & {
  /** The instruction's name as written. */
  name: string;
  /** The statement without white space around it: what messages and the image's history show. */
  code: string;
  lines: LineRange;
};
