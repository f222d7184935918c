/**
 * Images by the real docker CLI against a real daemon: diff, export, commit, save, load, prune, disk usage, removal,
 * and exchange with a dockerd.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { get, type ClientRequest } from 'node:http';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { archive, type Item } from '../support/tar.ts';
import { startRegistry } from '../support/registry.ts';
import { newEntry } from '../../src/engine/images/tar-writer.ts';
import { busyboxTar } from '../support/busybox.ts';
import { startDockerd, type Dockerd } from '../support/dockerd.ts';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { request } from '../support/http.ts';
import { until } from '../support/until.ts';

let engine: TestEngine;
let tmp: string;
let count = 0;
beforeAll(async () => {
  engine = await startEngine();
  tmp = mkdtempSync('/tmp/hf-images-');
});
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
  rmSync(tmp, { recursive: true, force: true });
});

const { ok: docker, refusal } = dockerOf(() => engine);
const inspect = async <T = Record<string, unknown>>(name: string): Promise<T> =>
  (JSON.parse(await docker('inspect', name)) as T[])[0]!;
const idOf = async (name: string): Promise<string> => (await inspect<{ Id: string }>(name)).Id;
const entries = (tar: string): string[] => execFileSync('tar', ['-tf', tar], { encoding: 'utf8' }).trim().split('\n');
const fromTar = (tar: string, name: string): Buffer => execFileSync('tar', ['-xOf', tar, name], { maxBuffer: 1 << 28 });
const fresh = (): string => `n${++count}`;
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

/** Commits an image with one more file and returns its id. */
async function made(name: string, text: string, ...args: string[]): Promise<string> {
  const c = fresh();
  await docker('run', '--name', c, ...args, 'busybox', 'sh', '-c', `echo ${text} > /${text}`);
  const id = await docker('commit', c, name);
  await docker('rm', c);
  return id;
}

/** The events since `since` that match the filter, one line each in the format. */
async function events(since: string, filter: string, format: string): Promise<string[]> {
  const range = ['--since', since, '--until', new Date().toISOString()];
  const text = await docker('events', ...range, '--filter', filter, '--format', format);
  return text.split('\n').filter((line) => line !== '');
}
const imageEvents = (since: string): Promise<string[]> =>
  events(since, 'type=image', '{{.Action}} {{with .Actor.Attributes.name}}{{.}}{{end}}');

describe('what a container changed', () => {
  test('is listed by diff, without the mount points that the engine creates [diff-changes]', async () => {
    const c = fresh();
    await docker(
      ...['run', '--name', c],
      ...['busybox', 'sh', '-c'],
      'echo x > /etc/new; rm /etc/group; mkdir -p /a/b; chmod 700 /tmp; rm -rf /var/spool; mkdir /var/spool; touch /home/z; rm /home/z',
    );
    expect((await docker('diff', c)).split('\n')).toEqual([
      'A /a',
      'A /a/b',
      'C /etc',
      'D /etc/group',
      'A /etc/new',
      'C /tmp',
      'C /var',
      'C /var/spool',
      'D /var/spool/mail',
    ]);
    await docker('rm', c);
  });

  test('is empty for a container that never ran', async () => {
    const id = await docker('create', 'busybox', 'true');
    expect((await engine.api('GET', `/containers/${id}/changes`)).text).toBe('null\n');
    expect(await docker('diff', id)).toBe('');
    await docker('rm', id);
  });

  test('is listed while the container runs, and symlinks that it swaps are not followed', async () => {
    const c = fresh();
    await docker(
      ...['run', '-d', '--name', c],
      ...['busybox', 'sh', '-c', 'while :; do rm -rf /d; ln -s / /d; rm /d; mkdir -p /d/etc; done'],
    );
    try {
      for (let i = 0; i < 5; i++) {
        const lines = (await docker('diff', c)).split('\n');
        expect(lines.filter((line) => !/^A \/d(\/etc)?$/.test(line) && line !== '')).toEqual([]);
        const names = execFileSync('tar', ['-tf', '-'], {
          input: (await engine.api('GET', `/containers/${c}/export`)).body,
          encoding: 'utf8',
          maxBuffer: 1 << 28,
        }).split('\n');
        expect(names.filter((name) => name.startsWith('d/') && !/^d\/(etc\/)?$/.test(name))).toEqual([]);
      }
    } finally {
      await docker('rm', '-f', c);
    }
  });
});

