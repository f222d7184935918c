/**
 * `docker run`, `exec`, `logs`, health checks and life-cycle commands with the stock docker CLI against a real daemon.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { opened } from '../support/http.ts';
import { until } from '../support/until.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const { docker, inspectFormat: inspect } = dockerOf(() => engine);
const sh = (script: string, ...options: string[]) => docker('run', '--rm', ...options, 'busybox', 'sh', '-c', script);

describe('docker run', () => {
  test('shows both streams and exits with the code of the process', async () => {
    expect(await sh('echo out; echo err >&2; exit 3')).toEqual({ stdout: 'out\n', stderr: 'err\n', exitCode: 3 });
  });

  test.each([0, 1, 42, 127, 200, 255])('exit code %i is returned', async (code) => {
    expect((await sh(`exit ${code}`)).exitCode).toBe(code);
  });

  test.each([
    [9, 137],
    [15, 143],
    [11, 139],
  ])('a process killed by signal %i yields exit code %i', async (signal, code) => {
    expect((await sh(`kill -${signal} $$; sleep 5`, '--init=false', '--pid=host')).exitCode).toBe(code);
  });

  test('processes of a container and of an exec start with no signal ignored or blocked', async () => {
    const none = /^SigBlk:\t0{16}\nSigIgn:\t0{16}\n$/;
    const command = ['grep', '-E', 'Sig(Blk|Ign)', '/proc/self/status'];
    expect(await engine.dockerOutput('run', '--rm', 'busybox', ...command)).toMatch(none);
    await engine.dockerOutput('run', '-d', '--name', 'signals', 'busybox', 'sleep', '1000');
    expect(await engine.dockerOutput('exec', 'signals', ...command)).toMatch(none);
    expect(await engine.dockerOutput('exec', 'signals', 'grep', '-E', 'Sig(Blk|Ign)', '/proc/1/status')).toMatch(none);
    await engine.dockerOutput('rm', '-f', 'signals');
  });

  test('a missing command yields exit code 127', async () => {
    const { exitCode, stderr } = await docker('run', '--rm', 'busybox', 'not-there');
    expect(exitCode).toBe(127);
    expect(stderr).toMatch(/exec: "not-there": executable file not found in \$PATH/);
  });

  test('a directory as command yields exit code 126', async () => {
    expect((await docker('run', '--rm', 'busybox', '/etc')).exitCode).toBe(126);
  });

  test('the working directory is created before the first start and must be a directory', async () => {
    expect(
      (await docker('create', '--name', 'early', '-w', '/app/src', 'busybox', 'sh', '-c', 'pwd; ls')).exitCode,
    ).toBe(0);
    expect((await docker('diff', 'early')).stdout).toBe('A /app\nA /app/src\n');
    expect((await docker('cp', '/etc/passwd', 'early:/app/src')).exitCode).toBe(0);
    expect((await docker('start', '-a', 'early')).stdout).toBe('/app/src\npasswd\n');
    await docker('rm', 'early');
    expect((await docker('create', '-w', '/etc/passwd', 'busybox', 'true')).stderr).toMatch(
      /Cannot mkdir: \/etc\/passwd is not a directory/,
    );
    expect((await docker('create', '-w', '/etc/passwd/below', 'busybox', 'true')).stderr).toMatch(/not a directory/);
    expect((await docker('ps', '-aq')).stdout).toBe('');
  });

  test('a missing container whose namespaces are joined is reported without pulling an image', async () => {
    const privileged = '--privileged';
    for (const [message, ...options] of [
      // Rejected by the create request …
      ['No such container: nobody', '--pid'],
      ['No such container: nobody', '--ipc'],
      // … and by the start.
      ['failed to join PID namespace: No such container: nobody', privileged, '--pid'],
      ['failed to join IPC namespace: No such container: nobody', privileged, '--ipc'],
      ['joining network namespace of container: No such container: nobody', '--network'],
    ] as const) {
      const { stderr, exitCode } = await docker('run', '--rm', ...options, 'container:nobody', 'busybox', 'true');
      expect([stderr, exitCode]).toEqual([
        expect.stringMatching(`^docker: Error response from daemon: ${message}\n`),
        125,
      ]);
    }
    expect(
      (await docker('create', '--name', 'guest', '--network', 'container:host', 'busybox', 'ip', '-o', '-4', 'addr'))
        .exitCode,
    ).toBe(0);
    await docker('run', '-d', '--name', 'host', 'busybox', 'sleep', '1000');
    expect((await docker('start', '-a', 'guest')).stdout).toContain('eth0');
    await docker('rm', '-f', 'guest', 'host');
  });

  test('a missing image is reported with exit code 125', async () => {
    const { exitCode, stderr } = await docker('run', '--rm', '--pull=never', 'not-an-image', 'true');
    expect(exitCode).toBe(125);
    expect(stderr).toMatch(/No such image: not-an-image:latest/);
  });

  test('stdin and its end reach the process', async () => {
    const run = engine.docker('run', '--rm', '-i', 'busybox', 'cat');
    run.stdin.end('one\ntwo\n');
    expect(await run.result).toMatchObject({ stdout: 'one\ntwo\n', exitCode: 0 });
  });

  test('a megabyte of stdin arrives complete', async () => {
    const run = engine.docker('run', '--rm', '-i', 'busybox', 'md5sum');
    run.stdin.end(Buffer.alloc(1024 * 1024, 'x'));
    expect((await run.result).stdout).toMatch(/^[0-9a-f]{32} /);
  });

  test('--rm has released name, volumes and image when the wait for removal returns', async () => {
    for (let round = 0; round < 5; round++) {
      const image = (
        await engine.api(
          'POST',
          `/commit?container=${(await docker('create', 'busybox', 'true')).stdout.trim()}&repo=once`,
        )
      ).status;
      expect(image).toBe(201);
      const made = await engine.api('POST', '/containers/create?name=gone', {
        Image: 'once',
        Cmd: ['true'],
        HostConfig: { AutoRemove: true, NetworkMode: 'none', Binds: ['once:/x'] },
      });
      const { Id } = made.json as { Id: string };
      const wait = await opened(engine.socket, 'POST', `/containers/${Id}/wait?condition=removed`);
      await engine.api('POST', `/containers/${Id}/start`);
      expect((await wait.answer).json).toEqual({ StatusCode: 0 });
      // Without polling: everything is released when the wait returns.
      const [inspected, name, volume, once] = await Promise.all([
        engine.api('GET', `/containers/${Id}/json`),
        engine.api('POST', '/containers/create?name=gone', { Image: 'busybox', Cmd: ['true'] }),
        engine.api('DELETE', '/volumes/once'),
        engine.api('DELETE', '/images/once'),
      ]);
      expect([inspected.status, name.status, volume.status, once.status]).toEqual([404, 201, 204, 200]);
      await docker('container', 'prune', '-f');
    }
  });

  test('a terminal has a tty, echo and CRLF line ends', async () => {
    const run = engine.terminal('run', '--rm', '-it', 'busybox', 'sh');
    run.stdin.write('echo $((40+2)); tty; exit 6\n');
    expect(await run.exitCode).toBe(6);
    expect(run.stdout()).toMatch(/42\r\n/);
    expect(run.stdout()).toMatch(/\/dev\/(console|pts)/);
  });

  test('-d keeps running, logs shows its output, stop ends it with 143', async () => {
    await docker(
      ...['run', '-d', '--name', 'stays'],
      ...['busybox', 'sh', '-c', 'trap "exit 143" TERM; echo here; while :; do usleep 20000; done'],
    );
    await until(async () => (await docker('logs', 'stays')).stdout === 'here\n');
    expect((await docker('stop', 'stays')).exitCode).toBe(0);
    expect(await inspect('stays', '{{.State.Status}} {{.State.ExitCode}}')).toBe('exited 143');
    expect((await docker('start', 'stays')).exitCode).toBe(0);
    expect(await inspect('stays', '{{.State.Status}}')).toBe('running');
    await docker('rm', '-f', 'stays');
  });

  test('a container that ignores SIGTERM is killed at the timeout', async () => {
    await docker('run', '-d', '--name', 'deaf', 'busybox', 'sleep', '1000');
    const stopSentAt = Date.now();
    expect((await docker('stop', '-t', '1', 'deaf')).exitCode).toBe(0);
    expect(Date.now() - stopSentAt).toBeGreaterThan(900);
    expect(await inspect('deaf', '{{.State.ExitCode}}')).toBe('137');
    await docker('rm', 'deaf');
  });

  test('pause and unpause change the state', async () => {
    await docker('run', '-d', '--name', 'still', 'busybox', 'sleep', '1000');
    expect((await docker('pause', 'still')).exitCode).toBe(0);
    expect(await inspect('still', '{{.State.Status}} {{.State.Paused}}')).toBe('paused true');
    expect((await docker('unpause', 'still')).exitCode).toBe(0);
    expect(await inspect('still', '{{.State.Status}}')).toBe('running');
    await docker('rm', '-f', 'still');
  });

  test('restart keeps the container and starts a new process', async () => {
    await docker('run', '-d', '--name', 'again', 'busybox', 'sleep', '1000');
    const pid = await inspect('again', '{{.State.Pid}}');
    expect((await docker('restart', '-t', '0', 'again')).exitCode).toBe(0);
    expect(await inspect('again', '{{.State.Status}}')).toBe('running');
    expect(await inspect('again', '{{.State.Pid}}')).not.toBe(pid);
    await docker('rm', '-f', 'again');
  });

  test('on-failure stops after its retries', async () => {
    await docker('run', '-d', '--name', 'tries', '--restart', 'on-failure:2', 'busybox', 'false');
    await until(async () => (await inspect('tries', '{{.State.Status}} {{.RestartCount}}')) === 'exited 2');
    await docker('rm', 'tries');
  });

  test('a process beyond the memory limit is killed and OOMKilled is set', async () => {
    await docker(
      ...['run', '--name', 'hungry', '-m', '16m', '--memory-swap', '16m'],
      ...['busybox', 'sh', '-c', 'tail /dev/zero'],
    );
    expect(await inspect('hungry', '{{.State.OOMKilled}} {{.State.ExitCode}}')).toBe('true 137');
    await docker('rm', 'hungry');
  });

  test('OOMKilled and an oom event appear at once when the init process survives', async () => {
    await docker(
      ...['run', '-d', '--name', 'glutton', '-m', '16m', '--memory-swap', '16m'],
      ...['busybox', 'sh', '-c', 'sh -c "tail /dev/zero"; sleep 10000'],
    );
    await until(async () => (await inspect('glutton', '{{.State.Status}} {{.State.OOMKilled}}')) === 'running true');
    const { text } = await engine.api(
      'GET',
      `/events?since=0&until=${Math.ceil(Date.now() / 1000)}&filters=${encodeURIComponent(JSON.stringify({ container: ['glutton'] }))}`,
    );
    expect(
      text
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as { Action: string }).Action),
    ).toEqual(['create', 'start', 'oom']);
    await docker('restart', '-t', '0', 'glutton');
    await docker('rm', '-f', 'glutton');
  });

  test('wait, rename, top, ps filters and update work', async () => {
    await docker('run', '-d', '--name', 'named', '--label', 'a=b', 'busybox', 'sleep', '1000');
    expect((await docker('rename', 'named', 'renamed')).exitCode).toBe(0);
    expect((await docker('top', 'renamed')).stdout).toMatch(/sleep 1000/);
    expect((await docker('ps', '-q', '--filter', 'label=a=b')).stdout.trim()).toHaveLength(12);
    expect((await docker('update', '--memory', '64m', '--memory-swap', '64m', 'renamed')).exitCode).toBe(0);
    expect(await inspect('renamed', '{{.HostConfig.Memory}}')).toBe(String(64 * 1024 * 1024));
    const wait = engine.docker('wait', 'renamed');
    await docker('kill', 'renamed');
    expect((await wait.result).stdout.trim()).toBe('137');
    await docker('rm', 'renamed');
  });

  test('a wait for removal returns when the container and its volumes are gone', async () => {
    for (const mayRun of [true, false]) {
      const made = [
        '--rm',
        '--name',
        'going',
        '-v',
        '/anonymous',
        'busybox',
        'sh',
        '-c',
        'mkdir /d; cd /d; i=0; while [ $i -lt 4000 ]; do : >$i; i=$((i + 1)); done',
      ];
      const { stdout } = await docker(...(mayRun ? ['run', '-d'] : ['create']), ...made);
      const removal = mayRun ? undefined : engine.api('DELETE', '/containers/going?v=1');
      await engine.api('POST', `/containers/${stdout.trim()}/wait?condition=removed`);
      const [found, volumes] = await Promise.all([
        engine.api('GET', '/containers/going/json'),
        engine.api('GET', '/volumes'),
      ]);
      expect(found.status).toBe(404);
      expect(volumes.json).toMatchObject({ Volumes: [] });
      await removal;
    }
  });

  test('concurrent requests for one container all get an answer, and it can be removed', async () => {
    const id = (await docker('run', '-d', 'busybox', 'sleep', '1000')).stdout.trim();
    const post = (path: string): Promise<number> =>
      engine.api('POST', `/containers/${id}/${path}`).then(({ status }) => status);
    const paths = Array.from({ length: 8 }, () => ['restart?t=0', 'kill', 'stop?t=0', 'start', 'kill']).flat();
    const statuses = await Promise.all(paths.map(post));
    for (const [i, status] of statuses.entries())
      expect(
        { start: [204, 304], stop: [204, 304], kill: [204, 409], restart: [204] }[paths[i]!.replace(/\?.*/, '')],
      ).toContain(status);
    await post('start');
    const restarts = Promise.all(Array.from({ length: 5 }, () => post('restart?t=0')));
    expect((await engine.api('DELETE', `/containers/${id}?force=1`)).status).toBe(204);
    for (const status of await restarts) expect([204, 404, 409, 500]).toContain(status);
    expect((await engine.api('GET', `/containers/${id}/json`)).status).toBe(404);
  }, 60_000);
});

