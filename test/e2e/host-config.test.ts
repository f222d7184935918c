/**
 * HostConfig settings whose effect shows only between containers, at a second start or on the host: bind sources,
 * joined namespaces, shared memory, links, limits. These need real mounts, namespaces and cgroups.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';

let engine: TestEngine;
let scratch: string;
beforeAll(async () => {
  engine = await startEngine();
  scratch = mkdtempSync('/tmp/hf-host-');
  chmodSync(scratch, 0o755);
});
afterAll(async () => {
  await engine?.[Symbol.asyncDispose]();
  rmSync(scratch, { recursive: true, force: true });
});

const { docker, inspectFormat: inspect } = dockerOf(() => engine);
const sh = (script: string, ...options: string[]) => docker('run', '--rm', ...options, 'busybox', 'sh', '-c', script);
const background = async (...options: string[]): Promise<string> => {
  const { stdout, stderr, exitCode } = await docker('run', '-d', ...options, 'busybox', 'sleep', '1000');
  expect({ stderr, exitCode }).toEqual({ stderr: '', exitCode: 0 });
  return stdout.trim();
};

describe('a bind source that does not exist', () => {
  test('-v creates it at each start', async () => {
    const source = join(scratch, 'made/by/bind');
    await docker(
      ...['create', '--name', 'bound', '-v', `${source}:/data`],
      ...['busybox', 'sh', '-c', 'ls /data; touch /data/x'],
    );
    expect(existsSync(source)).toBe(false);
    expect((await docker('start', '-a', 'bound')).exitCode).toBe(0);
    expect(statSync(source).mode & 0o777).toBe(0o755);
    rmSync(join(scratch, 'made'), { recursive: true });
    expect(await docker('start', '-a', 'bound')).toEqual({ stdout: '', stderr: '', exitCode: 0 });
    expect(existsSync(join(source, 'x'))).toBe(true);
  });

  test('--mount is refused at create', async () => {
    const source = join(scratch, 'nowhere');
    const { exitCode, stderr } = await docker(
      ...['create', '--mount', `type=bind,source=${source},target=/data`],
      ...['busybox', 'true'],
    );
    expect(exitCode).toBe(1);
    expect(stderr).toBe(
      `Error response from daemon: invalid mount config for type "bind": bind source path does not exist: ${source}\n`,
    );
    expect(existsSync(source)).toBe(false);
  });

  test('a start with --mount fails and does not recreate it', async () => {
    const source = mkdtempSync(join(scratch, 'lost-'));
    await docker('create', '--name', 'lost', '--mount', `type=bind,source=${source},target=/data`, 'busybox', 'true');
    rmSync(source, { recursive: true });
    expect((await docker('start', 'lost')).exitCode).toBe(1);
    expect(existsSync(source)).toBe(false);
  });

  test('a mount with CreateMountpoint creates it', async () => {
    const source = join(scratch, 'made/by/mount');
    const created = await engine.api('POST', '/containers/create', {
      Image: 'busybox',
      Cmd: ['true'],
      HostConfig: {
        Mounts: [{ Type: 'bind', Source: source, Target: '/data', BindOptions: { CreateMountpoint: true } }],
      },
    });
    expect(created.status, created.text).toBe(201);
    expect((await engine.api('POST', `/containers/${(created.json as { Id: string }).Id}/start`)).status).toBe(204);
    expect(existsSync(source)).toBe(true);
  });

  test('a source below a file is refused with Docker’s message', async () => {
    writeFileSync(join(scratch, 'file'), '');
    const { exitCode, stderr } = await sh('true', '-v', `${join(scratch, 'file')}/below:/data`);
    expect(exitCode).toBe(125);
    expect(stderr).toContain('Are you trying to mount a directory onto a file (or vice-versa)?');
  });
});

describe('--volumes-from', () => {
  test('mounts the other container’s volumes and binds, in preference to an anonymous volume of its own', async () => {
    writeFileSync(join(scratch, 'note'), 'bound');
    await docker(
      ...['run', '--name', 'donor', '-v', '/data', '-v', 'named:/named', '-v', `${join(scratch, 'note')}:/note:ro`],
      ...['busybox', 'sh', '-c', 'echo given > /data/x; echo given > /named/x'],
    );
    const volume = await inspect('donor', '{{range .Mounts}}{{if eq .Destination "/data"}}{{.Name}}{{end}}{{end}}');
    await docker(
      ...['create', '--name', 'heir', '--volumes-from', 'donor', '-v', '/data'],
      ...['busybox', 'sh', '-c', 'cat /data/x /named/x /note; echo more >> /data/x; echo no > /note'],
    );
    expect(await inspect('heir', '{{range .Mounts}}{{if eq .Destination "/data"}}{{.Name}}{{end}}{{end}}')).toBe(
      volume,
    );
    const { stdout, stderr } = await docker('start', '-a', 'heir');
    expect(stdout).toBe('given\ngiven\nbound');
    expect(stderr).toContain('/note: Read-only file system');
    expect((await sh('cat /data/x; touch /data/y', '--volumes-from', 'donor:ro')).stdout).toBe('given\nmore\n');
    expect((await sh('touch /data/y', '--volumes-from', 'donor:ro')).stderr).toContain('Read-only file system');
    expect((await sh('touch /data/y', '--volumes-from', 'donor:z')).exitCode).toBe(0);
    expect((await sh('true', '--volumes-from', 'nobody')).stderr).toContain('No such container: nobody');
    expect((await sh('true', '--volumes-from', 'donor:loud')).stderr).toContain('invalid mode: loud');
  });

  test('an anonymous volume is kept until its last container is removed', async () => {
    await docker('run', '--name', 'first', '-v', '/data', 'busybox', 'true');
    await docker('create', '--name', 'second', '--volumes-from', 'first', 'busybox', 'true');
    const volume = await inspect('first', '{{(index .Mounts 0).Name}}');
    await docker('rm', '-v', 'first');
    expect((await docker('volume', 'inspect', volume)).exitCode).toBe(0);
    await docker('rm', '-v', 'second');
    expect((await docker('volume', 'inspect', volume)).exitCode).toBe(1);
    await docker('run', '--rm', '-v', '/data', 'busybox', 'true');
    expect(
      (await docker('volume', 'ls', '-q', '--filter', 'dangling=true')).stdout
        .split('\n')
        .filter((name) => /^[0-9a-f]{64}$/.test(name)),
    ).toEqual([]);
  });
});

describe('shared memory', () => {
  const isMounted = (id: string): boolean =>
    readFileSync('/proc/self/mountinfo', 'utf8').includes(join(engine.execRoot, 'c', id.slice(0, 16), 'shm'));

  test('of a shareable container is available to another one and removed with its owner', async () => {
    const id = await background('--ipc', 'shareable', '--shm-size', '2m', '--name', 'memory');
    await docker('exec', 'memory', 'sh', '-c', 'echo kept > /dev/shm/x');
    const { stdout } = await sh(
      'cat /dev/shm/x; grep " /dev/shm " /proc/mounts; readlink /proc/self/ns/ipc',
      '--ipc',
      'container:memory',
    );
    expect(stdout).toMatch(/^kept\nshm .*size=2048k/);
    expect(stdout).toContain((await docker('exec', 'memory', 'readlink', '/proc/self/ns/ipc')).stdout);
    expect(isMounted(id)).toBe(true);
    await docker('kill', 'memory');
    await until(() => !isMounted(id));
    await docker('start', 'memory');
    expect((await docker('exec', 'memory', 'ls', '/dev/shm')).stdout).toBe('');
    await docker('rm', '-f', 'memory');
    expect(isMounted(id)).toBe(false);
  });

  test('of a private container cannot be joined', async () => {
    const id = await background('--ipc', 'private');
    const { exitCode, stderr } = await sh('true', '--ipc', `container:${id}`);
    expect(exitCode).toBe(125);
    expect(stderr).toContain(
      `failed to join IPC namespace: container ${id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)`,
    );
  });

  test('of a stopped container cannot be joined, nor can its PID namespace', async () => {
    const id = (await docker('create', '--ipc', 'shareable', 'busybox', 'true')).stdout.trim();
    expect((await sh('true', '--ipc', `container:${id}`)).stderr).toContain(
      `failed to join IPC namespace: container ${id} is not running`,
    );
    expect((await sh('true', '--pid', `container:${id}`)).stderr).toContain(
      `failed to join PID namespace: container ${id} is not running`,
    );
  });

  test('a policy restart does not join a process that reused the dead container’s PID', async () => {
    const donor = await background('--ipc', 'shareable');
    const id = (
      await docker(
        ...['run', '-d', '--restart', 'always', '--ipc', `container:${donor}`],
        ...['busybox', 'sh', '-c', 'sleep 2; exit 1'],
      )
    ).stdout.trim();
    const pid = Number((await docker('inspect', '-f', '{{.State.Pid}}', donor)).stdout);
    expect(JSON.parse(readFileSync(join(engine.root, 'data/containers', id, 'spec.json'), 'utf8'))).toMatchObject({
      donors: [{ pid, startTime: expect.stringMatching(/^\d+$/) }],
    });
    await docker('kill', donor);
    await until(
      async () =>
        (await docker('inspect', '-f', '{{.State.Status}} {{.State.Error}}', id)).stdout.startsWith(
          'exited failed to join namespaces: the joined container is not running',
        ),
      20_000,
    );
    await docker('rm', '-f', id, donor);
  });
});

test('--link on a user-defined network adds an alias that only this container sees', async () => {
  await docker('network', 'create', 'linked-net');
  try {
    const id = await background('--name', 'net-db', '--network', 'linked-net');
    const address = await inspect(id, '{{(index .NetworkSettings.Networks "linked-net").IPAddress}}');
    const linking = await sh(
      'env; ping -c 1 -W 3 database && echo reached',
      '--network',
      'linked-net',
      '--link',
      'net-db:database',
    );
    expect(linking).toMatchObject({ stderr: '', exitCode: 0 });
    expect(linking.stdout).toContain(`PING database (${address})`);
    expect(linking.stdout).not.toContain('DATABASE_NAME');
    expect(linking.stdout).toMatch(/^reached$/m);
    expect((await sh('ping -c 1 -W 3 database', '--network', 'linked-net')).stdout).not.toContain(address);
  } finally {
    await docker('rm', '-f', 'net-db');
    await docker('network', 'rm', 'linked-net');
  }
});

describe('--link on the default bridge', () => {
  test('adds names and environment of the linked container', async () => {
    const id = await background(
      '--name',
      'linked-db',
      '--hostname',
      'dbhost',
      '--expose',
      '5432',
      '--expose',
      '5433',
      '--expose',
      '53/udp',
      '-e',
      'SECRET=open',
    );
    const address = await inspect(id, '{{.NetworkSettings.IPAddress}}');
    const { stdout, stderr, exitCode } = await sh(
      'cat /etc/hosts; env',
      '--name',
      'linking',
      '--link',
      'linked-db:the-db',
    );
    expect({ stderr, exitCode }).toEqual({ stderr: '', exitCode: 0 });
    expect(stdout).toContain(`${address}\tthe-db dbhost linked-db\n`);
    expect(stdout.split('\n')).toEqual(
      expect.arrayContaining([
        `THE_DB_PORT=tcp://${address}:5432`,
        `THE_DB_PORT_5433_TCP_ADDR=${address}`,
        'THE_DB_PORT_5432_TCP_PORT=5432',
        'THE_DB_PORT_53_UDP_PROTO=udp',
        `THE_DB_PORT_5432_TCP_START=tcp://${address}:5432`,
        'THE_DB_PORT_5432_TCP_PORT_END=5433',
        'THE_DB_NAME=/linking/the-db',
        'THE_DB_ENV_SECRET=open',
      ]),
    );
    expect((await sh('ping -c 1 -W 3 linked-db >/dev/null && echo reached', '--link', 'linked-db')).stdout).toBe(
      'reached\n',
    );
  });

  test('is shown by inspect, reaches an exec, and refuses a stopped container', async () => {
    await background('--name', 'linked-a');
    const id = await background('--name', 'linked-b', '--link', 'linked-a:one');
    expect(await inspect(id, '{{json .HostConfig.Links}}')).toBe('["/linked-a:/linked-b/one"]');
    expect((await docker('exec', id, 'env')).stdout).toContain('ONE_NAME=/linked-b/one\n');
    await docker('kill', 'linked-a', 'linked-b');
    const started = await docker('start', 'linked-b');
    expect(started.stderr).toContain('Cannot link to a non running container: /linked-a AS /linked-b/one');
    await docker('start', 'linked-a');
    expect((await docker('start', 'linked-b')).exitCode).toBe(0);
    expect((await docker('create', '--link', 'nobody', 'busybox', 'true')).stderr).toContain(
      'could not get container for nobody: No such container: nobody',
    );
  });
});

describe('limits at the maximum of 64 bits', () => {
  test('core=-1 means unlimited in the container and in an exec', async () => {
    const id = await background('--ulimit', 'core=-1');
    expect((await docker('exec', id, 'sh', '-c', 'ulimit -c; ulimit -Hc')).stdout).toBe('unlimited\nunlimited\n');
    expect((await sh('ulimit -c', '--ulimit', 'core=-1')).stdout).toBe('unlimited\n');
  });

  test('the largest memory limit is accepted', async () => {
    const created = await engine.api(
      'POST',
      '/containers/create',
      '{"Image":"busybox","Cmd":["echo","runs"],"HostConfig":{"Memory":9223372036854775807,"MemorySwap":-1,"MemoryReservation":9007199254740993}}',
    );
    expect(created.status, created.text).toBe(201);
    const { Id } = created.json as { Id: string };
    expect(await docker('start', '-a', Id)).toEqual({ stdout: 'runs\n', stderr: '', exitCode: 0 });
  });

  test('update sets swap back to unlimited', async () => {
    const id = await background('--memory', '32m', '--memory-swap', '64m');
    const swap = (): string =>
      execFileSync(
        'sh',
        [
          '-c',
          `find /sys/fs/cgroup/ -path '*${id}*' \\( -name memory.memsw.limit_in_bytes -o -name memory.swap.max \\) -exec cat {} +`,
        ],
        { encoding: 'utf8' },
      ).trim();
    if (swap() === '') return void expect((await docker('info', '-f', '{{.SwapLimit}}')).stdout.trim()).toBe('false');
    expect(['67108864', '33554432']).toContain(swap());
    const { exitCode, stderr } = await docker('update', '--memory-swap', '-1', id);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    expect(swap()).toMatch(/^(max|9223372036854771712)$/);
    expect(await inspect(id, '{{.HostConfig.MemorySwap}}')).toBe('-1');
  });
});