describe('export', () => {
  test('contains all files of a running and of a stopped container, without volumes [export-files]', async () => {
    const c = fresh();
    await docker(
      ...['run', '-d', '--name', c, '-v', '/data'],
      ...['busybox', 'sh', '-c', 'echo v > /data/in-volume; echo x > /here; sleep 1000'],
    );
    const list = async (): Promise<string[]> => {
      await docker('export', '-o', join(tmp, 'e.tar'), c);
      return entries(join(tmp, 'e.tar'));
    };
    await until(async () => (await docker('exec', c, 'ls', '/')).includes('here'));
    const running = await list();
    expect(running).toEqual(
      expect.arrayContaining(['here', 'bin/busybox', 'data/', 'etc/hosts', '.dockerenv', 'dev/console']),
    );
    expect(running).not.toContain('data/in-volume');
    expect(fromTar(join(tmp, 'e.tar'), 'here').toString()).toBe('x\n');
    expect(fromTar(join(tmp, 'e.tar'), 'etc/hosts').length).toBe(0);
    await docker('kill', c);
    expect(await list()).toEqual(running);
    await docker('import', join(tmp, 'e.tar'), 'again');
    expect(await docker('run', '--rm', 'again', 'cat', '/here')).toBe('x');
    await docker('rm', '-v', c);
  });

  test('stops when its client disconnects', async () => {
    const c = fresh();
    await docker('run', '--name', c, 'busybox', 'dd', 'if=/dev/zero', 'of=/big', 'bs=1M', 'count=100');
    const packers = (): string[] =>
      execFileSync('ps', ['-eo', 'stat,args'], { encoding: 'utf8' })
        .split('\n')
        .filter((line) => line.includes('packer.cjs') && line.includes(engine.root) && !line.startsWith('Z'));
    const sent = await new Promise<ClientRequest>((resolve) => {
      const pending = get({ socketPath: engine.socket, path: `/containers/${c}/export` }, (answer) =>
        answer.once('data', () => {
          answer.pause();
          resolve(pending);
        }),
      );
      pending.on('error', () => undefined);
    });
    await new Promise((resolve) => setTimeout(resolve, 300));
    // The packer is blocked by the slow client.
    expect(packers().length).toBe(1);
    sent.destroy();
    await until(() => packers().length === 0);
    await docker('rm', c);
  });
});

