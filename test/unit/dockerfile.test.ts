import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { syntaxOf } from '../../src/engine/dockerfile/directives.ts';
import { parseDockerfile } from '../../src/engine/dockerfile/dockerfile.ts';
import { DockerfileError } from '../../src/engine/dockerfile/dockerfile-error.ts';
import { heredocText } from '../../src/engine/dockerfile/heredoc.ts';
import type { Instruction, InstructionKind } from '../../src/engine/dockerfile/instruction.ts';
import { parseMount } from '../../src/engine/dockerfile/run-mount.ts';

/** The first instruction of the only stage. */
function only<Kind extends InstructionKind>(kind: Kind, text: string): Extract<Instruction, { kind: Kind }> {
  const [step] = parseDockerfile(`FROM x\n${text}`).stages[0]!.steps;
  expect(step?.kind).toBe(kind);
  return step as Extract<Instruction, { kind: Kind }>;
}

function failure(text: string): DockerfileError {
  try {
    parseDockerfile(text);
  } catch (error) {
    expect(error).toBeInstanceOf(DockerfileError);
    return error as DockerfileError;
  }
  throw new Error(`was accepted: ${text}`);
}

describe('a file', () => {
  test('has arguments before its stages', () => {
    const { stages, globalArguments } = parseDockerfile(
      'ARG A=1\n\nFROM --platform=$BUILDPLATFORM go:$A AS Build\nRUN x\nFROM scratch\nCOPY --from=build /a /a\n',
    );
    expect(globalArguments.map((global) => global.arguments)).toEqual([[{ key: 'A', value: '1', comment: '' }]]);
    expect(stages.map(({ from, steps }) => [from.image, from.stage, from.platform, steps.map((s) => s.kind)])).toEqual([
      ['go:$A', 'build', '$BUILDPLATFORM', ['RUN']],
      ['scratch', '', '', ['COPY']],
    ]);
    expect(stages[0]!.from.stageAsWritten).toBe('Build');
  });

  test('joins continued lines, without the comments and empty lines in between', () => {
    const { stages, emptyContinuations } = parseDockerfile(
      '\uFEFFFROM x\n  RUN a \\\n# comment\n\n   b \\  \n  c\\\\\nUSER u',
    );
    expect(stages[0]!.steps.map(({ code, lines }) => [code, lines])).toEqual([
      ['RUN a    b   c\\\\', { first: 2, last: 6 }],
      ['USER u', { first: 7, last: 7 }],
    ]);
    expect(emptyContinuations).toEqual([{ original: 'RUN a    b   c\\\\', line: 6 }]);
  });

  test('may end within a continued line, and have lines that end in CR LF', () => {
    expect(parseDockerfile('FROM x\r\nRUN a \\\r\n  b\\').stages[0]!.steps[0]!.code).toBe('RUN a   b');
  });

  test('takes the comment above an instruction as its description', () => {
    const text = '# unrelated\n#\n# base is the base\nFROM x AS base\n# A is first\n# B is second\nARG A B=2';
    const { stages } = parseDockerfile(text);
    expect(stages[0]!.from.comment).toBe('is the base');
    expect(stages[0]!.steps).toMatchObject([
      {
        arguments: [
          { key: 'A', comment: 'is first' },
          { key: 'B', value: '2', comment: 'is second' },
        ],
      },
    ]);
  });
});

describe('directives', () => {
  test('choose the escape character', () => {
    const { escape, directives, stages } = parseDockerfile(
      '# syntax = docker/dockerfile:1\n#ESCAPE=`\nFROM x\nRUN a `\n b\\',
    );
    expect(escape).toBe('`');
    expect(directives.map(({ name, value }) => [name, value])).toEqual([
      ['syntax', 'docker/dockerfile:1'],
      ['escape', '`'],
    ]);
    expect(stages[0]!.steps[0]!.code).toBe('RUN a  b\\');
  });

  test('end at the first other line', () => {
    expect(parseDockerfile('# a comment\n# escape=`\nFROM x\nRUN a\\\n b').stages[0]!.steps[0]!.code).toBe('RUN a b');
  });

  test.each([
    ['# escape=x\nFROM y', "invalid escape token 'x' does not match ` or \\", 1],
    ['# escape=`\n# escape=`\nFROM y', 'only one escape parser directive can be used', 2],
  ])('%j is rejected', (text, message, line) => {
    expect(failure(text)).toMatchObject({ message, lines: { first: line, last: line } });
  });

  test.each([
    ['# syntax=a/b:1 --flag\nFROM x', 'a/b:1', 1],
    ['#!/usr/bin/env x\n# check=skip=all\n# syntax=a', 'a', 3],
    ['// syntax=a\n', 'a', 1],
    ['{"syntax": "a"}', 'a', 1],
    ['FROM x\n# syntax=a', undefined, 0],
    ['{"syntax": 1}', undefined, 0],
    ['', undefined, 0],
  ])('%j asks for the frontend %s', (text, image, line) => {
    expect(syntaxOf(text)).toEqual(image === undefined ? undefined : { image, lines: { first: line, last: line } });
  });
});

