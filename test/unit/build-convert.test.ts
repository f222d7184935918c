import { describe, expect, test } from 'vitest';
import { NotFound } from '../../src/model/errors.ts';
import { convert, type BuildPlan, type BuildRequest, type NamedContext } from '../../src/engine/build/convert.ts';
import type { Copy, Node, Run } from '../../src/engine/build/graph.ts';
import { parseDockerfile } from '../../src/engine/dockerfile/dockerfile.ts';
import type { ImageConfig } from '../../src/engine/images/image.ts';
import { formatDuration } from '../../src/engine/images/go-time.ts';

const amd64 = { os: 'linux', architecture: 'amd64' };

const imageConfig = (config: ImageConfig['config'] = {}): ImageConfig => ({
  ...amd64,
  config,
  rootfs: { type: 'layers', diff_ids: ['sha256:1'] },
  history: [{ created_by: 'base' }],
});

const IMAGES: Record<string, ImageConfig> = {
  alpine: imageConfig({ Env: ['PATH=/bin', 'LANG=C'], Cmd: ['sh'] }),
  node: imageConfig({ WorkingDir: '/app', User: 'web', OnBuild: ['ARG FROM_BASE=1', 'COPY --from=tools /t /t'] }),
  tools: imageConfig(),
};

function build(
  text: string,
  request: Partial<BuildRequest> = {},
  contexts: Record<string, NamedContext> = {},
): Promise<BuildPlan> {
  const file = parseDockerfile(text);
  return convert(
    {
      file,
      target: '',
      arguments: new Map(),
      labels: {},
      platform: amd64,
      buildPlatform: amd64,
      network: 'default',
      noCache: new Set(),
      ...request,
    },
    {
      resolveImage: (reference) => {
        const config = IMAGES[reference];
        if (!config) return Promise.reject(new NotFound(`${reference}: not found`));
        return Promise.resolve({ id: reference, reference: `docker.io/library/${reference}`, config });
      },
      namedContext: (name) => contexts[name],
    },
  );
}

/** From the top to the base. */
function chain(node: Node): Node[] {
  return 'base' in node ? [node, ...chain(node.base)] : [node];
}
const labels = ({ root }: BuildPlan): string[] =>
  chain(root).flatMap((node) => ('shown' in node ? [node.shown.label] : []));
const history = ({ image }: BuildPlan): string[] => image.history.map(({ createdBy }) => createdBy);
const run = ({ root }: BuildPlan): Run => {
  expect(root.kind).toBe('run');
  return root as Run;
};
const copy = ({ root }: BuildPlan): Copy => {
  expect(root.kind).toBe('copy');
  return root as Copy;
};

