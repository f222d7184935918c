import type { Instruction, Pair } from './instruction.ts';
import { expandWord, expandWords, type ExpandOptions, type Variables } from './words.ts';

/**
 * An instruction with its variables replaced, where its kind has them: a command belongs to the shell, and ARG and the
 * mounts of RUN have rules of their own.
 * @throws InvalidParameter
 */
export function expandInstruction<T extends Instruction>(
  instruction: T,
  variables: Variables,
  options: ExpandOptions = {},
): T {
  const word = (text: string): string => expandWord(text, variables, options);
  const pairs = (written: Pair[]): Pair[] => written.map(({ key, value }) => ({ key: word(key), value: word(value) }));
  const changed = ((): Partial<Instruction> => {
    const i: Instruction = instruction;
    switch (i.kind) {
      case 'ADD':
      case 'COPY':
        return {
          sources: i.sources.map(word),
          destination: word(i.destination),
          chown: word(i.chown),
          chmod: word(i.chmod),
          exclude: i.exclude.map(word),
          ...(i.kind === 'ADD' && { checksum: word(i.checksum) }),
          heredocs: i.heredocs.map((heredoc) =>
            heredoc.expand
              ? { ...heredoc, content: expandWord(heredoc.content, variables, { quotes: 'letters' }) }
              : heredoc,
          ),
        };
      case 'ENV':
      case 'LABEL':
        return { pairs: pairs(i.pairs) };
      case 'EXPOSE':
        return { ports: i.ports.flatMap((text) => expandWords(text, variables, options)) };
      case 'STOPSIGNAL':
        return { signal: word(i.signal) };
      case 'USER':
        return { user: word(i.user) };
      case 'VOLUME':
        return { volumes: i.volumes.map(word) };
      case 'WORKDIR':
        return { path: word(i.path) };
      default:
        return {};
    }
  })();
  return { ...instruction, ...changed };
}