describe('heredocs', () => {
  test('are the command of RUN', () => {
    const run = only('RUN', 'RUN <<EOF\n  a\n\tb\nEOF\nUSER u');
    expect(run.heredocs).toEqual([{ name: 'EOF', content: '  a\n\tb\n', expand: true, chomp: false, descriptor: 0 }]);
    expect(run.lines).toEqual({ first: 2, last: 5 });
  });

  test('may be several, quoted, without leading tabs, and of another descriptor', () => {
    const run = only('RUN', 'RUN x <<"A" 3<<-B && y\n$a\nA\n\t\tb\n\tB\n');
    expect(run.heredocs).toEqual([
      { name: 'A', content: '$a\n', expand: false, chomp: false, descriptor: 0 },
      { name: 'B', content: '\t\tb\n', expand: true, chomp: true, descriptor: 3 },
    ]);
    expect(heredocText(run.heredocs[1]!)).toBe('b\n');
  });

  test('are files of COPY and ADD', () => {
    const copy = only('COPY', 'COPY a <<x.txt b <<"y" /to/\n1\nx.txt\n2\ny\n');
    expect(copy).toMatchObject({ sources: ['a', 'b'], destination: '/to/' });
    expect(copy.heredocs.map(({ name, content }) => [name, content])).toEqual([
      ['x.txt', '1\n'],
      ['y', '2\n'],
    ]);
  });

  test('belong to what ONBUILD delays', () => {
    expect(only('ONBUILD', 'ONBUILD RUN <<EOF\necho\nEOF\n').trigger).toBe('RUN <<EOF\necho\nEOF');
  });

  test.each(['RUN ["echo", "<<EOF"]', 'ENV a=<<EOF', 'RUN a <<', "RUN echo '<<EOF'", 'RUN cat <<<EOF'])(
    '%s has none',
    (text) => {
      expect(parseDockerfile(`FROM x\n${text}`).stages[0]!.steps).toHaveLength(1);
    },
  );

  test('must end', () => {
    expect(failure('FROM x\nRUN <<EOF\na\n')).toMatchObject({
      message: 'unterminated heredoc',
      lines: { first: 2, last: 3 },
    });
  });
});

describe('an instruction', () => {
  test('has flags before its arguments', () => {
    expect(
      only('COPY', 'COPY --from=build --chown="1:2" --chmod=u+x --link --parents --exclude=a --exclude="b c" x y /z'),
    ).toMatchObject({
      from: 'build',
      chown: '1:2',
      chmod: 'u+x',
      link: true,
      parents: true,
      exclude: ['a', 'b c'],
      sources: ['x', 'y'],
      destination: '/z',
    });
    expect(only('ADD', 'ADD --checksum=sha256:0 --keep-git-dir --unpack=false ["a b", "c"]')).toMatchObject({
      checksum: 'sha256:0',
      keepGitDir: true,
      unpack: false,
      sources: ['a b'],
      destination: 'c',
    });
    expect(only('RUN', 'RUN --mount=type=cache,target=/c --mount=type=ssh --network=none -- --x y')).toMatchObject({
      command: { words: ['--x y'], json: false },
      mounts: ['type=cache,target=/c', 'type=ssh'],
      network: 'none',
      security: 'sandbox',
    });
  });

  test('has pairs whose quotes stay until they are expanded', () => {
    expect(only('ENV', 'ENV a="b c"d e=\\ f \'g\'=h').pairs).toEqual([
      { key: 'a', value: '"b c"d' },
      { key: 'e', value: '\\ f' },
      { key: "'g'", value: 'h' },
    ]);
    expect(only('ENV', 'ENV a b  "c"').pairs).toEqual([{ key: 'a', value: 'b  "c"', separatedBySpace: true }]);
    expect(only('LABEL', 'LABEL a=1 b=').pairs).toEqual([
      { key: 'a', value: '1' },
      { key: 'b', value: '' },
    ]);
  });

  test.each([
    ['FROM a b', 'FROM requires either one or three arguments'],
    ['FROM a AS 1b', 'invalid name for build stage: "1b", name can\'t start with a number or contain symbols'],
    ['FROM x\nFORM y', 'unknown instruction: FORM (did you mean FROM?)', 2],
    ['FROM x\ncopi a b', 'unknown instruction: copi (did you mean copy?)', 2],
    ['FROM x\nNOTHING LIKE IT', 'unknown instruction: NOTHING', 2],
    [
      'FROM x\nCOPY a',
      'COPY requires at least two arguments, but only one was provided. Destination could not be determined',
      2,
    ],
    ['FROM x\nCOPY a <<EOF\nEOF', 'COPY cannot accept a heredoc as a destination', 2],
    ['FROM x\nCOPY --form=y a b', 'unknown flag: --form (did you mean from?)', 2],
    ['FROM x\nCOPY --from a b', 'missing a value on flag: --from', 2],
    ['FROM x\nCOPY --link=2 a b', 'expecting boolean value for flag --link, not: 2', 2],
    ['FROM x\nCOPY --from=a --from=b a b', 'duplicate flag specified: --from', 2],
    ['FROM x\nRUN --network=hst a', 'unsupported network mode "hst" (did you mean host?)', 2],
    ['FROM x\nRUN --mount=from=$A a', "'from' doesn't support variable expansion, define alias stage instead", 2],
    ['FROM x\nRUN [1]', 'when using JSON array syntax, arrays must be comprised of strings only', 2],
    ['FROM x\nARG =a', 'ARG names can not be blank', 2],
    ['FROM x\nMAINTAINER', 'MAINTAINER requires exactly one argument', 2],
    ['FROM x\nSHELL ["a"', 'SHELL requires the arguments to be in JSON form: SHELL ["a"', 2],
    [
      'FROM x\nHEALTHCHECK --retries=99999999999 CMD a',
      'strconv.ParseInt: parsing "99999999999": value out of range',
      2,
    ],
  ])('%j is rejected with its line', (text, message, line = 1) => {
    const { message: told, lines } = failure(text);
    expect(told).toBe(`dockerfile parse error on line ${line}: ${message}`);
    expect(lines?.first).toBe(line);
  });

  test('needs a stage', () => {
    expect(failure('ARG a\nRUN b\nFROM x').message).toBe('no build stage in current context');
  });

  test.each(['', '\n# only a comment\n'])('must be there: %j', (text) => {
    expect(failure(text).message).toBe('file with no instructions');
  });
});

