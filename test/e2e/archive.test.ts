/**
 * `docker cp` and the GET, PUT and HEAD requests of `/containers/{id}/archive`. A real daemon is needed because the
 * archiver worker enters the mounts of a running container.
 */
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  chownSync,
  chmodSync,
  linkSync,
  utimesSync,
} from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { getXattrAt, setXattrAt } from '../../src/sys/inode.ts';
import { encodeHeader, newEntry, TRAILER } from '../../src/engine/images/tar-writer.ts';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';

let engine: TestEngine;
let here: string;
const ids: Record<'running' | 'stopped', string> = { running: '', stopped: '' };
const MOUNTS = ['-v', 'files:/volume', '-v', 'sealed:/sealed:ro'];
beforeAll(async () => {
  engine = await startEngine();
  here = mkdtempSync('/tmp/hf-cp-');
  ids.running = await ok(
    ...['run', '-d', '--name', 'running', '--init', '--tmpfs', '/memory', ...MOUNTS],
    ...['busybox', 'sleep', '10000'],
  );
  ids.stopped = await ok(
    ...['create', '--name', 'stopped', '-v', 'others:/volume', '-v', 'sealed:/sealed:ro'],
    ...['busybox', 'true'],
  );
});
afterAll(async () => {
  rmSync(here, { recursive: true, force: true });
  await engine?.[Symbol.asyncDispose]();
});

const { docker, ok } = dockerOf(() => engine);
const at = (...names: string[]): string => join(here, ...names);
const inside = (script: string): Promise<string> => ok('exec', 'running', 'sh', '-c', script);
const archive = (id: string, path: string, query = ''): string =>
  `/containers/${id}/archive?path=${encodeURIComponent(path)}${query}`;
const stat = async (id: string, path: string): Promise<Record<string, unknown>> => {
  const { status, headers } = await engine.api('HEAD', archive(id, path));
  return status === 200
    ? (JSON.parse(Buffer.from(headers['x-docker-container-path-stat'] as string, 'base64').toString()) as Record<
        string,
        unknown
      >)
    : { status };
};
const put = (id: string, path: string, tar: Buffer, query = '') =>
  engine.api('PUT', archive(id, path, query), tar, { 'Content-Type': 'application/x-tar' });
const namesOf = (tar: Buffer): string[] =>
  execFileSync('tar', ['-tf', '-'], { input: tar, encoding: 'utf8', stdio: ['pipe', 'pipe', 'ignore'] })
    .split('\n')
    .filter((n) => n !== '');
const file = (name: string, text: string, more = {}): Buffer => {
  const entry = newEntry('file', name, { size: Buffer.byteLength(text), ...more });
  return Buffer.concat([
    encodeHeader(entry),
    Buffer.from(text),
    Buffer.alloc((512 - (Buffer.byteLength(text) % 512)) % 512),
  ]);
};
const tarOf = (...entries: Buffer[]): Buffer => Buffer.concat([...entries, TRAILER]);

const CAPABILITY = Buffer.from('0100000200200000000000000000000000000000', 'hex');

/** A tree with every kind of file and metadata that a copy must preserve. */
function makeTree(root: string): void {
  mkdirSync(join(root, 'deep/deeper'), { recursive: true });
  writeFileSync(join(root, 'plain'), 'text\n', { mode: 0o640 });
  writeFileSync(join(root, 'deep/binary'), randomBytes(3_000_000));
  writeFileSync(join(root, 'setuid'), 'x');
  chownSync(join(root, 'plain'), 1234, 4321);
  chmodSync(join(root, 'setuid'), 0o4755);
  chmodSync(join(root, 'deep/deeper'), 0o1777);
  linkSync(join(root, 'plain'), join(root, 'deep/hard'));
  symlinkSync('plain', join(root, 'link'));
  symlinkSync('/etc/hostname', join(root, 'deep/absolute'));
  writeFileSync(join(root, 'ünïcode and spaces'), '');
  writeFileSync(join(root, 'n'.repeat(200)), 'long');
  execFileSync('mkfifo', [join(root, 'fifo')]);
  execFileSync('truncate', ['-s', '5M', join(root, 'sparse')]);
  // cap_net_raw=ep: bytes that are not valid text.
  setXattrAt(Buffer.from(join(root, 'plain')), 'security.capability', CAPABILITY);
  utimesSync(join(root, 'deep'), 1_500_000_000, 1_500_000_001);
}

