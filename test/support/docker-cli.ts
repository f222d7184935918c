/** The docker CLI in front of a test's engine. */
import { spawn } from 'node:child_process';
import type { Writable } from 'node:stream';
import type { TestEngine } from './engine.ts';

export const DOCKER = process.env.HOLDFAST_DOCKER || 'docker';
/** Exit code reported for a command that a signal killed. */
const KILLED = 255;

export interface Result {
  stdout: string;
  stderr: string;
  exitCode: number;
}

/** A running command; `result` resolves when it has ended. */
export interface Command {
  stdin: Writable;
  /** Output so far. */
  stdout(): string;
  stderr(): string;
  exitCode: Promise<number>;
  result: Promise<Result>;
}

/** Starts a command whose DOCKER_HOST is the engine at `socket`. */
export function startCommand(socket: string, program: string, args: readonly string[]): Command {
  const child = spawn(program, args, {
    env: { ...process.env, DOCKER_HOST: `unix://${socket}` },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdin.on('error', () => undefined);
  const exitCode = new Promise<number>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve(code ?? (signal ? KILLED : 0)));
  });
  return {
    stdin: child.stdin,
    stdout: () => stdout,
    stderr: () => stderr,
    exitCode,
    result: exitCode.then((code) => ({ stdout, stderr, exitCode: code })),
  };
}

export interface Docker<Inspected> {
  docker(...args: string[]): Promise<Result>;
  /** Standard output, trimmed. @throws when the command fails */
  ok(...args: string[]): Promise<string>;
  /** Standard output as it is. @throws when the command fails */
  output(...args: string[]): Promise<string>;
  /** Standard error, trimmed. @throws when the command succeeds */
  refusal(...args: string[]): Promise<string>;
  /** A container as the API describes it. */
  inspect(name: string): Promise<Inspected>;
  /** What `docker inspect -f TEMPLATE` prints, trimmed. */
  inspectFormat(name: string, template: string): Promise<string>;
}

/**
 * Short names for one test file's commands. `engine` is asked at each call, as the file starts its engine in a hook.
 * `Inspected` are the fields of a container that the file looks at.
 */
export function dockerOf<Inspected = unknown>(engine: () => TestEngine): Docker<Inspected> {
  const ok = async (...args: string[]): Promise<string> => (await engine().dockerOutput(...args)).trim();
  return {
    docker: (...args) => engine().docker(...args).result,
    ok,
    output: (...args) => engine().dockerOutput(...args),
    refusal: async (...args) => (await engine().dockerRefusal(...args)).trim(),
    inspect: (name) => engine().inspect<Inspected>(name),
    inspectFormat: (name, template) => ok('inspect', '-f', template, name),
  };
}