describe('a stage', () => {
  test('becomes a chain of nodes, a configuration and a history', async () => {
    const plan = await build(
      'FROM alpine\nENV A=1 B="2 $LANG"\nWORKDIR /w\nRUN make $A\nCOPY --chown=1:2 a b .\nUSER u\nCMD ["x"]\nEXPOSE 80\nVOLUME /v',
    );
    expect(chain(plan.root).map(({ kind }) => kind)).toEqual(['copy', 'run', 'mkdir', 'image']);
    expect(labels(plan)).toEqual([
      '[4/4] COPY --chown=1:2 a b .',
      '[3/4] RUN make 1',
      '[2/4] WORKDIR /w',
      '[1/4] FROM docker.io/library/alpine',
    ]);
    expect(plan.image.config).toEqual({
      Env: ['PATH=/bin', 'LANG=C', 'A=1', 'B=2 C'],
      WorkingDir: '/w',
      User: 'u',
      Cmd: ['x'],
      ExposedPorts: { '80/tcp': {} },
      Volumes: { '/v': {} },
      OnBuild: null,
    });
    expect(history(plan)).toEqual([
      'ENV A=1 B=2 C',
      'WORKDIR /w',
      'RUN /bin/sh -c make $A # buildkit',
      'COPY --chown=1:2 a b . # buildkit',
      'USER u',
      'CMD ["x"]',
      'EXPOSE [80]',
      'VOLUME [/v]',
    ]);
    expect(plan.image.inherited).toEqual([{ created_by: 'base' }]);
  });

  test('of nothing has a PATH and no other variable', async () => {
    const plan = await build('FROM scratch\nCOPY a /');
    expect(plan.image.config.Env).toEqual(['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin']);
    expect(labels(plan)).toEqual(['[1/1] COPY a /']);
  });

  test('takes its arguments from the request, the default, the file', async () => {
    const text = 'ARG V=1\nARG W=$V\nFROM alpine\nARG V\nARG W=x\nARG X=${W}y\nARG Y\nRUN a';
    const plan = await build(text, { arguments: new Map([['W', 'given']]) });
    expect(run(plan).env).toEqual(['PATH=/bin', 'LANG=C', 'V=1', 'W=given', 'X=giveny']);
    expect(history(plan).at(-1)).toBe('RUN |4 V=1 W=given X=giveny Y= /bin/sh -c a # buildkit');
    expect(plan.image.config.Env).toEqual(['PATH=/bin', 'LANG=C']);
  });

  test('is given proxies without declaring them, and they do not show', async () => {
    const plan = await build('FROM alpine\nRUN a', { arguments: new Map([['HTTP_PROXY', 'p']]) });
    expect(run(plan).proxy).toEqual({ HTTP_PROXY: 'p', http_proxy: 'p' });
    expect(history(plan)).toEqual(['RUN /bin/sh -c a # buildkit']);
  });

  test('knows the platform where it asks for it', async () => {
    const plan = await build('FROM --platform=$BUILDPLATFORM alpine\nARG TARGETARCH\nRUN $TARGETARCH', {
      platform: { os: 'linux', architecture: 'arm64', variant: 'v8' },
    });
    expect(run(plan).env).toContain('TARGETARCH=arm64');
  });

  test('has the labels of the request', async () => {
    const plan = await build('FROM alpine\nLABEL a=1 b=1', { labels: { b: '2' } });
    expect(plan.image.config.Labels).toEqual({ a: '1', b: '2' });
  });
});

describe('several stages', () => {
  const text =
    'FROM alpine AS one\nRUN 1\nFROM one AS two\nRUN 2\nFROM scratch AS unused\nCOPY x /\nFROM alpine\nCOPY --from=two /2 /\nCOPY --from=0 /1 /\nCOPY --from=tools /t /';
  test('are connected by name, number and image', async () => {
    const plan = await build(text);
    const sources = chain(plan.root).flatMap((node) => (node.kind === 'copy' ? [node.transfers[0]!.source] : []));
    expect(sources.map((source) => source.kind === 'node' && labelOf(source.node))).toEqual(
      ['[stage-3 1/1] FROM docker.io/library/tools', '[one 2/2] RUN 1', '[two 1/1] RUN 2'].map((label) =>
        label.replace('[stage-3 1/1]', '[1/1]'),
      ),
    );
  });

  const labelOf = (node: Node): string => ('shown' in node ? node.shown.label : node.kind);

  test('can be built up to one of them', async () => {
    expect(labels(await build(text, { target: 'ONE' }))).toEqual([
      '[one 2/2] RUN 1',
      '[one 1/2] FROM docker.io/library/alpine',
    ]);
    await expect(build(text, { target: 'tow' })).rejects.toThrow(
      'target stage "tow" could not be found (did you mean two?)',
    );
  });

  test('that are not needed do not need their images', async () => {
    await expect(build('FROM nowhere AS a\nFROM alpine')).resolves.toBeDefined();
    await expect(build('FROM nowhere AS a\nFROM alpine\nCOPY --from=a /x /')).rejects.toMatchObject({
      message: 'nowhere: not found',
      lines: { first: 1, last: 1 },
    });
  });

  test('cannot copy from later ones, nor from themselves', async () => {
    await expect(build('FROM alpine AS a\nCOPY --from=b /x /\nFROM alpine AS b\nCOPY --from=a /x /')).rejects.toThrow(
      'circular dependency detected on stage: a',
    );
    await expect(build('FROM alpine AS a\nCOPY --from=a /x /')).rejects.toThrow('circular dependency');
    await expect(build('FROM alpine AS a\nCOPY --from=b /x /\nFROM alpine AS b', { target: 'a' })).rejects.toThrow(
      'cannot copy from stage "b", it needs to be defined before current stage "a"',
    );
    await expect(build('FROM alpine\nCOPY --from=7 /x /')).rejects.toThrow('invalid stage index 7');
  });

  test('take the place of an image of the same name', async () => {
    const plan = await build('FROM alpine AS node\nRUN 1\nFROM node\nRUN 2');
    expect(labels(plan)).toEqual([
      '[stage-1 1/1] RUN 2',
      '[node 2/2] RUN 1',
      '[node 1/2] FROM docker.io/library/alpine',
    ]);
  });
});