describe('docker exec', () => {
  test('runs a process beside the container’s own', async () => {
    await docker('run', '-d', '--name', 'host', '-e', 'A=1', 'busybox', 'sleep', '1000');
    expect(
      await docker('exec', '-e', 'B=2', '-w', '/tmp', 'host', 'sh', '-c', 'echo $A $B $PWD; echo e >&2; exit 4'),
    ).toEqual({ stdout: '1 2 /tmp\n', stderr: 'e\n', exitCode: 4 });
    const piped = engine.docker('exec', '-i', 'host', 'cat');
    piped.stdin.end('through\n');
    expect((await piped.result).stdout).toBe('through\n');
    const missing = await docker('exec', 'host', 'not-there');
    expect(missing.exitCode).toBe(127);
    const terminal = engine.terminal('exec', '-it', 'host', 'sh', '-c', 'tty; exit 8');
    expect(await terminal.exitCode).toBe(8);
    await docker('rm', '-f', 'host');
  });

  test('25 execs: every exit code is correct', async () => {
    await docker('run', '-d', '--name', 'many', 'busybox', 'sleep', '1000');
    for (let i = 0; i < 25; i++)
      expect((await docker('exec', 'many', 'sh', '-c', `exit ${i + 1}`)).exitCode).toBe(i + 1);
    await docker('rm', '-f', 'many');
  });
});

