/**
 * testcontainers for Node against a real daemon. Ryuk, its clean-up container, is replaced by an image built from
 * ryuk/ryuk.py, because the tests have no network access to pull the original.
 */
import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { debianTar } from '../../support/debian.ts';
import { startEngine, type TestEngine } from '../../support/engine.ts';
import { until } from '../../support/until.ts';

const MAKING_MS = 900_000;
const ryukFile = (name: string): string => fileURLToPath(new URL(`ryuk/${name}`, import.meta.url));
const RYUK = 'holdfast/ryuk:test';

let engine: TestEngine;
let tc: typeof import('testcontainers');
beforeAll(async () => {
  const archive = debianTar('python3', 'redis-server');
  engine = await startEngine();
  const docker = async (args: string[], stdin = ''): Promise<void> => {
    const command = engine.docker(...args);
    command.stdin.end(stdin);
    expect(await command.result).toMatchObject({ exitCode: 0 });
  };
  const program = readFileSync(ryukFile('ryuk.py'), 'utf8');
  const changes = ['-c', 'CMD ["python3", "-u", "/ryuk.py"]', '-c', 'LABEL org.testcontainers.ryuk=true'];
  await docker(['import', archive, 'debian:stack']);
  await docker(['run', '-i', '--name', 'ryuk-build', 'debian:stack', 'sh', '-c', 'cat > /ryuk.py'], program);
  await docker(['commit', ...changes, 'ryuk-build', RYUK]);
  await docker(['rm', 'ryuk-build']);
  // testcontainers reads these variables when it is loaded.
  Object.assign(process.env, environment());
  tc = await import('testcontainers');
}, MAKING_MS);
afterAll(async () => {
  await engine?.[Symbol.asyncDispose]();
});

const environment = (): Record<string, string> => ({
  DOCKER_HOST: `unix://${engine.socket}`,
  RYUK_CONTAINER_IMAGE: RYUK,
  TESTCONTAINERS_HOST_OVERRIDE: '127.0.0.1',
  TESTCONTAINERS_RYUK_RECONNECTION_TIMEOUT: '1s',
});
const status = async (path: string): Promise<number> => (await engine.api('GET', path)).status;
const serving = (body: string): string[] => [
  'sh',
  '-c',
  `mkdir /w; echo ${body} > /w/index.html; echo ready >&2; exec httpd -f -p 80 -h /w`,
];
const get = async (container: import('testcontainers').StartedTestContainer): Promise<string> =>
  (await engine.curl(`http://${container.getHost()}:${container.getMappedPort(80)}/`)).trim();

