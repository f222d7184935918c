/**
 * Every form of image that a real registry (Debian's docker-registry) may hold is pulled, pushed to another registry,
 * and pulled by another engine as the same image.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { archive, digestOf, directory, hardlink, symlink } from '../support/tar.ts';
import { putBlob, putManifest, startRegistry, type TestRegistry } from '../support/registry.ts';
import { busyboxTar } from '../support/busybox.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';

const OCI = 'application/vnd.oci.image';
const INDEX = `${OCI}.index.v1+json`;

type Compression = 'gzip' | 'zstd' | 'none';
const MEDIA: Record<Compression, string> = {
  gzip: `${OCI}.layer.v1.tar+gzip`,
  zstd: `${OCI}.layer.v1.tar+zstd`,
  none: `${OCI}.layer.v1.tar`,
};
const compressed: Record<Compression, (tar: Buffer) => Buffer> = {
  gzip: (tar) => gzipSync(tar),
  zstd: (tar) => execFileSync('zstd', ['-qc'], { input: tar, maxBuffer: 1 << 28 }),
  none: (tar) => tar,
};

const big = (letter: string): string => letter.repeat(300_000);
/** A layer with names that occur more than once, replacing entries of the same and of other types. */
const REPEATED = archive(
  ['f', big('a')],
  ['g', 'x'],
  ['f', 'b'],
  ['f', big('c')],
  ['d', 'a file first'],
  directory('d'),
  ['d/x', 'then a directory'],
  ['old', 'old'],
  hardlink('kept', 'old'),
  ['old', 'new'],
  directory('real'),
  symlink('through', 'real'),
  ['through/y', 'one'],
  ['real/y', 'two'],
  ['g', 'x'],
);
const UPPER = archive(['.wh.g', ''], ['d/z', 'above']);

let engine: TestEngine;
let other: TestEngine;
let registry: TestRegistry;
let second: TestRegistry;
let tmp: string;

beforeAll(async () => {
  [engine, other, registry, second] = await Promise.all([
    startEngine(),
    startEngine(),
    startRegistry(),
    startRegistry(),
  ]);
  tmp = mkdtempSync(join(tmpdir(), 'holdfast-forms-'));
});
afterAll(async () => {
  for (const each of [engine, other, registry, second]) await each[Symbol.asyncDispose]();
  rmSync(tmp, { recursive: true, force: true });
});

/** Stores an image of these layers in the registry and returns the descriptor of its manifest. */
async function put(
  path: string,
  tag: string,
  layers: [tar: Buffer, form: Compression][],
  architecture = 'amd64',
): ReturnType<typeof putManifest> {
  const { host } = registry;
  const config = Buffer.from(
    JSON.stringify({
      architecture,
      os: 'linux',
      config: { Cmd: ['cat', '/f'] },
      rootfs: { type: 'layers', diff_ids: layers.map(([tar]) => digestOf(tar)) },
    }),
  );
  return putManifest(host, path, tag, {
    schemaVersion: 2,
    mediaType: `${OCI}.manifest.v1+json`,
    config: await putBlob(host, path, config, `${OCI}.config.v1+json`),
    layers: await Promise.all(layers.map(([tar, form]) => putBlob(host, path, compressed[form](tar), MEDIA[form]))),
  } as { mediaType: string });
}

interface Inspected {
  Id: string;
  Architecture: string;
  RepoDigests: string[];
  RootFS: { Layers: string[] };
}
const inspect = async (at: TestEngine, name: string): Promise<Inspected> =>
  (JSON.parse(await at.dockerOutput('image', 'inspect', name)) as Inspected[])[0]!;
const manifestOf = async (
  host: string,
  path: string,
  tag: string,
): Promise<{ mediaType: string; layers: { mediaType: string; digest: string }[] }> =>
  (
    await fetch(`http://${host}/v2/${path}/manifests/${tag}`, {
      headers: { accept: `${OCI}.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json` },
    })
  ).json() as never;
/** The archives of the layers, lowest first, as `docker save` writes them. */
async function saved(at: TestEngine, name: string): Promise<Buffer[]> {
  const file = join(tmp, 'saved.tar');
  await at.dockerOutput('save', '-o', file, name);
  const part = (path: string): Buffer => execFileSync('tar', ['-xOf', file, path], { maxBuffer: 1 << 28 });
  return (JSON.parse(part('manifest.json').toString()) as { Layers: string[] }[])[0]!.Layers.map(part);
}