describe('commit', () => {
  test('creates an image with files, settings, author and comment [commit-image]', async () => {
    const c = fresh();
    const since = new Date().toISOString();
    await docker(
      ...['run', '--name', c, '-e', 'A=1', '--label', 'a=b', '-w', '/tmp'],
      ...['busybox', 'sh', '-c', 'echo new > /new; rm /etc/group'],
    );
    const id = await docker(
      ...['commit', '-a', 'Me <me@x>', '-m', 'a message', '-c', 'ENV B=2', '-c', 'CMD ["cat", "/new"]'],
      ...['-c', 'EXPOSE 80', '-c', 'LABEL c=d', c, 'mine:1'],
    );
    expect(await docker('run', '--rm', 'mine:1')).toBe('new');
    expect(await refusal('run', '--rm', 'mine:1', 'cat', '/etc/group')).toMatch(/No such file/);
    const image = await inspect<{
      Id: string;
      Author: string;
      Config: Record<string, unknown>;
      Parent: string;
      RootFS: { Layers: string[] };
    }>('mine:1');
    const base = await inspect<{ Id: string; RootFS: { Layers: string[] } }>('busybox');
    expect(image).toMatchObject({
      Id: id,
      Author: 'Me <me@x>',
      Parent: base.Id,
      Config: {
        Env: ['A=1', 'B=2'],
        Cmd: ['cat', '/new'],
        WorkingDir: '/tmp',
        ExposedPorts: { '80/tcp': {} },
        Labels: { a: 'b', c: 'd' },
      },
    });
    expect(image.RootFS.Layers.slice(0, -1)).toEqual(base.RootFS.Layers);
    expect(
      (await docker('history', '--format', '{{.CreatedBy}}|{{.Comment}}|{{.Size}}', '--no-trunc', 'mine:1')).split(
        '\n',
      )[0],
    ).toBe('sh -c echo new > /new; rm /etc/group|a message|4B');
    const format = '{{.Actor.Attributes.imageRef}} {{.Actor.Attributes.imageID}} {{.Actor.Attributes.comment}}';
    expect(await events(since, 'event=commit', format)).toEqual([`mine:1 ${id} a message`]);
    await docker('rm', c);
    await docker('rmi', 'mine:1');
  });

  test('adds no layer without changes, and the same layer for the same changes', async () => {
    const c = await docker('create', 'busybox', 'true');
    await docker('commit', c, 'empty');
    expect((await inspect<{ RootFS: { Layers: string[] } }>('empty')).RootFS.Layers).toEqual(
      (await inspect<{ RootFS: { Layers: string[] } }>('busybox')).RootFS.Layers,
    );
    await docker('rm', c);
    const d = fresh();
    await docker('run', '--name', d, 'busybox', 'sh', '-c', 'for i in 5 3 1; do echo $i > /$i; done');
    await docker('commit', d, 'one');
    await docker('commit', '-m', 'other', d, 'two');
    expect(await idOf('one')).not.toBe(await idOf('two'));
    expect((await inspect<{ RootFS: unknown }>('one')).RootFS).toEqual(
      (await inspect<{ RootFS: unknown }>('two')).RootFS,
    );
    await docker('rm', d);
    await docker('rmi', 'empty', 'one', 'two');
  });

  test('pauses a running container unless --pause=false', async () => {
    const c = fresh();
    await docker('run', '-d', '--name', c, 'busybox', 'sleep', '1000');
    const commitEvents = async (...args: string[]): Promise<string> => {
      const since = new Date().toISOString();
      await docker('commit', ...args, c, 'paused');
      return (await events(since, `container=${c}`, '{{.Action}}')).join(' ');
    };
    expect(await commitEvents()).toBe('pause commit unpause');
    expect(await commitEvents('--pause=false')).toBe('commit');
    expect(await docker('inspect', '-f', '{{.State.Status}}', c)).toBe('running');
    await docker('rm', '-f', c);
    await docker('rmi', 'paused');
  });

  test('refuses what Docker refuses, with its messages', async () => {
    const c = await docker('create', 'busybox', 'true');
    expect(await refusal('commit', 'nobody', 'x')).toBe('Error response from daemon: No such container: nobody');
    expect((await engine.api('POST', `/commit?container=${c}&repo=AA`)).status).toBe(400);
    expect((await engine.api('POST', `/commit?container=${c}&changes=RUN%20x`)).text).toMatch(
      /is not a valid change command/,
    );
    await docker('rm', c);
  });
});