/** Lists names, types, modes, link counts, targets, times and MD5 sums, one line per fact. */
function tree(root: string, { owners }: { owners: boolean }): string[] {
  const format = `%P %y %m ${owners ? '%U:%G ' : ''}%n %l %T@`;
  const listed = execFileSync('find', [root, '-mindepth', '1', '-printf', `${format}\\n`], { encoding: 'utf8' })
    .replace(/\.\d+$/gm, '')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.replace(/(d \d+ (?:\S+ )?)\d+/, '$1-'));
  const sums = listed
    .map((line) => line.split(' ')[0]!)
    .filter((name) => lstatSync(join(root, name), { throwIfNoEntry: false })?.isFile())
    .map(
      (name) =>
        `${name} ${createHash('md5')
          .update(readFileSync(join(root, name)))
          .digest('hex')}`,
    );
  return [...listed, ...sums].sort();
}

describe.each(['running', 'stopped'] as const)('a %s container', (state) => {
  test('a tree that is copied in and out again is identical in contents, modes, times and xattrs [cp-round-trip]', async () => {
    makeTree(at(`tree-${state}`));
    for (const [place, name] of [
      ['/', 'root'],
      ['/volume/', 'volume'],
    ]) {
      await ok('cp', at(`tree-${state}`), `${state}:${place}`);
      await ok('cp', `${state}:${join(place!, `tree-${state}`)}`, at(`back-${state}-${name}`));
      // Without -a, the client gives all files of a copy out to its own user.
      expect(tree(at(`back-${state}-${name}`), { owners: false })).toEqual(
        tree(at(`tree-${state}`), { owners: false }),
      );
      expect(getXattrAt(Buffer.from(at(`back-${state}-${name}`, 'plain')), 'security.capability')).toEqual(CAPABILITY);
      // Inside the container the files keep the owners they have on the host.
      const { body } = await engine.api('GET', archive(state, join(place!, `tree-${state}`, 'plain')));
      expect(execFileSync('tar', ['--numeric-owner', '-tvf', '-'], { input: body, encoding: 'utf8' })).toMatch(
        /^-rw-r----- 1234\/4321 /,
      );
    }
    expect(
      existsSync(
        join(engine.root, 'data/volumes', state === 'running' ? 'files' : 'others', '_data', `tree-${state}`, 'plain'),
      ),
    ).toBe(true);
  });

  test('a file is copied into a directory, to a new name and over an existing file [cp-file]', async () => {
    writeFileSync(at('one'), '1');
    writeFileSync(at('two'), '22');
    await ok('cp', at('one'), `${state}:/tmp-${state}`);
    await ok('cp', at('two'), `${state}:/tmp-${state}`);
    await ok('cp', at('one'), `${state}:/etc/`);
    await ok('cp', `${state}:/tmp-${state}`, at(`came-${state}`));
    expect(readFileSync(at(`came-${state}`), 'utf8')).toBe('22');
    expect(await stat(state, '/etc/one')).toMatchObject({ name: 'one', size: 1, linkTarget: '' });
  });

  test('a directory or its contents are copied; a directory cannot be copied onto a file [cp-directory]', async () => {
    mkdirSync(at(`d-${state}/sub`), { recursive: true });
    writeFileSync(at(`d-${state}/sub/f`), state);
    await ok('cp', at(`d-${state}/.`), `${state}:/new-${state}`);
    expect(await stat(state, `/new-${state}/sub/f`)).toMatchObject({ size: state.length });
    await ok('cp', at(`d-${state}`), `${state}:/new-${state}`);
    expect(await stat(state, `/new-${state}/d-${state}/sub/f`)).toMatchObject({ size: state.length });
    await ok('cp', `${state}:/new-${state}/.`, at(`out-${state}`));
    expect(readdirSync(at(`out-${state}`)).sort()).toEqual([`d-${state}`, 'sub']);
    expect((await docker('cp', at(`d-${state}`), `${state}:/etc/passwd`)).stderr).toMatch(/cannot copy directory/);
    expect((await docker('cp', `${state}:/nowhere`, at('x'))).stderr).toMatch(
      /Could not find the file \/nowhere in container (running|stopped)/,
    );
    expect((await docker('cp', at('one'), `${state}:/no/where/`)).exitCode).toBe(1);
  });

  test('`docker cp -` streams a tar archive in both directions [cp-pipe]', async () => {
    const tar = execFileSync('tar', ['-cf', '-', '-C', here, 'one']);
    const into = engine.docker('cp', '-', `${state}:/home`);
    into.stdin.end(tar);
    expect((await into.result).exitCode).toBe(0);
    expect(namesOf(Buffer.from((await docker('cp', `${state}:/home`, '-')).stdout))).toEqual(['home/', 'home/one']);
  });

  test('symbolic links are copied as links, and as their targets with -L [cp-links]', async () => {
    const links = tarOf(
      encodeHeader(newEntry('symlink', 'in', { link: Buffer.from('/etc/one') })),
      encodeHeader(newEntry('symlink', 'out', { link: Buffer.from('../../../../../../etc') })),
      encodeHeader(newEntry('symlink', 'lost', { link: Buffer.from('/not/here') })),
    );
    expect((await put(state, '/home', links)).status).toBe(200);
    await ok('cp', `${state}:/home/in`, at(`link-${state}`));
    expect(readlinkSync(at(`link-${state}`))).toBe('/etc/one');
    await ok('cp', '-L', `${state}:/home/in`, at(`target-${state}`));
    expect(readFileSync(at(`target-${state}`), 'utf8')).toBe('1');
    expect(await stat(state, '/home/out')).toMatchObject({ name: 'out', mode: 2 ** 27 + 0o777, linkTarget: '/etc' });
    expect(await stat(state, '/home/lost')).toMatchObject({ linkTarget: '/not/here' });
    expect(await stat(state, '/home/out/')).toMatchObject({ name: 'out', mode: 2 ** 31 + 0o755, linkTarget: '' });
    expect(await stat(state, '/home/lost/')).toEqual({ status: 404 });
    // The host's /etc has debian_version, the container's does not.
    expect(namesOf((await engine.api('GET', archive(state, '/home/out/.'))).body)).not.toContain('./debian_version');
  });

  test('names in the archive equal those of dockerd', async () => {
    const first = async (path: string): Promise<string[]> =>
      namesOf((await engine.api('GET', archive(state, path))).body)
        .filter((name) => name !== '/.dockerenv')
        .slice(0, 2);
    expect(await first(`/new-${state}/sub`)).toEqual(['sub/', 'sub/f']);
    expect(await first(`/new-${state}/sub/`)).toEqual(['sub/', 'sub/f']);
    expect(await first(`/new-${state}/sub/.`)).toEqual(['./', './f']);
    expect(await first('/')).toEqual(['/', '/bin/']);
    expect(await first(`/new-${state}/sub/f`)).toEqual(['f']);
  });

  test('impossible copies are refused with Docker’s messages [cp-refusals]', async () => {
    const tar = tarOf(file('x', 'x'));
    expect(await put(state, '/etc/one', tar)).toMatchObject({
      status: 400,
      json: { message: 'extraction point is not a directory' },
    });
    expect(await put(state, '/not/there', tar)).toMatchObject({
      status: 404,
      json: { message: `Could not find the file /not/there in container ${state}` },
    });
    expect(await put(state, '/sealed', tar)).toMatchObject({
      status: 400,
      json: { message: 'mounted volume is marked read-only' },
    });
    for (const method of ['GET', 'PUT', 'HEAD'])
      expect((await engine.api(method, `/containers/${state}/archive?path=`)).status).toBe(400);
    expect((await engine.api('GET', `/containers/${state}/archive`)).json).toEqual({
      message: 'bad parameter: path cannot be empty',
    });
    expect(await engine.api('GET', archive('nobody', '/'))).toMatchObject({
      status: 404,
      json: { message: 'No such container: nobody' },
    });
    expect((await put(state, '/home', tarOf(file('../escaped', 'x')))).status).toBe(400);
    expect(
      (await put(state, '/home', Buffer.from('this is no archive, but long enough to be looked at'.repeat(20)))).status,
    ).toBe(400);
  });

  test('noOverwriteDirNonDir refuses to replace a directory by a file, and a file by a directory [cp-no-overwrite]', async () => {
    await put(state, '/home', tarOf(encodeHeader(newEntry('directory', 'taken/')), file('flat', '')));
    const query = '&noOverwriteDirNonDir=1';
    expect(await put(state, '/home', tarOf(file('taken', 'x')), query)).toMatchObject({
      status: 500,
      json: { message: 'cannot overwrite directory "/home/taken" with non-directory "/home"' },
    });
    expect(await put(state, '/home', tarOf(encodeHeader(newEntry('directory', 'flat/'))), query)).toMatchObject({
      status: 500,
      json: { message: 'cannot overwrite non-directory "/home/flat" with directory "/home"' },
    });
    expect((await put(state, '/home', tarOf(file('taken', 'x')))).status).toBe(200);
    expect(await stat(state, '/home/taken')).toMatchObject({ size: 1 });
  });

  test('gzip is accepted in a PUT and sent in a GET that allows it', async () => {
    const packed = execFileSync('gzip', ['-c'], { input: tarOf(file('zipped', 'from gzip')) });
    expect((await put(state, '/home', packed)).status).toBe(200);
    const { headers, body } = await engine.api('GET', archive(state, '/home/zipped'), undefined, {
      'Accept-Encoding': 'gzip',
    });
    expect(headers['content-encoding']).toBe('gzip');
    expect(gunzipSync(body).includes('from gzip')).toBe(true);
    const plain = await engine.api('GET', archive(state, '/home/zipped'), undefined, { 'Accept-Encoding': 'identity' });
    expect([plain.headers['content-encoding'], plain.headers['content-type'], namesOf(plain.body)]).toEqual([
      undefined,
      'application/x-tar',
      ['zipped'],
    ]);
  });
});