test('an exec that was never started is dropped at exit or restart, a started one is kept until removal', async () => {
  await docker('run', '-d', '--name', 'runs', 'busybox', 'sleep', '1000');
  const made = async (): Promise<string> =>
    ((await engine.api('POST', '/containers/runs/exec', { Cmd: ['true'] })).json as { Id: string }).Id;
  const ids = async (): Promise<string[] | null> =>
    ((await engine.api('GET', '/containers/runs/json')).json as { ExecIDs: string[] | null }).ExecIDs;
  const known = async (id: string): Promise<number> => (await engine.api('GET', `/exec/${id}/json`)).status;
  const [started, left] = [await made(), await made()];
  expect((await engine.api('POST', `/exec/${started}/start`, { Detach: true })).status).toBe(200);
  await until(async () => JSON.stringify(await ids()) === JSON.stringify([left]));
  await docker('restart', '-t', '0', 'runs');
  expect([await known(started), await known(left), await ids()]).toEqual([200, 404, null]);
  const again = await made();
  await docker('pause', 'runs');
  expect(await known(again)).toBe(200);
  await docker('unpause', 'runs');
  await docker('kill', 'runs');
  expect([await known(started), await known(again)]).toEqual([200, 404]);
  await docker('rm', 'runs');
  expect(await known(started)).toBe(404);
});

