/**
 * Runs Debian's docker-compose 1.29 (on docker-py 5) against a real daemon with a web page, an API and a database
 * (stack/docker-compose.yml). The tests are one session: each continues with the services that the one before left.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { debianTar } from '../../support/debian.ts';
import { startEngine, type TestEngine } from '../../support/engine.ts';
import { until } from '../../support/until.ts';

const MAKING_MS = 900_000;
const STACK = fileURLToPath(new URL('stack', import.meta.url));
const PROJECT = `hf${process.pid}`;

interface Listed {
  Id: string;
  Names: string[];
  State: string;
  Labels: Record<string, string>;
  Ports: { PrivatePort: number; PublicPort?: number }[];
}
interface Inspected {
  Id: string;
  State: { Status: string; StartedAt: string; Pid: number; Health?: { Status: string } };
  Mounts: { Type: string; Name?: string }[];
}

let engine: TestEngine;
beforeAll(async () => {
  const archive = debianTar('python3', 'redis-server');
  engine = await startEngine();
  expect(await engine.docker('import', archive, 'debian:stack').result).toMatchObject({ stderr: '', exitCode: 0 });
}, MAKING_MS);
afterAll(async () => {
  if (!engine) return;
  await compose('down', '-v', '--remove-orphans', '-t', '1').result;
  await engine[Symbol.asyncDispose]();
});

interface Run {
  child: ChildProcess;
  stdout(): string;
  stderr(): string;
  result: Promise<{ stdout: string; stderr: string; exitCode: number }>;
}

/** docker-compose calls the docker CLI for exec and run. */
const environment = (variables: Record<string, string> = {}): NodeJS.ProcessEnv => ({
  ...process.env,
  PATH: [...(process.env.HOLDFAST_DOCKER ? [dirname(process.env.HOLDFAST_DOCKER)] : []), process.env.PATH].join(':'),
  DOCKER_HOST: `unix://${engine.socket}`,
  COMPOSE_HTTP_TIMEOUT: '100',
  ...variables,
});
const compose = (...args: string[]): Run => composeWith({}, ...args);

function composeWith(variables: Record<string, string>, ...args: string[]): Run {
  const child = spawn('docker-compose', ['-p', PROJECT, '--ansi', 'never', ...args], {
    cwd: STACK,
    env: environment(variables),
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdin.on('error', () => undefined);
  const result = new Promise<{ stdout: string; stderr: string; exitCode: number }>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ stdout, stderr, exitCode: code ?? (signal ? 255 : 0) }));
  });
  return { child, stdout: () => stdout, stderr: () => stderr, result };
}

/** Runs docker-compose and returns its stdout. Fails the test when the exit code is not 0. */
const done = async (...args: string[]): Promise<string> => {
  const { stdout, stderr, exitCode } = await compose(...args).result;
  expect(exitCode, `docker-compose ${args.join(' ')}: ${stderr}`).toBe(0);
  return stdout.replaceAll('\r\n', '\n').trim();
};
const mine = encodeURIComponent(JSON.stringify({ label: [`com.docker.compose.project=${PROJECT}`] }));
const containers = async (): Promise<Listed[]> =>
  (await engine.api('GET', `/containers/json?all=1&filters=${mine}`)).json as Listed[];
const names = async (): Promise<string[]> =>
  (await containers()).map(({ Names }) => Names[0]!.slice(1 + PROJECT.length + 1)).sort();
const inspect = async (name: string): Promise<Inspected> =>
  (await engine.api('GET', `/containers/${PROJECT}_${name}/json`)).json as Inspected;
/** Requests the web page through its published port: the API container that answered, and its counter. */
const visit = async (): Promise<{ host: string; count: number }> => {
  const port = (await containers())
    .find(({ Labels }) => Labels['com.docker.compose.service'] === 'web')!
    .Ports.find(({ PublicPort }) => PublicPort)!.PublicPort!;
  const [host, count] = (await engine.curl(`http://127.0.0.1:${port}/cgi-bin/count`)).trim().split(' ');
  return { host: host!, count: Number(count) };
};
const counts = async (): Promise<number> => (await visit().catch(() => undefined))?.count ?? NaN;
/** Waits until the web page answers with a number. */
const answers = (): Promise<void> => until(async () => !Number.isNaN(await counts()), 60_000);