describe('save and load', () => {
  test('save writes several images as an OCI layout with manifest.json, and load restores them [save-load-oci]', async () => {
    const [a, b] = [await made('sa:1', 'first'), await made('sb:1', 'second')];
    await docker('tag', 'sa:1', 'sa:2');
    const file = join(tmp, 's.tar');
    await docker('save', '-o', file, 'sa', 'sb:1');
    const names = entries(file);
    expect(names.slice(0, 2)).toEqual(['blobs/', 'blobs/sha256/']);
    expect(names.slice(-4)).toEqual(['index.json', 'manifest.json', 'oci-layout', 'repositories']);
    for (const name of names.filter((each) => /^blobs\/sha256\/./.test(each)))
      expect(sha256(fromTar(file, name))).toBe(name.slice('blobs/sha256/'.length));
    const manifest = JSON.parse(fromTar(file, 'manifest.json').toString()) as {
      Config: string;
      RepoTags: string[];
      Layers: string[];
    }[];
    expect(manifest.map(({ Config, RepoTags }) => [Config, RepoTags])).toEqual([
      [`blobs/${a.replace(':', '/')}`, ['sa:1', 'sa:2']],
      [`blobs/${b.replace(':', '/')}`, ['sb:1']],
    ]);
    expect(
      (
        JSON.parse(fromTar(file, 'index.json').toString()) as { manifests: { annotations: Record<string, string> }[] }
      ).manifests.map(({ annotations }) => annotations['io.containerd.image.name']),
    ).toEqual(['docker.io/library/sa:1', 'docker.io/library/sa:2', 'docker.io/library/sb:1']);
    expect(JSON.parse(fromTar(file, 'oci-layout').toString())).toEqual({ imageLayoutVersion: '1.0.0' });
    expect(Object.keys(JSON.parse(fromTar(file, 'repositories').toString()) as object)).toEqual(['sa', 'sb']);

    const since = new Date().toISOString();
    await docker('rmi', 'sa:1', 'sa:2', 'sb:1');
    expect(await docker('load', '-i', file)).toBe('Loaded image: sa:1\nLoaded image: sa:2\nLoaded image: sb:1');
    expect([await idOf('sa:2'), await idOf('sb:1')]).toEqual([a, b]);
    expect(await docker('run', '--rm', 'sb:1', 'cat', '/second')).toBe('second');
    expect((await imageEvents(since)).filter((line) => line.startsWith('load'))).toEqual([`load ${a}`, `load ${b}`]);

    // Load the same images as a plain OCI layout, without Docker's own files.
    const layout = mkdtempSync(join(tmp, 'oci-'));
    execFileSync('tar', ['-C', layout, '-xf', file]);
    for (const name of ['manifest.json', 'repositories']) rmSync(join(layout, name));
    execFileSync('tar', ['-C', layout, '-czf', join(tmp, 'oci.tgz'), '.']);
    await docker('rmi', 'sa:1', 'sa:2', 'sb:1');
    await docker('load', '-i', join(tmp, 'oci.tgz'));
    expect([await idOf('sa:1'), await idOf('sb:1')]).toEqual([a, b]);
    await docker('rmi', 'sa:1', 'sa:2', 'sb:1');
  });

  test('load accepts an old archive with gzip, zstd and xz layers [load-old-archive]', async () => {
    const rootfs = archive(['hello', 'world']);
    const diffId = `sha256:${sha256(rootfs)}`;
    const config = Buffer.from(
      JSON.stringify({
        architecture: 'amd64',
        os: 'linux',
        config: {},
        rootfs: { type: 'layers', diff_ids: [diffId, diffId] },
      }),
    );
    const item = (name: string, body: Buffer): Item => ({ entry: newEntry('file', name, { size: body.length }), body });
    const zstd = execFileSync('zstd', ['-qc'], { input: rootfs });
    for (const layer of [gzipSync(rootfs), zstd, execFileSync('xz', ['-c'], { input: rootfs })]) {
      writeFileSync(
        join(tmp, 'old.tar'),
        archive(
          item('c.json', config),
          item('l/layer.tar', layer),
          item(
            'manifest.json',
            Buffer.from(
              JSON.stringify([{ Config: 'c.json', RepoTags: ['old:1'], Layers: ['l/layer.tar', 'l/layer.tar'] }]),
            ),
          ),
        ),
      );
      expect(await docker('load', '-i', join(tmp, 'old.tar'))).toBe('Loaded image: old:1');
      expect(await idOf('old:1')).toBe(`sha256:${sha256(config)}`);
      await docker('rmi', 'old:1');
    }
  });

  test('an image of 120 layers can be run, compared, exported and committed', async () => {
    const layers = Array.from({ length: 120 }, (_, i) => archive([`f${i}`, String(i)]));
    const config = Buffer.from(
      JSON.stringify({
        architecture: 'amd64',
        os: 'linux',
        config: {},
        rootfs: {
          type: 'layers',
          diff_ids: [`sha256:${sha256(busyboxTar())}`, ...layers.map((layer) => `sha256:${sha256(layer)}`)],
        },
      }),
    );
    const item = (name: string, body: Buffer): Item => ({ entry: newEntry('file', name, { size: body.length }), body });
    const names = layers.map((_, i) => `l${i}.tar`);
    writeFileSync(
      join(tmp, 'many.tar'),
      archive(
        item('c.json', config),
        item('base.tar', busyboxTar()),
        ...layers.map((layer, i) => item(names[i]!, layer)),
        item(
          'manifest.json',
          Buffer.from(JSON.stringify([{ Config: 'c.json', RepoTags: ['many:1'], Layers: ['base.tar', ...names] }])),
        ),
      ),
    );
    await docker('load', '-i', join(tmp, 'many.tar'));
    const c = fresh();
    await docker('run', '--name', c, 'many:1', 'sh', '-c', 'cat /f0 /f119; rm /f7');
    expect(await docker('logs', c)).toBe('0119');
    expect(await docker('diff', c)).toBe('D /f7');
    await docker('export', '-o', join(tmp, 'many-export.tar'), c);
    expect(entries(join(tmp, 'many-export.tar')).filter((name) => /^f\d/.test(name)).length).toBe(119);
    await docker('commit', c, 'many:2');
    expect(await docker('run', '--rm', 'many:2', 'sh', '-c', 'ls /f* | wc -l')).toBe('119');
    await docker('rm', c);
    await docker('rmi', 'many:1', 'many:2');
  });

  test('save of a missing image is refused', async () => {
    expect(await refusal('save', '-o', join(tmp, 'no.tar'), 'nosuch')).toBe(
      'Error response from daemon: No such image: nosuch',
    );
    expect(await refusal('save', '-o', join(tmp, 'no.tar'), 'nosuch:1')).toBe(
      'Error response from daemon: reference does not exist',
    );
    expect((await engine.api('GET', '/images/nosuch:1/get')).status).toBe(404);
  });

  test('a broken archive is refused and leaves nothing [load-broken-archive]', async () => {
    const rows = async (): Promise<string> => docker('images', '-aq');
    const before = await rows();
    for (const bytes of [
      Buffer.from('no archive at all'.repeat(100)),
      archive(['x', 'y']),
      archive(['manifest.json', '[{"Config":"../../etc/passwd","RepoTags":[],"Layers":[]}]']),
    ]) {
      const answer = await engine.api('POST', '/images/load', bytes, { 'Content-Type': 'application/x-tar' });
      expect(answer.status).toBe(200);
      expect((answer.json as { error: string }).error).not.toBe('');
    }
    for (const [config, fault] of [
      [{ config: { Labels: { a: 1 } } }, 'cannot unmarshal number into config.Labels.a of type string'],
      [{ config: { env: 'A=1' } }, 'cannot unmarshal string into config.Env of type list'],
      [{ config: { Env: [['A=1']] } }, 'cannot unmarshal array into config.Env of type string'],
      [{ config: { Volumes: ['/x'] } }, 'cannot unmarshal array into config.Volumes of type map'],
      [{ config: { Healthcheck: { Test: 'x' } } }, 'cannot unmarshal string into config.Healthcheck.Test of type list'],
      [{ config: 'x' }, 'cannot unmarshal string into config of type struct'],
      [{ created: 'yesterday' }, 'cannot unmarshal string into created of type time'],
      [{ history: [1] }, 'cannot unmarshal number into history of type struct'],
      [{ architecture: {} }, 'cannot unmarshal object into architecture of type string'],
    ] as const) {
      const bytes = archive(
        ['c.json', JSON.stringify({ os: 'linux', rootfs: { type: 'layers', diff_ids: [] }, ...config })],
        ['manifest.json', '[{"Config":"c.json","RepoTags":["odd:1"],"Layers":[]}]'],
      );
      expect(
        (await engine.api('POST', '/images/load', bytes, { 'Content-Type': 'application/x-tar' })).json,
      ).toMatchObject({ error: `invalid image JSON: ${fault}` });
    }
    expect(await rows()).toBe(before);
  });
});

