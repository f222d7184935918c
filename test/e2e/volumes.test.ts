/**
 * Volumes and all other mounts through the real docker CLI. Needs real mounts: propagation, copy-up and read-only
 * depth are kernel behaviour.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { mount, MS, unmount } from '../../src/sys/mount.ts';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const { docker, ok } = dockerOf(() => engine);
const sh = (script: string, ...options: string[]): Promise<string> =>
  ok('run', '--rm', ...options, 'busybox', 'sh', '-c', script);
const names = async (...filters: string[]): Promise<string[]> =>
  (await ok('volume', 'ls', '-q', ...filters.flatMap((f) => ['--filter', f]))).split('\n').filter((n) => n !== '');
const mountpoint = (name: string): string => join(engine.root, 'data/volumes', name, '_data');
const mounted = (path: string): boolean => readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${path} `);
const events = async (name: string): Promise<{ Action: string; Actor: { Attributes: Record<string, string> } }[]> => {
  const now = (Date.now() / 1000 + 1).toFixed(3);
  const { text } = await engine.api(
    'GET',
    `/events?since=1&until=${now}&filters=${encodeURIComponent(JSON.stringify({ volume: [name] }))}`,
  );
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as { Action: string; Actor: { Attributes: Record<string, string> } });
};

describe('docker volume', () => {
  test('create, inspect, ls with filters and rm work, with events [volume-create]', async () => {
    expect(await ok('volume', 'create', '--label', 'tier=a', '--label', 'x', 'first')).toBe('first');
    expect(JSON.parse(await ok('volume', 'inspect', 'first'))).toEqual([
      {
        CreatedAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
        Driver: 'local',
        Labels: { tier: 'a', x: '' },
        Mountpoint: mountpoint('first'),
        Name: 'first',
        Options: null,
        Scope: 'local',
      },
    ]);
    await ok('volume', 'create', 'second');
    // The volume exists, so the options are ignored.
    expect(await ok('volume', 'create', '-o', 'type=tmpfs', 'second')).toBe('second');
    expect((await docker('volume', 'create', '-o', 'type=tmpfs', 'third')).stderr).toMatch(
      /create third: missing required option: "device"/,
    );
    expect(await names('label=tier=a')).toEqual(['first']);
    expect(await names('name=sec')).toEqual(['second']);
    expect(await names('driver=other')).toEqual([]);
    expect(await names('dangling=true', 'name=first')).toEqual(['first']);
    expect(await ok('volume', 'rm', 'first', 'second')).toBe('first\nsecond');
    expect(existsSync(join(engine.root, 'data/volumes/first'))).toBe(false);
    expect((await docker('volume', 'rm', 'first')).stderr).toMatch(/get first: no such volume/);
    expect((await docker('volume', 'rm', '-f', 'first')).exitCode).toBe(0);
    expect((await events('first')).map((e) => e.Action)).toEqual(['create', 'destroy']);
  });

  test.each(['../../etc', '..', 'a/b', '.hidden', 'a b', 'x'])(
    'the invalid name %j is refused [volume-invalid-name]',
    async (name) => {
      const { status, json } = await engine.api('POST', '/volumes/create', { Name: name });
      expect([status, (json as { message: string }).message]).toEqual([
        400,
        expect.stringMatching(/^create .*(includes invalid characters|too short)/),
      ]);
    },
  );

  test('no name reaches files beside the volumes [volume-name-escape]', async () => {
    for (const name of ['..', '%2e%2e', '..%2fcontainers', '%2fetc']) {
      const { status } = await engine.api('DELETE', `/volumes/${name}?force=1`);
      expect([204, 301, 404]).toContain(status);
    }
    expect(existsSync(join(engine.root, 'data/containers'))).toBe(true);
  });

  test('removal of a used volume is refused and names its containers [volume-in-use]', async () => {
    const id = await ok('create', '-v', 'used:/data', 'busybox', 'true');
    expect((await engine.api('DELETE', '/volumes/used')).json).toEqual({
      message: `remove used: volume is in use - [${id}]`,
    });
    expect((await engine.api('DELETE', '/volumes/used?force=1')).status).toBe(409);
    expect(await names('dangling=false')).toContain('used');
    await ok('rm', id);
    await ok('volume', 'rm', 'used');
  });

  test('prune removes anonymous volumes, named ones with all=1 or API below 1.42 [volume-prune]', async () => {
    const user = await ok('create', '-v', '/data', 'busybox', 'true');
    const anonymous = await ok('volume', 'create');
    await ok('volume', 'create', 'named');
    await ok('volume', 'create', '-o', 'type=tmpfs', '-o', 'device=tmpfs', 'optioned');
    writeFileSync(join(mountpoint(anonymous), 'file'), '12345');
    expect((await engine.api('POST', '/v1.43/volumes/prune')).json).toEqual({
      VolumesDeleted: [anonymous],
      SpaceReclaimed: 5,
    });
    expect(
      (await engine.api('POST', `/v1.43/volumes/prune?filters=${encodeURIComponent('{"all":["1"]}')}`)).json,
    ).toEqual({ VolumesDeleted: ['named'], SpaceReclaimed: 0 });
    await ok('volume', 'create', 'again');
    expect((await engine.api('POST', '/v1.41/volumes/prune')).json).toEqual({
      VolumesDeleted: ['again'],
      SpaceReclaimed: 0,
    });
    expect((await engine.api('POST', `/volumes/prune?filters=${encodeURIComponent('{"until":["1h"]}')}`)).status).toBe(
      400,
    );
    expect(await names('name=optioned')).toEqual(['optioned']);
    await ok('volume', 'rm', 'optioned');
    await ok('rm', '-v', user);
    expect(await names()).toEqual([]);
  });

  test('a concurrent prune takes no volume from a container being created [volume-prune-create]', async () => {
    const made = await Promise.all(
      Array.from({ length: 8 }, async (_, i) => {
        const { json } = await engine.api('POST', `/containers/create?name=p${i}`, {
          Image: 'busybox',
          Cmd: ['true'],
          Volumes: { '/bin': {} },
        });
        return (json as { Id: string }).Id;
      }).concat(Array.from({ length: 20 }, () => engine.api('POST', '/volumes/prune').then(() => ''))),
    );
    for (const id of made.filter((each) => each !== '')) {
      const { json } = await engine.api('GET', `/containers/${id}/json`);
      const [{ Name, Source }] = (json as { Mounts: [{ Name: string; Source: string }] }).Mounts;
      expect([(await engine.api('GET', `/volumes/${Name}`)).status, readdirSync(Source).includes('busybox')]).toEqual([
        200,
        true,
      ]);
      await ok('rm', '-v', id);
    }
  });

  test('PUT is refused without a swarm', async () => {
    expect(await engine.api('PUT', '/volumes/x?version=1', {})).toMatchObject({
      status: 503,
      json: { message: 'volume update only valid for cluster volumes, but swarm is unavailable' },
    });
  });

  test('df shows size and reference count [volume-df]', async () => {
    const id = await ok('run', '-d', '-v', 'sized:/data', 'busybox', 'sh', '-c', 'echo 1234567 > /data/f; sleep 100');
    await until(() => existsSync(join(mountpoint('sized'), 'f')));
    const { Volumes } = (await engine.api('GET', '/system/df')).json as {
      Volumes: { Name: string; UsageData: unknown }[];
    };
    expect(Volumes.find((v) => v.Name === 'sized')!.UsageData).toEqual({ RefCount: 1, Size: 8 });
    await ok('rm', '-f', id);
    await ok('volume', 'rm', 'sized');
  });
});

describe('mounts in a container', () => {
  test('a volume keeps data for the next container; :ro prevents writing [volume-shared]', async () => {
    await sh('echo kept > /data/file', '-v', 'shared:/data');
    expect(
      await sh('cat /data/file; touch /data/x', '-v', 'shared:/data:ro').catch(
        (error: unknown) => (error as Error).message,
      ),
    ).toMatch(/Read-only file system/);
    expect(await sh('cat /data/file', '--mount', 'type=volume,src=shared,dst=/data')).toBe('kept');
    const actions = (await events('shared')).map((e) => e.Action);
    expect(actions.slice(0, 3)).toEqual(['create', 'mount', 'unmount']);
    await ok('volume', 'rm', 'shared');
  });

  test('mount and unmount events name container and destination [volume-mount-events]', async () => {
    const id = await ok('run', '-d', '-v', 'noted:/data:ro', 'busybox', 'true');
    await until(async () => (await events('noted')).length === 3);
    const [, mount, unmount] = await events('noted');
    expect(mount).toMatchObject({
      Action: 'mount',
      Actor: {
        Attributes: { driver: 'local', container: id, destination: '/data', 'read/write': 'false', propagation: '' },
      },
    });
    expect(unmount).toMatchObject({ Action: 'unmount', Actor: { Attributes: { driver: 'local', container: id } } });
    await ok('rm', id);
    await ok('volume', 'rm', 'noted');
  });

  test('an empty volume is filled with the image’s content, unless nocopy is given [volume-copy-up]', async () => {
    expect(await sh('ls /bin/busybox', '-v', 'filled:/bin')).toBe('/bin/busybox');
    expect(await sh('ls -a /srv | wc -l', '-v', 'filled:/srv:nocopy')).not.toBe('2');
    expect(await sh('ls -a /x | wc -l', '--mount', 'type=volume,src=empty,dst=/x,volume-nocopy')).toBe('2');
    expect(await sh('ls -a /etc/ssl | wc -l', '-v', 'empty:/etc/ssl:nocopy')).toBe('2');
    await ok('volume', 'rm', 'filled', 'empty');
  });

  test('copy-up keeps owners and modes, also of the directory itself [volume-copy-owners]', async () => {
    const id = await ok(
      ...['run', '-d'],
      ...['busybox', 'sh', '-c'],
      'mkdir -p /kept/deep; echo x > /kept/file; chown 33:44 /kept; chmod 2750 /kept; chown 1000:1001 /kept/file; chmod 4711 /kept/file; chown 5:6 /kept/deep; ln -s file /kept/link; chown -h 7:8 /kept/link; mkdir /bare; chown 9:10 /bare',
    );
    await ok('wait', id);
    await ok('commit', id, 'owned');
    const seen = (at: string, ...options: string[]): Promise<string> =>
      ok('run', '--rm', ...options, 'owned', 'sh', '-c', `cd ${at}; stat -c '%n %u:%g %a' . $(ls -A)`);
    expect(await seen('/kept', '-v', 'filled:/kept')).toBe(
      '. 33:44 2750\ndeep 5:6 755\nfile 1000:1001 4711\nlink 7:8 777',
    );
    // The same with --mount, with an anonymous volume, for an empty directory, and not with nocopy.
    expect(await seen('/kept', '--mount', 'type=volume,dst=/kept')).toBe(
      '. 33:44 2750\ndeep 5:6 755\nfile 1000:1001 4711\nlink 7:8 777',
    );
    expect(await seen('/bare', '-v', 'bare:/bare')).toBe('. 9:10 755');
    expect(await seen('/kept', '-v', 'unfilled:/kept:nocopy')).toBe('. 0:0 755');
    await ok('rm', id);
    await ok('rmi', 'owned');
    await ok('volume', 'rm', 'filled', 'bare', 'unfilled');
  });

  test('rm -v removes anonymous volumes and keeps named ones [volume-rm-anonymous]', async () => {
    const name = 'f'.repeat(64);
    const id = await ok('create', '-v', '/anonymous', '-v', `${name}:/named`, 'busybox', 'true');
    await ok('rm', '-v', id);
    expect(await names()).toEqual([name]);
    await ok('volume', 'rm', name);
  });

  test('--rm removes anonymous volumes [volume-auto-remove]', async () => {
    await sh('true', '-v', '/anonymous');
    await until(async () => (await names()).length === 0);
  });

  test('--volumes-from outlives the source container and respects :ro [volumes-from-removed]', async () => {
    await ok('create', '--name', 'giver', '-v', 'given:/data', '-v', '/anonymous', 'busybox', 'true');
    await ok(
      ...['create', '--name', 'taker', '--volumes-from', 'giver:ro'],
      ...['busybox', 'sh', '-c', 'touch /data/x || grep -c anonymous /proc/mounts'],
    );
    await ok('rm', '-v', 'giver');
    expect((await docker('start', '-a', 'taker')).stdout.trim()).toBe('1');
    await ok('rm', '-v', 'taker');
    expect(await names()).toEqual(['given']);
    await ok('volume', 'rm', 'given');
  });

  test('--volumes-from keeps each mount’s access, reduced by :ro, from several containers [volumes-from-access]', async () => {
    const source = join(engine.root, 'given');
    mkdirSync(source, { recursive: true });
    await ok(
      ...['create', '--name', 'first', '-v', 'loose:/loose', '-v', 'sealed:/sealed:ro', '-v', `${source}:/bound`],
      ...['busybox', 'true'],
    );
    await ok('create', '--name', 'second', '-v', 'more:/more', 'busybox', 'true');
    const access = async (...options: string[]): Promise<Record<string, boolean>> => {
      const id = await ok('create', ...options, 'busybox', 'true');
      const { Mounts } = JSON.parse((await ok('inspect', id)).slice(1, -1)) as {
        Mounts: { Destination: string; RW: boolean }[];
      };
      await ok('rm', '-v', id);
      return Object.fromEntries(Mounts.map(({ Destination, RW }): [string, boolean] => [Destination, RW]).sort());
    };
    expect(await access('--volumes-from', 'first')).toEqual({ '/bound': true, '/loose': true, '/sealed': false });
    expect(await access('--volumes-from', 'first:ro', '--volumes-from', 'second')).toEqual({
      '/bound': false,
      '/loose': false,
      '/more': true,
      '/sealed': false,
    });
    // The container's own mount takes precedence.
    expect(await access('--volumes-from', 'first:ro', '-v', 'own:/loose')).toEqual({
      '/bound': false,
      '/loose': true,
      '/sealed': false,
    });
    const probe = 'for d in loose sealed bound; do touch /$d/x 2>/dev/null && echo $d; done; true';
    expect(await sh(probe, '--volumes-from', 'first')).toBe('loose\nbound');
    expect(await sh(probe, '--volumes-from', 'first:ro')).toBe('');
    expect((await docker('create', '--volumes-from', 'first:odd', 'busybox', 'true')).stderr).toMatch(
      /invalid mode: odd/,
    );
    await ok('rm', '-v', 'first', 'second');
    await ok('volume', 'rm', ...(await names()));
  });

  test('users of a volume are counted once per container until the last is removed [volume-users]', async () => {
    const users = async (): Promise<number | undefined> =>
      (
        (await engine.api('GET', '/system/df?type=volume')).json as {
          Volumes: { Name: string; UsageData: { RefCount: number } }[];
        }
      ).Volumes.find(({ Name }) => Name === 'counted')?.UsageData.RefCount;
    const one = await ok('create', '-v', 'counted:/a', '-v', 'counted:/b', 'busybox', 'true');
    expect(await users()).toBe(1);
    const two = await ok('run', '-d', '--mount', 'type=volume,src=counted,dst=/a', 'busybox', 'sleep', '1000');
    const three = await ok('create', '--volumes-from', two, 'busybox', 'true');
    expect(await users()).toBe(3);
    await ok('rm', one);
    await ok('rm', '-f', two);
    expect([await users(), (await docker('volume', 'rm', 'counted')).stderr]).toEqual([
      1,
      expect.stringContaining(`volume is in use - [${three}]`),
    ]);
    await ok('rm', three);
    expect(await users()).toBe(0);
    await ok('volume', 'rm', 'counted');
  });

  test('--tmpfs and --mount type=tmpfs apply their options [tmpfs-options]', async () => {
    expect(await sh('grep " /scratch " /proc/mounts', '--tmpfs', '/scratch:size=1m,mode=700')).toMatch(
      /tmpfs .*rw,nosuid,nodev,noexec.*size=1024k.*mode=700/,
    );
    expect(await sh('grep " /scratch " /proc/mounts', '--mount', 'type=tmpfs,dst=/scratch,tmpfs-size=2m')).toMatch(
      /size=2048k/,
    );
  });

  test('a read-only bind is read-only recursively [bind-read-only-recursive]', async () => {
    const source = join(engine.root, 'bound');
    mkdirSync(join(source, 'deep'), { recursive: true });
    mount('none', join(source, 'deep'), 'tmpfs');
    try {
      expect(await sh('touch /b/deep/x 2>&1 || true', '-v', `${source}:/b:ro`)).toMatch(/Read-only file system/);
      expect(
        await sh(
          'touch /b/deep/x; ls /b/deep',
          '--mount',
          `type=bind,src=${source},dst=/b,readonly,bind-recursive=writable`,
        ),
      ).toBe('x');
    } finally {
      unmount(join(source, 'deep'));
    }
  });

  test('bind-recursive selects the depth of read-only and of submounts [bind-recursive]', async () => {
    const source = join(engine.root, 'layered');
    mkdirSync(join(source, 'deep'), { recursive: true });
    mount('none', join(source, 'deep'), 'tmpfs');
    writeFileSync(join(source, 'deep/below'), '');
    try {
      const seen = (options: string): Promise<string> =>
        sh(
          'ls /b/deep; for f in /b/x /b/deep/x; do touch $f 2>/dev/null && echo wrote $f; done; true',
          '--mount',
          `type=bind,src=${source},dst=/b${options}`,
        );
      expect(await seen(',readonly')).toBe('below');
      expect(await seen(',readonly,bind-propagation=rprivate,bind-recursive=readonly')).toBe('below');
      expect(await seen(',readonly,bind-recursive=disabled')).toBe('');
      expect(await seen(',readonly,bind-recursive=writable')).toBe('below\nwrote /b/deep/x');
    } finally {
      unmount(join(source, 'deep'));
    }
  });

  describe('propagation of later mounts', () => {
    // Uses shared mounts of its own, so that propagation in both directions is possible.
    let source: string;
    beforeAll(() => {
      source = join(engine.root, 'travels');
      mkdirSync(source, { recursive: true });
      mount('none', source, 'tmpfs');
      mount('none', source, null, MS.SHARED);
      mkdirSync(join(source, 'host'));
      mkdirSync(join(source, 'inside'));
    });
    afterAll(() => void unmount(source));

    test.each<[string, string[], { arrives: boolean; leaves: boolean }]>([
      ['is off by default', ['-v', 'SOURCE:/b'], { arrives: false, leaves: false }],
      ['is off with private', ['-v', 'SOURCE:/b:private'], { arrives: false, leaves: false }],
      ['enters with slave', ['-v', 'SOURCE:/b:slave'], { arrives: true, leaves: false }],
      [
        'enters with rslave by --mount',
        ['--mount', 'type=bind,src=SOURCE,dst=/b,bind-propagation=rslave'],
        { arrives: true, leaves: false },
      ],
      ['enters and leaves with shared', ['-v', 'SOURCE:/b:shared'], { arrives: true, leaves: true }],
      [
        'enters and leaves with rshared by --mount',
        ['--mount', 'type=bind,src=SOURCE,dst=/b,bind-propagation=rshared'],
        { arrives: true, leaves: true },
      ],
    ])('%s [mount-propagation]', async (_, options, expected) => {
      const bind = options.map((option) => option.replace('SOURCE', source));
      const id = await ok('run', '-d', '--privileged', ...bind, 'busybox', 'sleep', '1000');
      mount('none', join(source, 'host'), 'tmpfs');
      try {
        await ok('exec', id, 'mount', '-t', 'tmpfs', 'none', '/b/inside');
        const arrives = (await ok('exec', id, 'sh', '-c', 'grep -c " /b/host " /proc/mounts; true')) === '1';
        expect({ arrives, leaves: mounted(join(source, 'inside')) }).toEqual(expected);
      } finally {
        unmount(join(source, 'host'));
        await ok('rm', '-f', id);
        unmount(join(source, 'inside'));
      }
    });

    test('is refused for a source that is not shared [propagation-refused]', async () => {
      const lone = join(engine.root, 'lone');
      mkdirSync(lone, { recursive: true });
      mount('none', lone, 'tmpfs');
      mount('none', lone, null, MS.PRIVATE);
      try {
        expect((await docker('run', '--rm', '-v', `${lone}:/b:shared`, 'busybox', 'true')).stderr).toContain(
          `path ${lone} is mounted on ${lone} but it is not a shared mount`,
        );
        expect((await docker('run', '--rm', '-v', `${lone}:/b:slave`, 'busybox', 'true')).stderr).toContain(
          `path ${lone} is mounted on ${lone} but it is not a shared or slave mount`,
        );
      } finally {
        unmount(lone);
      }
    });
  });
});

describe('options of the local driver', () => {
  test('are mounted at first use and unmounted after the last [volume-options-mount]', async () => {
    await ok('volume', 'create', '-o', 'type=tmpfs', '-o', 'device=tmpfs', '-o', 'o=size=1m,uid=5', 'memory');
    expect(JSON.parse(await ok('volume', 'inspect', '-f', '{{json .Options}}', 'memory'))).toEqual({
      device: 'tmpfs',
      o: 'size=1m,uid=5',
      type: 'tmpfs',
    });
    expect(mounted(mountpoint('memory'))).toBe(false);
    const first = await ok('run', '-d', '-v', 'memory:/m', 'busybox', 'sleep', '100');
    const second = await ok('run', '-d', '-v', 'memory:/m', 'busybox', 'sleep', '100');
    expect(await ok('exec', second, 'sh', '-c', 'grep -o "/m tmpfs.*size=1024k.*uid=5" /proc/mounts | wc -l')).toBe(
      '1',
    );
    await ok('rm', '-f', first);
    expect(mounted(mountpoint('memory'))).toBe(true);
    await ok('rm', '-f', second);
    expect(mounted(mountpoint('memory'))).toBe(false);
    await ok('volume', 'rm', 'memory');
  });

  test('can bind a directory; a missing one fails the start [volume-options-bind]', async () => {
    const source = join(engine.root, 'device');
    mkdirSync(source, { recursive: true });
    writeFileSync(join(source, 'file'), 'on the host\n');
    await ok('volume', 'create', '-o', 'type=none', '-o', `device=${source}`, '-o', 'o=bind,ro', 'bound');
    expect(await sh('cat /b/file; touch /b/x 2>&1 || true', '-v', 'bound:/b')).toMatch(/^on the host\n.*Read-only/);
    await ok('volume', 'rm', 'bound');
    expect(existsSync(join(source, 'file'))).toBe(true);
    await ok('volume', 'create', '-o', 'type=none', '-o', 'device=/no/such', '-o', 'o=bind', 'absent');
    const { stderr } = await docker('run', '--rm', '-v', 'absent:/b', 'busybox', 'true');
    expect(stderr).toContain(
      `error while mounting volume '${mountpoint('absent')}': failed to mount local volume: mount /no/such:${mountpoint('absent')}, flags: 0x1000: no such file or directory`,
    );
    await ok('volume', 'rm', 'absent');
  });

  // Test hosts have no NFS server: the refusal contains the arguments of mount(2), and its text is dockerd's.
  test('nfs volumes are mounted with the resolved server address and the share’s options [volume-options-nfs]', async () => {
    const refused = async (o: string): Promise<string> => {
      await ok('volume', 'create', '-o', 'type=nfs', '-o', 'device=:/export', '-o', `o=${o}`, 'share');
      expect(mounted(mountpoint('share'))).toBe(false);
      const { exitCode, stderr } = await docker('run', '--rm', '-v', 'share:/x', 'busybox', 'true');
      expect(exitCode).toBe(125);
      await ok('volume', 'rm', 'share');
      return stderr.split('\n')[0]!.replaceAll(mountpoint('share'), 'HERE');
    };
    const begin = "docker: Error response from daemon: error while mounting volume 'HERE': ";
    // No NFS server listens on localhost; which error comes depends on the kernel's NFS support.
    const errors =
      ': (no such device|connection refused|operation not supported|protocol not supported|invalid argument|permission denied|operation not permitted)$';
    expect(await refused('addr=127.0.0.1,rw,nfsvers=4')).toMatch(
      new RegExp(
        `^${begin}failed to mount local volume: mount :/export:HERE, data: addr=127\\.0\\.0\\.1,nfsvers=4${errors}`,
      ),
    );
    expect(await refused('addr=localhost,ro,nosuid,nfsvers=4,soft')).toMatch(
      new RegExp(
        `^${begin}failed to mount local volume: mount :/export:HERE, flags: 0x3, data: addr=(127\\.0\\.0\\.1|::1),nfsvers=4,soft${errors}`,
      ),
    );
    expect(await refused('addr=no-such-host.invalid,rw')).toContain(
      `${begin}error resolving passed in network volume address: lookup no-such-host.invalid`,
    );
    expect((await docker('volume', 'create', '-o', 'size=1g', 'limited')).stderr).toMatch(
      /quota size requested but no quota support/,
    );
    expect((await docker('volume', 'create', '-o', 'nonsense=1', 'odd')).stderr).toMatch(/invalid option: "nonsense"/);
  });

  test('survive a daemon kill [volume-options-daemon]', async () => {
    await ok('volume', 'create', '-o', 'type=tmpfs', '-o', 'device=tmpfs', 'lasting');
    const stays = await ok('run', '-d', '-v', 'lasting:/m', 'busybox', 'sh', '-c', 'echo here > /m/file; sleep 100');
    await ok('exec', stays, 'sh', '-c', 'until [ -e /m/file ]; do sleep 0.1; done');
    await engine.kill9();
    await engine.startAgain();
    expect(await ok('exec', stays, 'cat', '/m/file')).toBe('here');
    expect(await sh('cat /m/file', '-v', 'lasting:/m')).toBe('here');
    await engine.kill9();
    expect(mounted(mountpoint('lasting'))).toBe(true);
    await engine.startAgain();
    await ok('rm', '-f', stays);
    await until(() => !mounted(mountpoint('lasting')));
    await ok('volume', 'rm', 'lasting');
  });
});

describe('subpath', () => {
  test('mounts a directory or file of the volume [subpath-mount]', async () => {
    await sh('mkdir -p /v/a/b; echo deep > /v/a/b/file', '-v', 'parts:/v');
    expect(await sh('cat /s/file', '--mount', 'type=volume,src=parts,dst=/s,volume-subpath=a/b')).toBe('deep');
    expect(await sh('cat /s', '--mount', 'type=volume,src=parts,dst=/s,volume-subpath=a/b/file')).toBe('deep');
    expect(
      await sh('touch /s/x 2>&1 || true', '--mount', 'type=volume,src=parts,dst=/s,volume-subpath=a/b,readonly'),
    ).toMatch(/Read-only/);
  });

  test('an empty one is filled with the image’s content, unless nocopy is given [subpath-copy-up]', async () => {
    await sh('mkdir -p /v/filled /v/left', '-v', 'parts:/v');
    const etc = 'type=volume,src=parts,dst=/etc,volume-subpath=';
    expect(await sh('grep -c root /etc/passwd', '--mount', `${etc}filled`)).not.toBe('0');
    expect(await sh('ls -a /etc | grep -c passwd || true', '--mount', `${etc}left,volume-nocopy`)).toBe('0');
    expect(await sh('ls -d /v/passwd /v/filled/passwd /v/left/passwd 2>/dev/null || true', '-v', 'parts:/v')).toBe(
      '/v/filled/passwd',
    );
  });

  test('cannot lead out of the volume through links [subpath-escape]', async () => {
    symlinkSync('/etc', join(mountpoint('parts'), 'absolute'));
    symlinkSync('../../../../../../../../etc', join(mountpoint('parts'), 'relative'));
    for (const link of ['absolute', 'relative', 'absolute/ssl', 'relative/ssl', 'a/../absolute']) {
      const { exitCode, stderr } = await docker(
        ...['run', '--rm', '--mount', `type=volume,src=parts,dst=/s,volume-subpath=${link}`],
        ...['busybox', 'ls', '/s'],
      );
      expect([exitCode, stderr]).toEqual([125, expect.stringMatching(/path concatenation escapes the base directory/)]);
    }
    const { stderr } = await docker(
      ...['run', '--rm', '--mount', 'type=volume,src=parts,dst=/s,volume-subpath=../x'],
      ...['busybox', 'true'],
    );
    expect(stderr).toMatch(/subpath must be a relative path within the volume/);
  });

  test('a missing subpath is an error; an anonymous volume cannot have one [subpath-missing]', async () => {
    const missing = await docker(
      ...['run', '--rm', '--mount', 'type=volume,src=parts,dst=/s,volume-subpath=missing'],
      ...['busybox', 'true'],
    );
    expect([missing.exitCode, missing.stderr]).toEqual([
      127,
      expect.stringMatching(/cannot access path .*no such file or directory/),
    ]);
    expect(
      (await docker('create', '--mount', 'type=volume,dst=/s,volume-subpath=a', 'busybox', 'true')).stderr,
    ).toMatch(/must not set Subpath when using anonymous volumes/);
    await ok('volume', 'rm', 'parts');
  });
});