describe('triggers', () => {
  test('of an image run first, with the stages that they need', async () => {
    const plan = await build('FROM node\nRUN a');
    expect(labels(plan).slice(0, 2)).toEqual(['[3/4] RUN a', '[2/4] ONBUILD COPY --from=tools /t /t']);
    expect(history(plan)[0]).toBe('ARG FROM_BASE=1');
    expect(plan.image.config.OnBuild).toBeNull();
  });

  test('of a stage run in the stages that are based on it', async () => {
    const plan = await build('FROM alpine AS base\nONBUILD RUN <<E\nx\nE\nFROM base\nRUN y');
    expect(labels(plan).slice(0, 2)).toEqual(['[stage-1 2/2] RUN y', '[stage-1 1/2] ONBUILD RUN <<E (x)']);
  });
});

describe('RUN', () => {
  test.each([
    ['RUN ["a", "b c"]', ['a', 'b c'], '[2/2] RUN ["a", "b c"]'],
    ['SHELL ["/bin/bash", "-c"]\nRUN x', ['/bin/bash', '-c', 'x'], '[2/2] RUN x'],
    ['RUN <<EOF\na\nb\nEOF\n', ['/bin/sh', '-c', 'a\nb\n'], '[2/2] RUN <<EOF (a...)'],
    ['RUN <<-EOF\n\ta\nEOF\n', ['/bin/sh', '-c', 'a\n'], '[2/2] RUN <<-EOF (a)'],
    ['RUN cat <<A >x\n1\nA\n', ['/bin/sh', '-c', 'cat <<A >x\n1\nA'], '[2/2] RUN cat <<A >x'],
  ])('%j', async (text, argv, label) => {
    const plan = await build(`FROM alpine\n${text}`);
    expect(run(plan).argv).toEqual(argv);
    expect(run(plan).shown.label).toBe(label);
  });

  test('a script with an interpreter is a file', async () => {
    const { argv, mounts } = run(await build('FROM alpine\nRUN <<EOF\n#!/bin/x\na\nEOF\n'));
    expect(argv).toEqual(['/dev/pipes/EOF']);
    expect(mounts).toMatchObject([{ target: '/dev/pipes/', source: { content: '#!/bin/x\na\n', mode: 0o755 } }]);
  });

  test('mounts have their defaults', async () => {
    const mounts = [
      'type=cache,target=c',
      'target=/b',
      'type=secret,id=s',
      'type=secret,id=s,env=S',
      'type=ssh',
      'type=tmpfs,target=/t,size=$SIZE',
    ];
    const flags = mounts.map((mount) => `--mount=${mount}`).join(' ');
    const plan = await build(`FROM alpine\nWORKDIR /w\nARG SIZE=1k\nRUN ${flags} a`);
    expect(run(plan).mounts).toMatchObject([
      { type: 'cache', target: '/w/c', id: '/w/c', sharing: 'shared', readOnly: false },
      { type: 'bind', target: '/b', source: { kind: 'context', name: '' }, path: '/', readOnly: true },
      { type: 'secret', target: '/run/secrets/s', id: 's', mode: 0o400, required: false },
      { type: 'secret', target: '', env: 'S' },
      { type: 'ssh', target: '/run/buildkit/ssh_agent.0', id: 'default' },
      { type: 'tmpfs', target: '/t', size: 1024 },
    ]);
    await expect(build('FROM alpine\nRUN --mount=target=/ a')).rejects.toMatchObject({
      message: 'invalid mount target "/"',
      lines: { first: 2 },
    });
  });
});