test('a container without environment has Env null, like Go’s nil slice', async () => {
  await docker('create', '--name', 'bare', 'busybox', 'true');
  await docker('create', '--name', 'with-env', '-e', 'A=1', 'busybox', 'true');
  const env = async (name: string): Promise<unknown> =>
    ((await engine.api('GET', `/containers/${name}/json`)).json as { Config: { Env: unknown } }).Config.Env;
  expect([await env('bare'), await env('with-env')]).toEqual([null, ['A=1']]);
  await docker('rm', 'bare', 'with-env');
});

describe('health', () => {
  test('checks emit exec events, like dockerd’s', async () => {
    const since = String(Date.now() / 1000 - 1);
    await docker(
      ...['run', '-d', '--name', 'checked', '--health-cmd', 'exit 3', '--health-interval', '200ms'],
      ...['--health-retries', '1'],
      ...['busybox', 'sleep', '1000'],
    );
    await until(async () => (await inspect('checked', '{{.State.Health.Status}}')) === 'unhealthy');
    await docker('rm', '-f', 'checked');
    const range = ['--since', since, '--until', String(Date.now() / 1000)];
    const { stdout } = await docker('events', ...range, '--filter', 'container=checked', '--format', '{{json .}}');
    const lines = stdout.trim().split('\n');
    const events = lines.map(
      (line) =>
        JSON.parse(line) as {
          Action: string;
          timeNano: number;
          Actor: { Attributes: { execID?: string; exitCode?: string } };
        },
    );
    const at = events.findIndex(({ Action }) => Action.startsWith('exec_create'));
    const id = events[at]!.Actor.Attributes.execID;
    expect(id).toMatch(/^[0-9a-f]{64}$/);
    expect(
      events.slice(at, at + 4).map(
        ({
          Action,
          Actor: {
            Attributes: { execID, exitCode },
          },
        }) => [Action, execID, exitCode],
      ),
    ).toEqual([
      ['exec_create: /bin/sh -c exit 3', id, undefined],
      ['exec_start: /bin/sh -c exit 3', id, undefined],
      ['exec_die', id, '3'],
      ['health_status: unhealthy', undefined, undefined],
    ]);
    expect(events[at + 2]!.timeNano).toBeGreaterThan(events[at]!.timeNano);
  });

  test('a container becomes healthy and then unhealthy', async () => {
    await docker(
      ...['run', '-d', '--name', 'ill', '--health-cmd', 'test ! -e /sick', '--health-interval', '200ms'],
      ...['--health-retries', '2'],
      ...['busybox', 'sleep', '1000'],
    );
    await until(async () => (await inspect('ill', '{{.State.Health.Status}}')) === 'healthy');
    await docker('exec', 'ill', 'touch', '/sick');
    await until(async () => (await inspect('ill', '{{.State.Health.Status}}')) === 'unhealthy');
    expect((await docker('ps', '--filter', 'health=unhealthy', '--format', '{{.Names}} {{.Status}}')).stdout).toMatch(
      /^ill Up .*\(unhealthy\)/,
    );
    await docker('rm', '-f', 'ill');
  });
});

