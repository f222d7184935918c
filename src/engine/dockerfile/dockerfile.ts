/** A whole Dockerfile: its arguments, and its stages with their instructions. */
import { InvalidParameter } from '../../model/errors.ts';
import { type Directive } from './directives.ts';
import { atLines, DockerfileError } from './dockerfile-error.ts';
import type { Argument, Instruction } from './instruction.ts';
import { parseInstruction } from './parse-instruction.ts';
import { splitStatements, type Statements } from './statements.ts';

export type From = Extract<Instruction, { kind: 'FROM' }>;
/** An instruction within a stage. */
export type Step = Exclude<Instruction, { kind: 'FROM' }>;

export interface Stage {
  from: From;
  steps: Step[];
}

export interface Dockerfile {
  stages: Stage[];
  /** ARG before the first FROM. */
  globalArguments: { arguments: Argument[]; instruction: Step }[];
  directives: Directive[];
  /** `\` or a backtick. */
  escape: string;
  emptyContinuations: Statements['emptyContinuations'];
}

/** @throws DockerfileError with the lines that are wrong, and BuildKit's texts */
export function parseDockerfile(text: string): Dockerfile {
  const { statements, escape, ...about } = splitStatements(text);
  const stages: Stage[] = [];
  const globalArguments: Dockerfile['globalArguments'] = [];
  for (const statement of statements) {
    const instruction = withLineInText(statement.lines.first, () => parseInstruction(statement, escape));
    const stage = stages.at(-1);
    if (instruction.kind === 'FROM') stages.push({ from: instruction, steps: [] });
    else if (stage) stage.steps.push(instruction);
    else if (instruction.kind === 'ARG') globalArguments.push({ arguments: instruction.arguments, instruction });
    else
      atLines(statement.lines, () => {
        throw new InvalidParameter('no build stage in current context');
      });
  }
  return { stages, globalArguments, escape, ...about };
}

// BuildKit puts the line into the message of an instruction that is wrong, and of no other fault.
function withLineInText<T>(line: number, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof DockerfileError)) throw error;
    const message = `dockerfile parse error on line ${line}: ${error.message}`;
    throw new DockerfileError(message, error.lines, { cause: error });
  }
}