describe('docker-compose', { concurrent: false }, () => {
  test('up creates networks, a volume, and services in the order of their dependencies [compose-up]', async () => {
    const { stderr, exitCode } = await compose('up', '-d').result;
    expect(exitCode, stderr).toBe(0);
    for (const line of [
      `Creating network "${PROJECT}_front" with the default driver`,
      `Creating network "${PROJECT}_back"`,
      `Creating volume "${PROJECT}_data" with default driver`,
    ])
      expect(stderr).toContain(line);
    expect(await names()).toEqual(['api_1', 'db_1', 'web_1']);
    const [web, api, db] = await Promise.all(['web_1', 'api_1', 'db_1'].map(inspect));
    expect(db!.State.Health!.Status).toBe('healthy');
    expect(Date.parse(db!.State.StartedAt)).toBeLessThan(Date.parse(api!.State.StartedAt));
    expect(Date.parse(api!.State.StartedAt)).toBeLessThan(Date.parse(web!.State.StartedAt));
    expect(db!.Mounts).toMatchObject([{ Type: 'volume', Name: `${PROJECT}_data` }]);
    await answers();
  });

  test('service names resolve from page to API to database, only on shared networks [compose-names]', async () => {
    const first = await visit();
    expect(first.host).toBe((await inspect('api_1')).Id.slice(0, 12));
    expect((await visit()).count).toBe(first.count + 1);
    expect(
      await done(
        ...['exec', '-T', 'api', 'python3'],
        ...['-c', 'import socket; print(socket.gethostbyname("db") == socket.gethostbyname("database"))'],
      ),
    ).toBe('True');
    expect((await compose('exec', '-T', 'web', 'nslookup', 'db').result).exitCode).not.toBe(0);
  });

  test('a second up changes nothing [compose-up-again]', async () => {
    const before = (await containers()).map(({ Id }) => Id).sort();
    expect((await compose('up', '-d').result).stderr).toMatch(
      /_db_1 is up-to-date\n.*_api_1 is up-to-date\n.*_web_1 is up-to-date/s,
    );
    expect((await containers()).map(({ Id }) => Id).sort()).toEqual(before);
  });

  test('ps, port, top, images and config describe the running services [compose-ps]', async () => {
    const listed = await done('ps');
    expect(listed).toMatch(new RegExp(`${PROJECT}_api_1 .* Up\\s*$`, 'm'));
    expect(listed).toMatch(new RegExp(`${PROJECT}_db_1 .* Up \\(healthy\\)\\s*$`, 'm'));
    expect(listed).toMatch(new RegExp(`${PROJECT}_web_1 .* Up +0\\.0\\.0\\.0:\\d+->80/tcp`, 'm'));
    expect(await done('ps', '-q', 'api')).toBe((await inspect('api_1')).Id);
    expect(await done('port', 'web', '80')).toMatch(/^0\.0\.0\.0:\d+$/);
    expect(await done('top', 'db')).toContain('redis-server');
    expect(await done('images')).toMatch(/_db_1 +debian +stack /);
    expect((await done('config', '--services')).split('\n').sort()).toEqual(['api', 'db', 'web']);
  });

  test('exec works with and without a terminal, forwards stdin and returns the exit code [compose-exec]', async () => {
    const { count } = await visit();
    expect(await done('exec', '-T', 'db', 'redis-cli', 'get', 'calls')).toBe(String(count));
    expect(
      await compose(
        ...['exec', '-T', '-u', 'nobody', '-e', 'A=b c', 'api', 'sh', '-c', 'id -un; echo $A; echo err >&2; exit 7'],
      ).result,
    ).toMatchObject({ stdout: 'nobody\nb c\n', stderr: 'err\n', exitCode: 7 });
    const fed = compose('exec', '-T', 'api', 'wc', '-c');
    fed.child.stdin!.end('12345');
    expect((await fed.result).stdout.trim()).toBe('5');
    // The CLI sends the terminal size after the exec has started, so wait for it.
    const inside = 'tty; until test "$(stty size)" = "33 111"; do usleep 20000; done; exit 5';
    const terminal = spawn(
      'script',
      [
        '-qefc',
        `stty rows 33 cols 111; docker-compose -p ${PROJECT} exec web timeout 10 sh -c '${inside}'`,
        '/dev/null',
      ],
      { cwd: STACK, env: environment() },
    );
    let seen = '';
    terminal.stdout.on('data', (chunk: Buffer) => (seen += chunk.toString()));
    expect(await new Promise((resolve) => terminal.on('close', resolve)), seen).toBe(5);
    expect(seen).toMatch(/\/dev\/pts\/\d+\r\n/);
  });

  test('run returns the exit code of a one-off container and removes it', async () => {
    const { stdout, stderr, exitCode } = await compose(
      ...['run', '--rm', '-T', '--no-deps', 'api', 'sh', '-c', 'echo one-off; exit 9'],
    ).result;
    expect({ stdout, exitCode }, stderr).toEqual({ stdout: 'one-off\n', exitCode: 9 });
    expect(await names()).toEqual(['api_1', 'db_1', 'web_1']);
  });

  test('logs shows a tail and several services [compose-logs]', async () => {
    expect(await done('logs', '--no-color', '--tail', '1', 'db')).toMatch(
      /^Attaching to \S+_db_1\ndb_1 +\| .*Ready to accept connections/,
    );
    expect(await done('logs', '--no-color')).toMatch(/api_1 +\| listening\n/);
  });

  test('scale starts three containers that share one service name [compose-scale]', async () => {
    await done('up', '-d', '--scale', 'api=3');
    expect(await names()).toEqual(['api_1', 'api_2', 'api_3', 'db_1', 'web_1']);
    const lookup = 'import socket; print(len({a[4][0] for a in socket.getaddrinfo("api", 8000)}))';
    await until(async () => (await done('exec', '-T', 'db', 'python3', '-c', lookup)) === '3');
    await until(async () =>
      (
        await Promise.all(['api_1', 'api_2', 'api_3'].map((name) => engine.docker('logs', `${PROJECT}_${name}`).result))
      ).every(({ stdout }) => stdout.includes('listening')),
    );
    for (const n of [1, 2, 3])
      expect(
        await done('exec', '-T', 'web', 'timeout', '5', 'wget', '-qO-', `http://${PROJECT}_api_${n}:8000/`),
      ).toMatch(new RegExp(`^${(await inspect(`api_${n}`)).Id.slice(0, 12)} \\d+$`));
    await done('up', '-d', '--scale', 'api=1');
    expect(await names()).toEqual(['api_1', 'db_1', 'web_1']);
    await answers();
  });

  test('restart, stop and start keep the data [compose-restart]', async () => {
    const before = (await visit()).count;
    const pids = await Promise.all(['api_1', 'db_1'].map(async (name) => (await inspect(name)).State.Pid));
    await done('restart', '-t', '5', 'db', 'api');
    for (const [i, name] of ['api_1', 'db_1'].entries()) expect((await inspect(name)).State.Pid).not.toBe(pids[i]);
    await answers();
    expect((await visit()).count).toBeGreaterThan(before);
    await done('stop', '-t', '5');
    expect((await containers()).map(({ State }) => State)).toEqual(['exited', 'exited', 'exited']);
    await done('start');
    await answers();
    expect((await visit()).count).toBeGreaterThan(before + 2);
  });

  test('pause, unpause and kill change the state of a service', async () => {
    await done('pause', 'web');
    expect((await inspect('web_1')).State.Status).toBe('paused');
    expect(await done('ps', 'web')).toContain('Paused');
    await done('unpause', 'web');
    await done('kill', '-s', 'KILL', 'db');
    await until(async () => (await inspect('db_1')).State.Status !== 'running');
    await done('up', '-d');
    await answers();
  });

  test('a changed service is recreated with its volume', async () => {
    const [before, count] = [await inspect('db_1'), (await visit()).count];
    // docker-compose 1.29 reads the ContainerConfig of images, which the API has only up to version 1.44; it needs the
    // same setting with a current dockerd.
    const { stderr, exitCode } = await composeWith(
      { COMPOSE_API_VERSION: '1.44' },
      'up',
      '-d',
      '--force-recreate',
      '--no-deps',
      '-t',
      '5',
      'db',
    ).result;
    expect(exitCode, stderr).toBe(0);
    const after = await inspect('db_1');
    expect(after.Id).not.toBe(before.Id);
    expect(after.Mounts).toMatchObject([{ Type: 'volume', Name: `${PROJECT}_data` }]);
    await answers();
    expect((await visit()).count).toBeGreaterThan(count);
  });

  test('services survive a daemon kill, and the next daemon continues the project [compose-daemon-killed]', async () => {
    const [before, count] = [await Promise.all(['web_1', 'api_1', 'db_1'].map(inspect)), (await visit()).count];
    const port = (await done('port', 'web', '80')).split(':')[1]!;
    const follower = compose('logs', '--no-color', '-f', '--tail', '0', 'api');
    await until(() => follower.stdout().includes('Attaching to'));
    await engine.kill9();
    const meanwhile = (await engine.curl(`http://127.0.0.1:${port}/cgi-bin/count`)).trim().split(' ');
    expect(Number(meanwhile[1])).toBe(count + 1);
    const ps = compose('ps');
    await engine.startAgain();
    expect((await ps.result).stdout, ps.stderr()).toMatch(/_db_1 .* Up /); // The request was sent while no daemon ran.
    expect(
      (await Promise.all(['web_1', 'api_1', 'db_1'].map(inspect))).map(({ State: { Pid, StartedAt } }) => [
        Pid,
        StartedAt,
      ]),
    ).toEqual(before.map(({ State: { Pid, StartedAt } }) => [Pid, StartedAt]));
    expect((await compose('up', '-d').result).stderr).toMatch(
      /_db_1 is up-to-date\n.*_api_1 is up-to-date\n.*_web_1 is up-to-date/s,
    );
    expect((await visit()).count).toBe(count + 2);
    expect(await done('logs', '--no-color', 'api')).toContain(`count ${count + 1}\n`);
    await done('up', '-d', '--scale', 'api=2');
    expect(await names()).toEqual(['api_1', 'api_2', 'db_1', 'web_1']);
    await answers();
    await done('stop', '-t', '2', 'api');
    await follower.result;
    await done('up', '-d', '--scale', 'api=2');
  });

  test('a second up completes one that a daemon kill interrupted [compose-up-interrupted]', async () => {
    await done('rm', '-sf', 'api', 'web');
    const up = compose('up', '-d', '--scale', 'api=3');
    await until(async () => (await names()).some((name) => name.startsWith('api')));
    await engine.kill9();
    await engine.startAgain();
    await up.result; // Any exit code will do: requests to the killed daemon may have failed.
    await done('up', '-d', '--scale', 'api=3');
    // New containers are numbered above the highest existing one, so compare service names only.
    expect((await names()).map((name) => name.split('_')[0])).toEqual(['api', 'api', 'api', 'db', 'web']);
    expect((await containers()).every(({ State }) => State === 'running')).toBe(true);
    await answers();
  });

  test('logs -f shows new lines and ends with the services [compose-logs-follow]', async () => {
    const follower = compose('logs', '--no-color', '-f', 'api', 'web');
    await until(() => follower.stdout().includes('listening'));
    const { count } = await visit();
    await until(() => follower.stdout().includes(`count ${count}\n`));
    await done('stop', '-t', '2', 'web', 'api');
    const { stdout, exitCode } = await follower.result;
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/_api_\d+ exited with code 137/);
    expect(stdout).toMatch(/_web_\d+ exited with code \d+/);
  });

  test('down -v removes containers, networks and volumes [compose-down]', async () => {
    const { stderr, exitCode } = await compose('down', '-v').result;
    expect(exitCode, stderr).toBe(0);
    for (const line of [
      `Removing network ${PROJECT}_front`,
      `Removing network ${PROJECT}_back`,
      `Removing volume ${PROJECT}_data`,
    ])
      expect(stderr).toContain(line);
    expect(await containers()).toEqual([]);
    expect((await engine.api('GET', `/networks?filters=${mine}`)).json).toEqual([]);
    expect((await engine.api('GET', '/volumes')).json).toMatchObject({ Volumes: [] });
  });

  test('up in the foreground shows both streams and stops the services on SIGINT', async () => {
    const up = compose('up', '--no-color', '-t', '2');
    await until(() => up.stdout().includes('listening'), 60_000);
    up.child.kill('SIGINT');
    await up.result;
    expect((await containers()).map(({ State }) => State)).toEqual(['exited', 'exited', 'exited']);
    await done('down', '-v');
  });
});