test('a tmpfs of a running container is readable and writable; /proc, /sys and /dev contents are left out', async () => {
  writeFileSync(at('m'), 'in memory');
  await ok('cp', at('m'), 'running:/memory/');
  expect(await inside('cat /memory/m')).toBe('in memory');
  await ok('cp', 'running:/memory/m', at('m2'));
  expect(readFileSync(at('m2'), 'utf8')).toBe('in memory');
  const names = namesOf((await engine.api('GET', archive('running', '/'))).body);
  expect(names.filter((name) => /^\/(proc|sys)\/.|^\/dev\/(null|tty|pts\/.)/.test(name))).toEqual([]);
  expect(names).toContain('/etc/hosts');
});

test('files keep the archive’s owners, or get the container user’s with copyUIDGID [cp-owners]', async () => {
  const id = await ok('create', '--user', '33:44', 'busybox', 'true');
  const tar = tarOf(file('owned', '', { uid: 1000, gid: 1001 }));
  const upper = join(engine.root, 'data/containers', id, 'upper/owned');
  await put(id, '/', tar);
  expect(lstatSync(upper)).toMatchObject({ uid: 1000, gid: 1001 });
  await put(id, '/', tar, '&copyUIDGID=true');
  expect(lstatSync(upper)).toMatchObject({ uid: 33, gid: 44 });
  await ok('rm', id);
});