test('Ryuk removes the containers, networks and volumes of a killed process, then itself [testcontainers-ryuk]', async () => {
  const child = spawn(process.execPath, [ryukFile('abandoned.mjs')], {
    env: { ...process.env, ...environment() },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    await until(() => {
      if (child.exitCode !== null) throw new Error(`abandoned.mjs exited with ${child.exitCode}`);
      return output.endsWith('\n');
    }, 90_000);
    const left = JSON.parse(output) as { container: string; network: string; volume: string; reaper: string };
    const paths = [
      `/containers/${left.container}/json`,
      `/networks/${left.network}`,
      `/volumes/${left.volume}`,
      `/containers/${left.reaper}/json`,
    ];
    expect(await Promise.all(paths.map(status))).toEqual([200, 200, 200, 200]);
    child.kill('SIGKILL');
    await until(async () => (await Promise.all(paths.map(status))).every((code) => code === 404), 60_000);
  } finally {
    child.kill('SIGKILL');
  }
});

describe('GenericContainer [testcontainers-container]', () => {
  test('supports an exposed port with the default wait, exec, logs, restart and stop', async () => {
    const container = await new tc.GenericContainer('busybox')
      .withCommand(serving('hello'))
      .withExposedPorts(80)
      .withEnvironment({ A: 'b c' })
      .withLabels({ mine: 'yes' })
      .withTmpFs({ '/scratch': 'rw' })
      .start();
    expect(await get(container)).toBe('hello');
    expect(await container.exec(['sh', '-c', 'echo $A; echo err >&2; exit 3'])).toMatchObject({
      exitCode: 3,
      stdout: 'b c\n',
      stderr: 'err\n',
    });
    expect(await container.exec('id -un', { user: 'nobody', workingDir: '/tmp' })).toMatchObject({
      exitCode: 0,
      output: 'nobody\n',
    });
    expect((await container.exec(['grep', ' /scratch ', '/proc/mounts'])).output).toMatch(/^tmpfs \/scratch tmpfs rw/);
    expect(container.getLabels()).toMatchObject({ mine: 'yes', 'org.testcontainers': 'true' });
    const logs = await container.logs();
    logs.destroy();
    await container.restart();
    expect((await container.exec(['cat', '/w/index.html'])).output).toBe('hello\n');
    await container.stop();
    expect(await status(`/containers/${container.getId()}/json`)).toBe(404);
  });

  test('Wait.forLogMessage waits for a line, and a log consumer receives every line', async () => {
    const seen: string[] = [];
    const container = await new tc.GenericContainer('busybox')
      .withCommand(['sh', '-c', 'for i in 1 2 3; do echo line $i; usleep 100000; done; sleep 1000'])
      .withLogConsumer((stream) => stream.on('data', (line: Buffer | string) => seen.push(line.toString().trim())))
      .withWaitStrategy(tc.Wait.forLogMessage('line 3'))
      .start();
    await until(() => seen.join() === 'line 1,line 2,line 3');
    await container.stop();
  });

  test('Wait.forAll combines forHttp, forSuccessfulCommand and forListeningPorts', async () => {
    const container = await new tc.GenericContainer('busybox')
      .withCommand(['sh', '-c', `sleep 1; ${serving('late')[2]!}`])
      .withExposedPorts(80)
      .withWaitStrategy(
        tc.Wait.forAll([
          tc.Wait.forHttp('/', 80).forStatusCode(200),
          tc.Wait.forSuccessfulCommand('test -e /w/index.html'),
          tc.Wait.forListeningPorts(),
        ]),
      )
      .start();
    expect(await get(container)).toBe('late');
    await container.stop();
  });

  test('Wait.forHealthCheck resolves when healthy and rejects when unhealthy', async () => {
    const healthy = (command: string): import('testcontainers').GenericContainer =>
      new tc.GenericContainer('busybox')
        .withCommand(['sh', '-c', 'sleep 1; touch /ok; exec sleep 1000'])
        .withHealthCheck({ test: ['CMD-SHELL', command], interval: 200, timeout: 5000, retries: 10, startPeriod: 0 })
        .withWaitStrategy(tc.Wait.forHealthCheck());
    const container = await healthy('test -e /ok').start();
    expect((await container.exec('ls /ok')).exitCode).toBe(0);
    await container.stop();
    await expect(healthy('false').start()).rejects.toThrow(/[Hh]ealth check failed: unhealthy/);
  });

  test('Wait.forOneShotStartup resolves or rejects by the exit code', async () => {
    const once = (code: number): Promise<import('testcontainers').StartedTestContainer> =>
      new tc.GenericContainer('busybox')
        .withCommand(['sh', '-c', `sleep 1; exit ${code}`])
        .withWaitStrategy(tc.Wait.forOneShotStartup())
        .start();
    await (await once(0)).stop();
    await expect(once(3)).rejects.toThrow();
  });

  test('containers on one network resolve each other by alias', async () => {
    const network = await new tc.Network().start();
    const server = await new tc.GenericContainer('busybox')
      .withCommand(serving('by name'))
      .withNetwork(network)
      .withNetworkAliases('page')
      .withExposedPorts(80)
      .start();
    const client = await new tc.GenericContainer('busybox')
      .withCommand(['sleep', '1000'])
      .withNetwork(network)
      .withExtraHosts([{ host: 'elsewhere', ipAddress: '192.0.2.7' }])
      .start();
    expect(await client.exec(['timeout', '5', 'wget', '-qO-', 'http://page/'])).toMatchObject({
      exitCode: 0,
      output: 'by name\n',
    });
    expect((await client.exec(['grep', 'elsewhere', '/etc/hosts'])).output).toMatch(/192\.0\.2\.7/);
    expect(server.getIpAddress(network.getName())).toMatch(/^\d+(\.\d+){3}$/);
    await server.stop();
    await client.stop();
    await network.stop();
    expect(await status(`/networks/${network.getId()}`)).toBe(404);
  });

  test('supports a bind mount, a working directory, an entrypoint and a user', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'hf-tc-'));
    try {
      chmodSync(directory, 0o755);
      writeFileSync(join(directory, 'told'), 'from the host\n');
      const container = await new tc.GenericContainer('busybox')
        .withBindMounts([{ source: directory, target: '/given', mode: 'ro' }])
        .withWorkingDir('/given')
        .withEntrypoint(['sh', '-c'])
        .withCommand(['cat told; id -un; sleep 1000'])
        .withUser('nobody')
        .withWaitStrategy(tc.Wait.forLogMessage('nobody'))
        .start();
      const logs = await container.logs();
      await container.stop({ remove: false });
      expect(await text(logs)).toContain('from the host');
      await engine.api('DELETE', `/containers/${container.getId()}?force=1`);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });

  test('copies files before the start, into a running container and out of it', async () => {
    const container = await new tc.GenericContainer('busybox')
      .withCommand(['sh', '-c', 'cat /given/one /given/two; exec sleep 1000'])
      .withCopyContentToContainer([{ content: 'first\n', target: '/given/one', mode: 0o640 }])
      .withCopyFilesToContainer([{ source: ryukFile('ryuk.py'), target: '/given/ryuk.py' }])
      .withCopyDirectoriesToContainer([{ source: ryukFile('.'), target: '/whole' }])
      .withCopyContentToContainer([{ content: 'second\n', target: '/given/two' }])
      .withWaitStrategy(tc.Wait.forLogMessage('second'))
      .start();
    expect((await container.exec('stat -c %a /given/one')).output).toBe('640\n');
    expect((await container.exec('ls /whole')).output).toBe('abandoned.mjs\nryuk.py\n');
    expect((await container.exec('cat /given/ryuk.py')).output).toBe(readFileSync(ryukFile('ryuk.py'), 'utf8'));
    await container.copyContentToContainer([{ content: 'third\n', target: '/later/three' }]);
    expect((await container.exec('cat /later/three')).output).toBe('third\n');
    expect(await text(await container.copyArchiveFromContainer('/later/three'))).toMatch(/^three\0.*third\n/s);
    await container.stop();
  });

  test('commits a container and starts another from the image', async () => {
    const container = await new tc.GenericContainer('busybox')
      .withCommand(['sh', '-c', 'echo kept > /kept; sleep 1000'])
      .withWaitStrategy(tc.Wait.forSuccessfulCommand('test -e /kept'))
      .start();
    const image = await container.commit({ repo: 'kept', tag: 'v1', deleteOnExit: false });
    await container.stop();
    const second = await new tc.GenericContainer('kept:v1').withCommand(['sleep', '1000']).start();
    expect((await second.exec('cat /kept')).output).toBe('kept\n');
    expect(image).toMatch(/^(sha256:)?[0-9a-f]{64}$/);
    await second.stop();
  });

  test('reuse returns the same container for the same configuration', async () => {
    const start = (): Promise<import('testcontainers').StartedTestContainer> =>
      new tc.GenericContainer('busybox').withCommand(serving('reused')).withExposedPorts(80).withReuse().start();
    const first = await start();
    const second = await start();
    expect(second.getId()).toBe(first.getId());
    await first.stop();
  });

  test('containers, ports and Ryuk survive a daemon kill', async () => {
    const container = await new tc.GenericContainer('busybox')
      .withCommand(serving('still here'))
      .withExposedPorts(80)
      .start();
    await engine.kill9();
    expect(await get(container)).toBe('still here');
    await engine.startAgain();
    expect((await container.exec(['cat', '/w/index.html'])).output).toBe('still here\n');
    const all = (await engine.api('GET', '/containers/json')).json as { Labels: Record<string, string> }[];
    expect(all.filter(({ Labels }) => Labels['org.testcontainers.ryuk'] === 'true')).toHaveLength(1);
    await container.stop();
  });
});
