import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InvalidParameter } from '../../src/model/errors.ts';
import { applyChanges } from '../../src/engine/images/config-changes.ts';
import { formatRfc3339, parseDuration, parseMoment, parseRfc3339 } from '../../src/engine/images/go-time.ts';
import { expandWord, expandWords } from '../../src/engine/dockerfile/words.ts';

describe('changes', () => {
  test.each<[string, string[], object]>([
    ['CMD in exec form', ['CMD ["a b", "c"]'], { Cmd: ['a b', 'c'] }],
    ['CMD in shell form', ['CMD echo "$HOME"  x'], { Cmd: ['/bin/sh', '-c', 'echo "$HOME"  x'] }],
    ['CMD with broken JSON, as shell form', ["CMD ['a']"], { Cmd: ['/bin/sh', '-c', "['a']"] }],
    ['CMD []', ['CMD []'], { Cmd: [] }],
    ['an instruction in lower case', ['cmd ["a"]'], { Cmd: ['a'] }],
    ['ENTRYPOINT, which resets the command', ['ENTRYPOINT ["e"]'], { Entrypoint: ['e'], Cmd: null }],
    [
      'ENTRYPOINT and CMD, which keeps the command',
      ['CMD ["c"]', 'ENTRYPOINT e x'],
      { Entrypoint: ['/bin/sh', '-c', 'e x'], Cmd: ['c'] },
    ],
    [
      'SHELL, to what follows it',
      ['SHELL ["/bin/bash", "-lc"]', 'CMD x'],
      { Shell: ['/bin/bash', '-lc'], Cmd: ['/bin/bash', '-lc', 'x'] },
    ],
    [
      'ENV with quotes, escapes and variables',
      ['ENV A=1 B="two words" C=th\\ ree', 'ENV D old  form', 'ENV A=$B-${C}-${X:-none}'],
      { Env: ['A=two words-th ree-none', 'B=two words', 'C=th ree', 'D=old  form'] },
    ],
    ['ENV with variables, as they were before its line', ['ENV A=1', 'ENV A=2 B=$A'], { Env: ['A=2', 'B=1'] }],
    [
      'LABEL',
      ['LABEL a=1 "b c"="d e"', 'LABEL a=2', "LABEL __proto__='x y'"],
      {
        Labels: Object.fromEntries([
          ['a', '2'],
          ['b c', 'd e'],
          ['__proto__', 'x y'],
        ]),
      },
    ],
    [
      'EXPOSE with ranges and variables',
      ['ENV P="80 443/udp"', 'EXPOSE $P 8000-8002', 'EXPOSE 80'],
      {
        Env: ['P=80 443/udp'],
        ExposedPorts: { '80/tcp': {}, '443/udp': {}, '8000/tcp': {}, '8001/tcp': {}, '8002/tcp': {} },
      },
    ],
    ['USER', ['USER 1000:1000'], { User: '1000:1000' }],
    ['VOLUME', ['VOLUME /a /b', 'VOLUME ["/c d"]'], { Volumes: { '/a': {}, '/b': {}, '/c d': {} } }],
    ['WORKDIR', ['WORKDIR /a', 'WORKDIR b/', 'WORKDIR ../c'], { WorkingDir: '/a/c' }],
    ['STOPSIGNAL', ['STOPSIGNAL SIGRTMIN+3'], { StopSignal: 'SIGRTMIN+3' }],
    [
      'HEALTHCHECK',
      ['HEALTHCHECK --interval=1m30s --timeout=3s --retries=4 --start-period=0.5s CMD curl -f x || exit 1'],
      {
        Healthcheck: {
          Test: ['CMD-SHELL', 'curl -f x || exit 1'],
          Interval: 90e9,
          Timeout: 3e9,
          Retries: 4,
          StartPeriod: 5e8,
        },
      },
    ],
    ['HEALTHCHECK in exec form', ['HEALTHCHECK CMD ["a"]'], { Healthcheck: { Test: ['CMD', 'a'] } }],
    ['HEALTHCHECK NONE', ['HEALTHCHECK none'], { Healthcheck: { Test: ['NONE'] } }],
    ['ONBUILD', ['ONBUILD RUN a  b', 'onbuild ENV x=$y'], { OnBuild: ['RUN a  b', 'ENV x=$y'] }],
    [
      'continued lines with comments in between',
      ['ENV A=1 \\', '# not this', '', '  B=2', 'USER x'],
      { Env: ['A=1', 'B=2'], User: 'x' },
    ],
    ['several changes in one text', ['USER x\nWORKDIR /y'], { User: 'x', WorkingDir: '/y' }],
    ['no changes', [], {}],
  ])('applies %s', (_name, changes, expected) => {
    expect(applyChanges({}, changes)).toEqual(expected);
  });

  test('keep what the image had, without altering it', () => {
    const before = { Env: ['A=1', 'B=2'], Labels: { x: 'y' }, WorkingDir: '/w', Cmd: ['c'] };
    expect(applyChanges(before, ['ENV A=3', 'LABEL z=1', 'WORKDIR v', 'USER $B'])).toEqual({
      Env: ['A=3', 'B=2'],
      Labels: { x: 'y', z: '1' },
      WorkingDir: '/w/v',
      Cmd: ['c'],
      User: '2',
    });
    expect(before).toEqual({ Env: ['A=1', 'B=2'], Labels: { x: 'y' }, WorkingDir: '/w', Cmd: ['c'] });
  });

  test.each([
    ['RUN x', 'RUN is not a valid change command'],
    ['FROM x', 'FROM is not a valid change command'],
    ['["ENV A=1"]', '["ENV is not a valid change command'],
    ['', 'file with no instructions'],
    ['ENV', 'ENV requires at least one argument'],
    ['ENV A', 'ENV must have two arguments'],
    ['ENV =x', 'ENV names can not be blank'],
    ['ENV A=1 B', 'Syntax error - can\'t find = in "B". Must be of the form: name=value'],
    ['LABEL', 'LABEL requires at least one argument'],
    ['CMD [1]', 'when using JSON array syntax, arrays must be comprised of strings only'],
    ['CMD --x y', 'unknown flag: --x'],
    ['EXPOSE', 'EXPOSE requires at least one argument'],
    ['EXPOSE abc', 'invalid containerPort: abc'],
    ['EXPOSE 80/abc', 'invalid proto: abc'],
    ['EXPOSE 70000', 'invalid containerPort: 70000'],
    ['USER', 'USER requires exactly one argument'],
    ['WORKDIR', 'WORKDIR requires exactly one argument'],
    ['STOPSIGNAL SIGNOPE', 'invalid signal: SIGNOPE'],
    ['HEALTHCHECK', 'HEALTHCHECK requires at least one argument'],
    ['HEALTHCHECK x', 'Unknown type "X" in HEALTHCHECK (try CMD)'],
    ['HEALTHCHECK CMD', 'Missing command after HEALTHCHECK CMD'],
    ['HEALTHCHECK NONE x', 'HEALTHCHECK NONE takes no arguments'],
    ['HEALTHCHECK --interval=5 CMD x', 'time: missing unit in duration "5"'],
    ['HEALTHCHECK --interval=1us CMD x', 'Interval "interval" cannot be less than 1ms'],
    ['HEALTHCHECK --retries=-1 CMD x', '--retries cannot be negative (-1)'],
    ['HEALTHCHECK --nope=1 CMD x', 'unknown flag: --nope'],
    ['ONBUILD ONBUILD USER x', "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"],
    ['ONBUILD FROM x', "FROM isn't allowed as an ONBUILD trigger"],
    ['USER ${x', 'failed to process "${x": '],
    ['ENV A="x', 'failed to process "\\"x": unexpected end of statement while looking for matching double-quote'],
    ['VOLUME [""]', 'VOLUME specified can not be an empty string'],
    ['SHELL x', 'SHELL requires the arguments to be in JSON form'],
  ])('reject %j', (change, message) => {
    expect(() => applyChanges({}, [change])).toThrow(InvalidParameter);
    expect(() => applyChanges({}, [change])).toThrow(message);
  });
});

