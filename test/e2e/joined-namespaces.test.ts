/** Containers that join others (`--network container:x`, `--ipc container:x`), and endpoints before a start. */
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';

let engine: TestEngine;
const { docker, ok } = dockerOf(() => engine);
const runIdle = (name: string, ...flags: string[]): Promise<string> =>
  ok('run', '-d', '--name', name, ...flags, 'busybox', 'sleep', '10000');

beforeAll(async () => {
  engine = await startEngine();
});
afterAll(() => engine[Symbol.asyncDispose]());

test('a container that joins a network has the names of its donor [join-network-names]', async () => {
  const pod = ['--hostname', 'podhost', '--domainname', 'pod.example', '--add-host', 'peer:192.0.2.7'];
  await runIdle('pod', '--network', 'none', ...pod);
  const join = ['--network', 'container:pod'];
  expect(await ok('run', '--rm', ...join, 'busybox', 'sh', '-c', 'hostname; echo $HOSTNAME; cat /etc/hostname')).toBe(
    'podhost\npodhost\npodhost',
  );
  expect(await ok('run', '--rm', ...join, 'busybox', 'cat', '/etc/hosts')).toContain('192.0.2.7\tpeer');

  // As in dockerd, inspect shows the names from the first start on.
  const id = await ok('create', '--name', 'member', ...join, 'busybox', 'sleep', '10000');
  const names = (): Promise<string> => ok('inspect', '-f', '{{.Config.Hostname}} {{.Config.Domainname}}', 'member');
  expect(await names()).toBe(id.slice(0, 12));
  await ok('start', 'member');
  expect(await names()).toBe('podhost pod.example');

  // One that joins the member gets the donor's files, which the member itself does not have.
  const chained = ['run', '--rm', '--network', 'container:member', 'busybox', 'sh', '-c', 'hostname; cat /etc/hosts'];
  expect(await ok(...chained)).toMatch(/^podhost\n[^]*192\.0\.2\.7\tpeer/);
  await engine.kill9();
  await engine.startAgain();
  expect(await names()).toBe('podhost pod.example');
});

test('the IPC namespace of a container on the host’s is joined, also through another [join-ipc-of-host]', async () => {
  const host = execFileSync('readlink', ['/proc/self/ns/ipc'], { encoding: 'utf8' }).trim();
  await runIdle('ipc-host', '--ipc', 'host');
  await runIdle('ipc-member', '--ipc', 'container:ipc-host');
  for (const donor of ['ipc-host', 'ipc-member']) {
    const shown = await ok(
      ...['run', '--rm', '--ipc', `container:${donor}`, 'busybox', 'sh', '-c'],
      'readlink /proc/self/ns/ipc; stat -c %d /dev/shm',
    );
    expect(shown).toBe(`${host}\n${execFileSync('stat', ['-c', '%d', '/dev/shm'], { encoding: 'utf8' }).trim()}`);
  }
  await runIdle('ipc-shared', '--ipc', 'shareable');
  await runIdle('ipc-second', '--ipc', 'container:ipc-shared');
  await ok('exec', 'ipc-shared', 'sh', '-c', 'echo shared > /dev/shm/x');
  expect(await ok('run', '--rm', '--ipc', 'container:ipc-second', 'busybox', 'cat', '/dev/shm/x')).toBe('shared');
  await ok('kill', 'ipc-shared');
  expect((await docker('run', '--rm', '--ipc', 'container:ipc-second', 'busybox', 'true')).stderr).toContain(
    'non-shareable IPC (hint: use IpcMode:shareable for the donor container)',
  );
});

test('a network is joined when its pinned file is no mount here [join-network-unpinned]', async () => {
  const id = await runIdle('unpinned');
  const pinned = JSON.parse(await ok('inspect', '-f', '{{json .NetworkSettings.SandboxKey}}', id)) as string;
  expect(pinned).toContain(engine.execRoot);
  // What a daemon sees that was started again in another mount namespace.
  execFileSync('umount', ['-l', pinned]);
  const address = await ok('inspect', '-f', '{{.NetworkSettings.IPAddress}}', id);
  expect(await ok('run', '--rm', '--network', `container:${id}`, 'busybox', 'ip', 'addr', 'show', 'eth0')).toContain(
    address,
  );
});

test('a MAC address given before the start is shown before it [connect-mac-shown]', async () => {
  await ok('network', 'create', 'mac-net');
  await ok('create', '--name', 'mac', 'busybox', 'sleep', '10000');
  const asked = '02:42:0a:01:02:03';
  const EndpointConfig = { MacAddress: asked };
  expect((await engine.api('POST', '/networks/mac-net/connect', { Container: 'mac', EndpointConfig })).status).toBe(
    200,
  );
  const shown = (): Promise<string> =>
    ok('inspect', '-f', '{{(index .NetworkSettings.Networks "mac-net").MacAddress}}', 'mac');
  expect(await shown()).toBe(asked);
  await ok('start', 'mac');
  expect(await shown()).toBe(asked);
});