describe('prune', () => {
  test('removes dangling images; with -a also unused ones; by label and age [image-prune]', async () => {
    await docker('image', 'prune', '-f');
    const first = await made('p:1', 'one');
    await made('p:1', 'two', '--label', 'keep=1');
    await made('p:2', 'three', '--label', 'keep=1');
    const c = await docker('create', 'p:2', 'true');
    expect(await docker('images', '-q', '--no-trunc', '--filter', 'dangling=true')).toBe(first);
    const since = new Date().toISOString();
    expect(await docker('image', 'prune', '-f')).toMatch(
      new RegExp(`^Deleted Images:\ndeleted: ${first}\ndeleted: sha256:[0-9a-f]{64}\n\nTotal reclaimed space: 4B$`),
    );
    expect(await imageEvents(since)).toEqual([`delete ${first}`, 'prune']);
    expect(await docker('image', 'prune', '-f')).toBe('Total reclaimed space: 0B');
    expect(await docker('image', 'prune', '-af', '--filter', 'label!=keep')).not.toContain('p:1');
    expect(await docker('image', 'prune', '-af', '--filter', 'until=24h')).toBe('Total reclaimed space: 0B');
    expect(await docker('image', 'prune', '-af', '--filter', 'label=keep=1')).toContain('untagged: p:1');
    expect(await docker('images', '--format', '{{.Repository}}:{{.Tag}}', 'p')).toBe('p:2');
    expect((await engine.api('POST', '/images/prune?filters={"nonsense":["1"]}')).text).toBe(
      `{"message":"invalid filter 'nonsense'"}\n`,
    );
    await docker('rm', c);
    await docker('rmi', 'p:2');
    // The second prune removed busybox.
    await engine.api('POST', '/images/create?fromSrc=-&repo=busybox&tag=latest', readFileSync(join(tmp, 'bb.tar')), {
      'Content-Type': 'application/x-tar',
    });
  });
  beforeAll(
    async () =>
      void (
        await docker('export', '-o', join(tmp, 'bb.tar'), await docker('create', 'busybox', 'true')),
        await docker('container', 'prune', '-f')
      ),
  );
});