describe('logs', () => {
  test('supports tail, since, until, timestamps and follow', async () => {
    await docker(
      ...['run', '--name', 'talks'],
      ...['busybox', 'sh', '-c', 'for i in 1 2 3 4 5; do echo line $i; done; echo no newline | tr -d "\\n"'],
    );
    expect((await docker('logs', '--tail', '2', 'talks')).stdout).toBe('line 5\nno newline');
    expect((await docker('logs', '-t', '--tail', '2', 'talks')).stdout).toMatch(
      /^\d{4}-\d\d-\d\dT[\d:]+\.\d{9}Z line 5\n/,
    );
    expect((await docker('logs', '-f', 'talks')).stdout).toMatch(/line 1\n[^]*no newline$/);
    expect((await docker('logs', '--since', '1h', 'talks')).stdout).toMatch(/line 1/);
    expect((await docker('logs', '--until', '1h', 'talks')).stdout).toBe('');
    await docker('rm', 'talks');
  });

  test('rotation keeps max-file files and loses no line within them', async () => {
    await docker(
      ...['run', '--name', 'long', '--log-opt', 'max-size=10k', '--log-opt', 'max-file=3'],
      ...['busybox', 'sh', '-c', 'i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done'],
    );
    const lines = (await docker('logs', 'long')).stdout
      .trim()
      .split('\n')
      .map((line) => Number(line.split(' ')[1]));
    expect(lines.at(-1)).toBe(999);
    expect(lines.length).toBeGreaterThan(100);
    expect(lines.length).toBeLessThan(1000);
    lines.forEach((n, i) => expect(n).toBe(lines[0]! + i));
    await docker('rm', 'long');
  });
});