describe('COPY and ADD', () => {
  test.each([
    ['COPY a b/', { destination: '/w/b/' }, { path: '/a', isPattern: true, unpack: false }],
    ['COPY ../../a .', { destination: '/w/' }, { path: '/a' }],
    ['COPY a/ /', { destination: '/' }, { path: '/a/' }],
    ['COPY --parents x/./y/*.c z', { destination: '/w/z' }, { path: '/x', include: 'y/*.c', required: false }],
    ['COPY --parents x/y z', {}, { path: '/', include: 'x/y', required: true }],
    ['ADD a.tar b', {}, { unpack: true }],
    ['ADD --unpack=false a.tar b', {}, { unpack: false }],
    ['ADD https://h/p/f.tgz?q=1 b', {}, { source: { kind: 'http', name: 'f.tgz' }, path: '/f.tgz', unpack: false }],
    ['ADD https://h/ b', {}, { source: { kind: 'http', name: '__unnamed__' } }],
    ['ADD https://h/r.git#main b', {}, { source: { kind: 'git', keepGitDir: false } }],
    ['COPY <<"f" b\n$x\nf\n', {}, { source: { kind: 'inline', name: 'f', content: '$x\n', mode: 0o644 }, path: '/f' }],
    ['ENV x=1\nCOPY <<f b\n"$x"\nf\n', {}, { source: { content: '"1"\n' } }],
    ['COPY --exclude=*.o --link --chmod=u=rwX,go-w a b', { mode: 'u=rwX,go-w', isLinked: true }, { exclude: ['*.o'] }],
  ])('%j', async (text, expected, transfer) => {
    const node = copy(await build(`FROM alpine\nWORKDIR /w\n${text}`));
    expect(node).toMatchObject(expected);
    expect(node.transfers[0]).toMatchObject(transfer);
  });

  test.each([
    ['COPY https://h/f b', "source can't be a URL for COPY"],
    ['COPY git@h:r.git b', "source can't be a git ref for COPY"],
    ['COPY --chmod=9 a b', "invalid chmod parameter: '9'. it should be octal string and between 0 and 07777"],
    ['ADD --checksum=sha256:0 a b', 'checksum requires HTTP(S) or Git sources'],
    ['ADD --checksum=sha256:0 https://h/a https://h/b c', "checksum can't be specified for multiple sources"],
    ['ENV x=one\nCOPY --from=$x a b', /^variable expansion is not supported for --from/],
  ])('%s is rejected', async (text, message) => {
    await expect(build(`FROM alpine\n${text}`)).rejects.toThrow(message);
  });

  test('contexts that the client names come before images and stages', async () => {
    const plan = await build(
      'FROM alpine AS src\nRUN x\nFROM scratch\nCOPY --from=src a /\nCOPY --from=lib b /',
      {},
      {
        src: { kind: 'files' },
        lib: { kind: 'files' },
      },
    );
    const sources = chain(plan.root).flatMap((node) => (node.kind === 'copy' ? [node.transfers[0]!.source] : []));
    expect(sources).toEqual([
      { kind: 'context', name: 'lib' },
      { kind: 'context', name: 'src' },
    ]);
  });
});

test.each([
  [0n, '0s'],
  [1n, '1ns'],
  [1_500n, '1.5µs'],
  [200_000_000n, '200ms'],
  [30_000_000_000n, '30s'],
  [90_500_000_000n, '1m30.5s'],
  [3_600_000_000_000n, '1h0m0s'],
  [-1_000_000_000n, '-1s'],
])('%d ns is %s', (ns, text) => {
  expect(formatDuration(ns)).toBe(text);
});