test('df counts each layer once and answers only the requested types [df-sizes]', async () => {
  const ids = [await made('df:1', 'a'), await made('df:2', 'b')];
  const usage = async (query = ''): Promise<Record<string, unknown>> =>
    (await engine.api('GET', `/system/df${query}`)).json as Record<string, unknown>;
  const whole = (await usage()) as { LayersSize: number; Images: { Id: string; Size: number; SharedSize: number }[] };
  const [one, two] = ids.map((id) => whole.Images.find(({ Id }) => Id === id)!);
  expect([one!.Size - one!.SharedSize, two!.Size - two!.SharedSize]).toEqual([2, 2]);
  const others = await usage('?type=image&type=build-cache');
  expect(others).toEqual({
    LayersSize: whole.LayersSize,
    Images: expect.any(Array) as unknown,
    Containers: null,
    Volumes: null,
    BuildCache: [],
  });
  expect(await usage('?type=volume')).toMatchObject({
    LayersSize: 0,
    Images: null,
    Volumes: expect.any(Array) as unknown,
  });
  expect((await engine.api('GET', '/system/df?type=nonsense')).text).toBe(
    '{"message":"unknown object type: nonsense"}\n',
  );
  await docker('rmi', 'df:1', 'df:2');
  expect((await usage()).LayersSize).toBe(whole.LayersSize - 4);
});

test('layers of a removed image are freed with its last container [layers-freed-last]', async () => {
  await made('gone:1', 'layer');
  const size = async (): Promise<number> =>
    ((await engine.api('GET', '/system/df?type=image')).json as { LayersSize: number }).LayersSize;
  const before = await size();
  const c = await docker('create', 'gone:1', 'true');
  await docker('rmi', '-f', 'gone:1');
  expect(await size()).toBe(before);
  await docker('rm', c);
  expect(await size()).toBe(before - 6);
});