describe('an image that is pulled, pushed to other repositories and pulled by another engine', () => {
  test.each<[string, [Buffer, Compression][]]>([
    [
      'gzip',
      [
        [busyboxTar(), 'gzip'],
        [REPEATED, 'gzip'],
        [UPPER, 'gzip'],
      ],
    ],
    [
      'zstd',
      [
        [busyboxTar(), 'zstd'],
        [REPEATED, 'zstd'],
        [UPPER, 'zstd'],
      ],
    ],
    [
      'uncompressed',
      [
        [busyboxTar(), 'none'],
        [REPEATED, 'none'],
        [UPPER, 'none'],
      ],
    ],
    [
      'mixed',
      [
        [busyboxTar(), 'gzip'],
        [REPEATED, 'zstd'],
        [UPPER, 'none'],
      ],
    ],
  ])('is the same with %s layers and repeated names [layer-forms-round-trip]', async (name, layers) => {
    const path = `form/${name.replaceAll(' ', '-')}`;
    const put1 = await put(path, '1', layers);
    const [first, copy, far] = [
      `${registry.host}/${path}:1`,
      `${registry.host}/copy/${path}:1`,
      `${second.host}/${path}:1`,
    ];
    expect(await engine.dockerOutput('pull', first)).toContain(`Digest: ${put1.digest}`);
    const image = await inspect(engine, first);
    expect(image.RootFS.Layers).toEqual(layers.map(([tar]) => digestOf(tar)));
    expect(await engine.dockerOutput('run', '--rm', '--network', 'none', first)).toBe(big('c'));
    expect(
      await engine.dockerOutput(
        ...['run', '--rm', '--network', 'none'],
        ...[first, 'sh', '-c', 'cat /kept /old /through/y /d/x /d/z; ls /g 2>/dev/null || echo " no g"'],
      ),
    ).toBe('oldnewtwothen a directoryabove no g\n');

    // Within one registry nothing is uploaded: the blobs and the manifest are the same.
    await engine.dockerOutput('tag', first, copy);
    const pushed = await engine.dockerOutput('push', copy);
    expect(pushed.match(/Mounted from/g)).toHaveLength(3);
    expect(pushed).toContain(`digest: ${put1.digest}`);
    expect((await manifestOf(registry.host, `copy/${path}`, '1')).layers.map(({ mediaType }) => mediaType)).toEqual(
      layers.map(([, form]) => MEDIA[form]),
    );

    await engine.dockerOutput('tag', first, far);
    const digest = /digest: (sha256:\S+)/.exec(await engine.dockerOutput('push', far))![1]!;
    for (const [from, expected] of [
      [copy, put1.digest],
      [far, digest],
    ] as const) {
      expect(await other.dockerOutput('pull', from)).toContain(`Digest: ${expected}`);
      const there = await inspect(other, from);
      expect([there.Id, there.RootFS]).toEqual([image.Id, image.RootFS]);
      expect((await saved(other, from)).map(digestOf)).toEqual(image.RootFS.Layers);
      expect(await other.dockerOutput('run', '--rm', '--network', 'none', from)).toBe(big('c'));
      await other.dockerOutput('rmi', from);
    }
    await engine.dockerOutput('rmi', first, copy, far);
  });

  test('save and load keep ids and layer bytes, in another engine and in this one [save-load-identical]', async () => {
    const source = `${registry.host}/twice:1`;
    await put('twice', '1', [
      [REPEATED, 'gzip'],
      [UPPER, 'none'],
    ]);
    await engine.dockerOutput('pull', '-q', source);
    const image = await inspect(engine, source);
    const file = join(tmp, 'twice.tar');
    await engine.dockerOutput('save', '-o', file, source);
    await engine.dockerOutput('rmi', source);
    for (const at of [other, engine]) {
      expect(await at.dockerOutput('load', '-i', file)).toBe(`Loaded image: ${source}\n`);
      expect(await inspect(at, source)).toMatchObject({ Id: image.Id, RootFS: image.RootFS });
      expect(await saved(at, source)).toEqual([REPEATED, UPPER]);
    }
    await other.dockerOutput('rmi', source);
    await engine.dockerOutput('rmi', source);
  });
});

test('a pull from a manifest list selects the platform, and warns about a mismatch [pull-platform]', async () => {
  const images = await Promise.all(
    [
      ['amd64', REPEATED],
      ['arm64', UPPER],
    ].map(async ([architecture, tar]) => ({
      ...(await put('many', architecture as string, [[tar as Buffer, 'gzip']], architecture as string)),
      platform: { os: 'linux', architecture: architecture as string },
    })),
  );
  const list = await putManifest(registry.host, 'many', 'all', {
    schemaVersion: 2,
    mediaType: INDEX,
    manifests: images,
  } as { mediaType: string });
  const name = `${registry.host}/many:all`;
  const distribution = (await engine.api('GET', `/distribution/${name}/json`)).json as object;
  expect(distribution).toEqual({
    Descriptor: { mediaType: INDEX, digest: list.digest, size: list.size },
    Platforms: images.map(({ platform }) => platform),
  });

  for (const architecture of ['arm64', 'amd64']) {
    expect(await engine.dockerOutput('pull', '--platform', `linux/${architecture}`, name)).toContain(
      `Digest: ${list.digest}`,
    );
    const image = await inspect(engine, name);
    expect([image.Architecture, image.RepoDigests]).toEqual([architecture, [`${registry.host}/many@${list.digest}`]]);
  }
  expect(await engine.dockerRefusal('pull', '--platform', 'linux/s390x', name)).toContain(
    'no matching manifest for linux/s390x in the manifest list entries',
  );
  const one = `${registry.host}/many:arm64`;
  expect((await engine.api('POST', `/images/create?fromImage=${one}&platform=linux/amd64`)).text).toContain(
    `WARNING: image with reference ${one} was found but its platform (linux/arm64) does not match the specified platform (linux/amd64)`,
  );
  await engine.dockerOutput('rmi', name, one);
});