describe('a mount of RUN', () => {
  const parse = (text: string): object => parseMount(text, (word) => word.replaceAll('$v', 'value'));
  test.each<[string, object]>([
    ['target=/a', { type: 'bind', target: '/a', readOnly: true }],
    ['type=bind,from=b,src=c,dst=/a,rw', { from: 'b', source: 'c', readOnly: false }],
    [
      'type=CACHE,target=/$v,id=$v,sharing=locked,mode=0755,uid=1,gid=2',
      {
        type: 'cache',
        target: '/value',
        id: 'value',
        sharing: 'locked',
        mode: 0o755,
        uid: 1,
        gid: 2,
        readOnly: false,
      },
    ],
    ['type=tmpfs,target=/a,size=1m', { type: 'tmpfs', size: 1 << 20, readOnly: false }],
    ['type=secret,id=a,required', { type: 'secret', id: 'a', required: true, readOnly: true }],
    ['type=secret,env=A,id=a', { env: 'A' }],
    ['type=ssh,required=true', { type: 'ssh', required: true }],
    ['"target=/a,b",ro=0', { target: '/a,b', readOnly: false }],
  ])('%s', (text, expected) => {
    expect(parse(text)).toMatchObject(expected);
  });

  test.each([
    ['type=nope', 'unsupported mount type "nope"'],
    ['type=bnd', 'unsupported mount type "bnd" (did you mean bind?)'],
    ['targt=/a', "unexpected key 'targt' in 'targt=/a' (did you mean target?)"],
    ['type=bind,required', "unexpected key 'required' for mount type 'bind'"],
    ['type=cache,size=1', "unexpected key 'size' for mount type 'cache'"],
    ['type=bind,mode=0755', 'mode not allowed for "bind" type mounts'],
    ['type=cache,mode=9', 'invalid value 9 for mode'],
    ['type=secret', 'invalid secret mount. one of source, target required'],
    ['type=secret,id=a,src=b', "both source and id can't be set"],
    ['type=secret,id=a,from=b', 'secret mount should not have a from'],
    ['type=tmpfs,sharing=shared', 'invalid cache sharing set for tmpfs mount'],
    ['target', "invalid field 'target' must be a key=value pair"],
    ['type=cache,ro=maybe', 'invalid value for ro: maybe'],
    ['a"b', 'failed to parse csv mounts: parse error on line 1, column 2: bare " in non-quoted field'],
  ])('%s is rejected', (text, message) => {
    expect(() => parse(text)).toThrow(message);
  });
});

test('any text is read or rejected, in a bounded time', () => {
  const line = fc.stringMatching(/^[A-Z]{2,4} [-a-z=<"'\\`$[\]{}#, ]{0,16}$/);
  const known = fc.constantFrom(
    'FROM x',
    'RUN <<A',
    'A',
    '# escape=`',
    'COPY --from=a \\',
    'ONBUILD RUN <<-B',
    'ENV a=',
    '',
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(line, known), { maxLength: 12 }), (lines) => {
      try {
        parseDockerfile(lines.join('\n'));
      } catch (error) {
        expect(error).toBeInstanceOf(DockerfileError);
      }
    }),
  );
});