describe('expanding a word', () => {
  const variables = new Map([
    ['A', 'one two'],
    ['E', ''],
    ['N1', 'n'],
  ]);
  test.each([
    ['$A', 'one two'],
    ['${A}x', 'one twox'],
    ["'$A'", '$A'],
    ['"$A"', 'one two'],
    ['\\$A', '$A'],
    ['"a\\"b"', 'a"b'],
    ['"a\\b"', 'a\\b'],
    ['$', '$'],
    ['$$', ''],
    ['a$ b', 'a$ b'],
    ['${X:-d}', 'd'],
    ['${E:-d}', 'd'],
    ['${E-d}', ''],
    ['${A:+y}', 'y'],
    ['${X:+y}', ''],
    ['${X:-${A}}', 'one two'],
    ['$N1x', ''],
    ['${N1}x', 'nx'],
    ['é$A', 'éone two'],
  ])('turns %s into %s', (word, expected) => expect(expandWord(word, variables)).toBe(expected));
  test('splits into words after expansion, keeping quoted text together', () => {
    expect(expandWords('$A "$A" x\\ y', variables)).toEqual(['one', 'two', 'one two', 'x y']);
  });
  test.each(['${A', '${}', '${:x}', '${A:=x}', "'x", '${X:?not there}'])('rejects %s', (word) =>
    expect(() => expandWord(word, variables)).toThrow(InvalidParameter),
  );
});

describe('times of clients', () => {
  test('parses durations', () => {
    expect(['1h30m', '1.5s', '100ms', '-2us', '0', '.5s', '1µs'].map(parseDuration)).toEqual([
      5_400_000_000_000n,
      1_500_000_000n,
      100_000_000n,
      -2_000n,
      0n,
      500_000_000n,
      1_000n,
    ]);
    for (const text of ['', '5', 's', '1x', '1s5', '--1s', '1e3s'])
      expect(() => parseDuration(text)).toThrow(InvalidParameter);
  });
  test('parses and prints RFC 3339 to the nanosecond', () => {
    expect(parseRfc3339('2001-02-03T04:05:06.789012345Z')).toBe(981_173_106_789_012_345n);
    expect(parseRfc3339('2001-02-03T05:05:06+01:00')).toBe(981_173_106_000_000_000n);
    expect(parseRfc3339('0001-01-01T00:00:00Z')).toBeLessThan(0n);
    expect(parseRfc3339('yesterday')).toBeUndefined();
    fc.assert(
      fc.property(
        fc.bigInt({ min: -(10n ** 18n), max: 4n * 10n ** 18n }),
        (ns) => parseRfc3339(formatRfc3339(ns)) === ns,
      ),
    );
  });
  test('parses points in time', () => {
    const now = 1_700_000_000_000_000_000n;
    expect(parseMoment('24h', now)).toBe(now - 86_400_000_000_000n);
    expect(parseMoment('1600000000.5', now)).toBe(1_600_000_000_500_000_000n);
    expect(parseMoment('2020-01-02T03:04:05Z', now)).toBe(1_577_934_245_000_000_000n);
    expect(() => parseMoment('soon', now)).toThrow('failed to parse value as time or duration: "soon"');
  });
});
