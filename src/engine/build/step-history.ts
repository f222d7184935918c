/** What `docker history` shows of an instruction, as BuildKit writes it. */
import type { Healthcheck } from '../../model/container-config.ts';
import type { Instruction } from '../dockerfile/instruction.ts';
import { formatDuration } from '../images/go-time.ts';

/** The arguments of ARG that are visible, with their values at that time. */
export type VisibleArguments = ReadonlyMap<string, string>;

/**
 * Of an instruction, its variables replaced, that changes nothing but the configuration.
 * @param command of CMD and ENTRYPOINT: as it is run
 */
export function historyOf(instruction: Instruction, command: string[]): string {
  switch (instruction.kind) {
    case 'CMD':
    case 'ENTRYPOINT':
      return `${instruction.kind} ${quotedList(command)}`;
    case 'ENV':
    case 'LABEL':
      return [instruction.kind, ...instruction.pairs.map(({ key, value }) => `${key}=${value}`)].join(' ');
    case 'EXPOSE':
      return `EXPOSE [${instruction.ports.join(' ')}]`;
    case 'HEALTHCHECK':
      return `HEALTHCHECK ${healthcheck(instruction.check)}`;
    case 'SHELL':
      return `SHELL [${instruction.shell.join(' ')}]`;
    case 'STOPSIGNAL':
      return `STOPSIGNAL ${instruction.signal}`;
    case 'USER':
      return `USER ${instruction.user}`;
    case 'VOLUME':
      return `VOLUME [${instruction.volumes.join(' ')}]`;
    default:
      return instruction.code;
  }
}

/** `|2 A=1 B=2 /bin/sh -c make`: the arguments, then the command as it is run. */
export function runHistory(argv: string[], visible: VisibleArguments): string {
  const names = [...visible].map(([name, value]) => `${name}=${value}`);
  const prefix = names.length > 0 ? [`|${names.length}`, ...names] : [];
  return `RUN ${[...prefix, ...argv].join(' ')} # buildkit`;
}

export function copyHistory(copy: Extract<Instruction, { kind: 'ADD' | 'COPY' }>): string {
  const flags = [
    ...(copy.kind === 'COPY' && copy.parents ? ['--parents'] : []),
    ...(copy.chown === '' ? [] : [`--chown=${copy.chown}`]),
    ...(copy.chmod === '' ? [] : [`--chmod=${copy.chmod}`]),
  ];
  const heredocs = copy.heredocs.map(({ name }) => `<<${name}`);
  return `${[copy.kind, ...flags, ...copy.sources, ...heredocs, copy.destination].join(' ')} # buildkit`;
}

// As Go prints a list with %q, and a struct with %+v.
const quotedList = (words: string[]): string => `[${words.map((word) => JSON.stringify(word)).join(' ')}]`;

function healthcheck(check: Healthcheck): string {
  const duration = (value: Healthcheck['Interval']): string => formatDuration(BigInt(value ?? 0));
  const fields = [
    `Test:[${(check.Test ?? []).join(' ')}]`,
    `Interval:${duration(check.Interval)}`,
    `Timeout:${duration(check.Timeout)}`,
    `StartPeriod:${duration(check.StartPeriod)}`,
    `StartInterval:${duration(check.StartInterval)}`,
    `Retries:${check.Retries ?? 0}`,
  ];
  return `{${fields.join(' ')}}`;
}