test('a read-only root rejects a PUT, its volumes and tmpfs accept it [cp-read-only]', async () => {
  const id = await ok(
    ...['run', '-d', '--read-only', '--tmpfs', '/memory', '-v', 'files:/volume'],
    ...['busybox', 'sleep', '1000'],
  );
  const tar = tarOf(file('x', 'x'));
  expect(await put(id, '/etc', tar)).toMatchObject({
    status: 400,
    json: { message: 'container rootfs is marked read-only' },
  });
  expect([(await put(id, '/volume', tar)).status, (await put(id, '/memory', tar)).status]).toEqual([200, 200]);
  await ok('rm', '-f', id);
});

test('archive-path and extract-to-dir events are emitted', async () => {
  const { text } = await engine.api(
    'GET',
    `/events?since=1&until=${(Date.now() / 1000 + 1).toFixed(3)}&filters=${encodeURIComponent('{"container":["stopped"]}')}`,
  );
  expect(text).toMatch(/"Action":"archive-path"/);
  expect(text).toMatch(/"Action":"extract-to-dir"/);
});

test('a stopped container is unmounted after a copy, and a container can start during one', async () => {
  const rootfs = join(engine.execRoot, 'c', ids.stopped.slice(0, 16), 'rootfs');
  await until(() => !readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${rootfs} `));
  const id = await ok('create', '--name', 'busy', 'busybox', 'sleep', '1000');
  await put(id, '/', tarOf(file('big', 'x'.repeat(30_000_000))));
  const slow = await new Promise<http.IncomingMessage>((resolve, reject) =>
    http.get({ socketPath: engine.socket, path: archive(id, '/big'), agent: false }, resolve).on('error', reject),
  );
  await ok('start', id);
  expect(await ok('exec', id, 'stat', '-c', '%s', '/big')).toBe('30000000');
  let size = 0;
  for await (const chunk of slow as AsyncIterable<Buffer>) size += chunk.length;
  expect(size).toBeGreaterThan(30_000_000);
  await ok('rm', '-f', id);
});

const archivers = (): string[] =>
  readdirSync('/proc').filter((pid) => {
    try {
      return (
        /^\d+$/.test(pid) &&
        readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('archiver.cjs') &&
        readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(engine.execRoot) &&
        !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
      );
    } catch {
      return false;
    }
  });

test('the archiver exits when its client disconnects or its container is removed', async () => {
  await put('running', '/home', tarOf(file('large', 'x'.repeat(30_000_000))));
  const reading = await new Promise<http.IncomingMessage>((resolve, reject) =>
    http
      .get({ socketPath: engine.socket, path: archive('running', '/home/large'), agent: false }, resolve)
      .on('error', reject),
  );
  expect(archivers().length).toBe(1);
  reading.destroy();
  await until(() => archivers().length === 0);
  const writing = http.request({
    socketPath: engine.socket,
    method: 'PUT',
    path: archive('running', '/home'),
    agent: false,
  });
  writing.on('error', () => undefined);
  writing.write(tarOf(file('half', 'x'.repeat(100_000))).subarray(0, 50_000));
  await until(() => archivers().length === 1);
  writing.destroy();
  await until(() => archivers().length === 0);
  const id = await ok('create', 'busybox', 'true');
  const held = http.request({ socketPath: engine.socket, method: 'PUT', path: archive(id, '/'), agent: false });
  held.on('error', () => undefined);
  held.write(tarOf(file('half', 'x'.repeat(100_000))).subarray(0, 50_000));
  await until(() => archivers().length === 1);
  await ok('rm', id);
  expect(archivers()).toEqual([]);
  expect(existsSync(join(engine.root, 'data/containers', id))).toBe(false);
  held.destroy();
});

describe('a container that swaps directories for symlinks during the copy', () => {
  // The path alternates between a directory and a symlink to the host, by each route that could reach it.
  const SWAPS = ['/..', '/../../../../../../../../..', '/proc/1/root', '/proc/self/root', '/proc/self/cwd'];
  test.each([
    ['its own processes', []],
    ['the host’s processes', ['--pid=host']],
  ])('never gives access to the host’s files when it sees %s [cp-symlink-race]', async (_, options) => {
    const secret = at('host-secret');
    mkdirSync(secret, { recursive: true });
    writeFileSync(join(secret, 'marker'), 'the host’s');
    const turns = SWAPS.map(
      (to) => `rm -rf d; ln -s ${to}${here} d; rm -f d; mkdir -p d/host-secret; echo ours > d/host-secret/marker; `,
    ).join('');
    const id = await ok(
      ...['run', '-d', ...options],
      ...['busybox', 'sh', '-c', `mkdir -p /swap; cd /swap; while true; do ${turns} sleep 0.01; done`],
    );
    const before = tree(secret, { owners: true });
    const tar = tarOf(
      encodeHeader(newEntry('directory', 'host-secret/')),
      file('host-secret/marker', 'overwritten'),
      file('host-secret/new', 'planted'),
    );
    // Most copies meet a link or a missing path; the test counts only once some have succeeded too.
    let succeeded = 0;
    for (let tries = 0; tries < 25 || succeeded < 3; tries++) {
      if (tries > 500) throw new Error('no copy succeeded');
      const [written, read] = await Promise.all([
        put(id, '/swap/d', tar),
        engine.api('GET', archive(id, '/swap/d/host-secret/marker')),
      ]);
      if (written.status === 200) succeeded++;
      expect(read.body.includes('the host’s')).toBe(false);
    }
    expect(tree(secret, { owners: true })).toEqual(before);
    expect(readFileSync(join(secret, 'marker'), 'utf8')).toBe('the host’s');
    await ok('rm', '-f', id);
  });

  test('devices and FIFOs are archived as such and never opened [cp-special-files]', async () => {
    await inside('mkdir -p /odd; mknod /odd/zero c 1 5; mkfifo /odd/fifo; ln -s /odd/fifo /odd/link');
    const { body } = await engine.api('GET', archive('running', '/odd'));
    expect(namesOf(body).sort()).toEqual(['odd/', 'odd/fifo', 'odd/link', 'odd/zero']);
  });
});