test('rmi refuses a multiply tagged or used image; with -f the container keeps its layers', async () => {
  const id = await made('r:1', 'here');
  await docker('tag', 'r:1', 'other:1');
  expect(await refusal('rmi', id)).toBe(
    `Error response from daemon: conflict: unable to delete ${id.slice(7, 19)} (must be forced) - image is referenced in multiple repositories`,
  );
  expect(await docker('rmi', 'other:1')).toBe('Untagged: other:1');
  const c = await docker('create', 'r:1', 'true');
  expect(await refusal('rmi', 'r:1')).toBe(
    `Error response from daemon: conflict: unable to remove repository reference "r:1" (must force) - container ${c.slice(0, 12)} is using its referenced image ${id.slice(7, 19)}`,
  );
  expect(await docker('rmi', '-f', 'r:1')).toMatch(/^Untagged: r:1/);
  // The container keeps the layers until it is removed.
  expect((await engine.docker('start', '-a', c).result).exitCode).toBe(0);
  await docker('rm', c);
});

test('a commit of a pulled image is identical after push and pull [commit-round-trip]', async () => {
  await using registry = await startRegistry();
  const [base, mine] = [`${registry.host}/base:1`, `${registry.host}/mine:1`];
  await docker('tag', 'busybox', base);
  await docker('push', base);
  await docker('rmi', base);
  await docker('pull', base);
  const c = fresh();
  await docker(
    ...['run', '--name', c],
    ...[base, 'sh'],
    ...['-c', 'echo x > /etc/made; rm -r /var/spool; mkdir /var/spool; rm /etc/group; ln /etc/made /etc/linked'],
  );
  const id = await docker('commit', c, mine);
  await docker('push', mine);
  const archived = async (): Promise<Buffer> => {
    await docker('save', '-o', join(tmp, 'pushed.tar'), mine);
    return readFileSync(join(tmp, 'pushed.tar'));
  };
  const before = await archived();
  await docker('rm', c);
  await docker('rmi', mine);
  expect(await docker('images', '-q', mine)).toBe('');
  await docker('pull', mine);
  expect(await idOf(mine)).toBe(id);
  expect((await archived()).equals(before)).toBe(true);
  expect(await docker('run', '--rm', mine, 'sh', '-c', 'cat /etc/linked; test ! -e /etc/group && ls /var/spool')).toBe(
    'x',
  );
  await docker('rmi', mine, base);
});

describe('compared with Debian’s dockerd', () => {
  let peer: Dockerd;
  beforeAll(async () => {
    peer = await startDockerd();
  });
  afterAll(async () => {
    await peer[Symbol.asyncDispose]();
  });
  const theirs = (...args: string[]): string =>
    execFileSync('docker', args, {
      encoding: 'utf8',
      env: { ...process.env, DOCKER_HOST: `unix://${peer.socket}` },
      stdio: ['ignore', 'pipe', 'pipe'],
    }).trim();

  test('an archive saved by either engine loads as the same image in the other [save-exchange]', async () => {
    const id = await made('pair:1', 'ours');
    await docker('save', '-o', join(tmp, 'ours.tar'), 'pair:1');
    expect(theirs('load', '-i', join(tmp, 'ours.tar'))).toBe('Loaded image: pair:1');
    expect(theirs('images', '-q', '--no-trunc', 'pair:1')).toBe(id);
    expect(theirs('run', '--rm', '--network=none', 'pair:1', 'cat', '/ours')).toBe('ours');

    theirs(
      ...['run', '--name', 'there', '--network=none', 'pair:1', 'sh'],
      ...['-c', 'echo theirs > /theirs; rm -r /var/spool; mkdir /var/spool; rm /ours'],
    );
    const back = theirs('commit', '-m', 'there', 'there', 'pair:2');
    theirs('save', '-o', join(tmp, 'theirs.tar'), 'pair:2');
    expect(await docker('load', '-i', join(tmp, 'theirs.tar'))).toBe('Loaded image: pair:2');
    expect(await idOf('pair:2')).toBe(back);
    expect(await docker('run', '--rm', 'pair:2', 'sh', '-c', 'cat /theirs; ls /var/spool; test ! -e /ours')).toBe(
      'theirs',
    );
    // Save the peer's image here and load it there: the ids must be the same.
    await docker('save', '-o', join(tmp, 'again.tar'), 'pair:2');
    theirs('rm', 'there');
    theirs('rmi', 'pair:2', 'pair:1');
    theirs('load', '-i', join(tmp, 'again.tar'));
    expect(theirs('images', '-q', '--no-trunc', 'pair:2')).toBe(back);
    await docker('rmi', 'pair:1', 'pair:2');
  });

  test('the same container has the same changes, files and sizes [container-parity]', async () => {
    await docker('save', '-o', join(tmp, 'bb-save.tar'), 'busybox');
    theirs('load', '-i', join(tmp, 'bb-save.tar'));
    const work =
      'echo x > /etc/new; rm /etc/group; mkdir -p /a/b; touch /a/b/c; chmod 700 /tmp; rm -rf /var/spool; mkdir /var/spool; echo y > /var/spool/y; ln /etc/passwd /etc/pw; ln -s x /l; chown 5:6 /home; rm -r /usr; echo > /usr';
    const options = ['--name', 'same', '--network=none', '-v', '/data', '--tmpfs', '/t'];
    const run = ['run', ...options, 'busybox', 'sh', '-c', work];
    await docker(...run);
    theirs(...run);
    const sorted = (text: string): string[] => text.split('\n').sort();
    expect(sorted(await docker('diff', 'same'))).toEqual(sorted(theirs('diff', 'same')));
    await docker('export', '-o', join(tmp, 'a.tar'), 'same');
    theirs('export', '-o', join(tmp, 'b.tar'), 'same');
    const files = (tar: string): string[] =>
      execFileSync('tar', ['--numeric-owner', '-tvf', tar], { encoding: 'utf8' })
        .split('\n')
        .map((line) => line.replace(/ \d{4}-\d\d-\d\d \d\d:\d\d /, ' '));
    expect(files(join(tmp, 'a.tar'))).toEqual(files(join(tmp, 'b.tar')));
    const sizes = async (socket: string): Promise<unknown> => {
      const { SizeRw, SizeRootFs } = (await request(socket, 'GET', '/v1.41/containers/same/json?size=1')).json as {
        SizeRw: number;
        SizeRootFs: number;
      };
      return { SizeRw, SizeRootFs };
    };
    expect(await sizes(engine.socket)).toEqual(await sizes(peer.socket));
    const table = '{{.Repository}} {{.Tag}} {{.ID}} {{.Size}}';
    expect(await docker('images', '--format', table, 'busybox')).toBe(theirs('images', '--format', table, 'busybox'));
    const usage = async (socket: string): Promise<unknown> => {
      const { Images, Containers } = (await request(socket, 'GET', '/v1.41/system/df')).json as {
        Images: { RepoTags: string[] | null; Size: number; SharedSize: number; Containers: number }[];
        Containers: { Names: string[]; SizeRw: number; SizeRootFs: number }[];
      };
      return [
        Images.filter(({ RepoTags }) => RepoTags?.some((name) => /^(busybox|same):/.test(name)))
          .map(({ RepoTags, Size, SharedSize, Containers: users }) => ({ RepoTags, Size, SharedSize, users }))
          .sort((a, b) => a.Size - b.Size),
        Containers.filter(({ Names }) => Names.includes('/same')).map(({ SizeRw, SizeRootFs }) => ({
          SizeRw,
          SizeRootFs,
        })),
      ];
    };
    await docker('commit', 'same', 'same:1');
    theirs('commit', 'same', 'same:1');
    expect(await usage(engine.socket)).toEqual(await usage(peer.socket));
    await docker('rm', '-v', 'same');
    theirs('rm', '-v', 'same');
    await docker('rmi', 'same:1');
  });
});
