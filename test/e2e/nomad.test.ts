/**
 * Tasks, as Nomad's docker driver runs them: the requests that it sends, in its order and with its bodies
 * (hashicorp/nomad: drivers/docker/driver.go, handle.go, network.go, docklog/docker_logger.go).
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { busyboxTar } from '../support/busybox.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { FaultyRegistry } from '../support/faulty-registry.ts';
import { unframe } from '../support/frames.ts';
import { goConfig, goHostConfig, hijack } from '../support/go-client.ts';
import { opened, request, type Answer } from '../support/http.ts';
import { until } from '../support/until.ts';

const API = '/v1.47';
const DEADLINE_MS = 30_000;
const ALLOC = '3f5d2a5e-92aa-4a0b-8c2f-0a4b6f1a7a11';
const LABEL = 'com.hashicorp.nomad.alloc_id';
const MEMORY = 128 * 1024 * 1024;

interface Inspected {
  Id: string;
  Name: string;
  Image: string;
  State: { Running: boolean; Dead: boolean; Pid: number; OOMKilled: boolean; ExitCode: number; StartedAt: string };
  NetworkSettings: { SandboxKey: string; Networks: Record<string, { IPAddress: string }> };
}

let engine: TestEngine;
let directory: string;

const call = (method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer> =>
  request(engine.socket, method, API + path, body, headers);

async function inspect(id: string): Promise<Inspected> {
  const answer = await call('GET', `/containers/${id}/json`);
  expect(answer.status, answer.text).toBe(200);
  return answer.json as Inspected;
}

/** As the driver does: create, look the container up in the list of all, start, inspect. */
async function start(name: string, body: object): Promise<Inspected> {
  const created = await call('POST', `/containers/create?name=${name}`, body);
  expect(created.status, created.text).toBe(201);
  const all = (await call('GET', '/containers/json?all=1')).json as { Id: string; Names: string[] }[];
  const { Id } = all.find(({ Names }) => Names.includes(`/${name}`))!;
  const started = await call('POST', `/containers/${Id}/start`);
  expect(started.status, started.text).toBe(204);
  return inspect(Id);
}

/** The body of a task's create. */
function task(command: string[], { config = {}, host = {}, networking = null as object | null } = {}): object {
  const dirs = ['alloc', 'local', 'secrets'];
  for (const name of dirs) mkdirSync(join(directory, name), { recursive: true });
  return {
    ...goConfig({
      Image: 'busybox:1',
      Cmd: command,
      Env: [`NOMAD_ALLOC_ID=${ALLOC}`, 'NOMAD_TASK_NAME=web'],
      Labels: { [LABEL]: ALLOC },
      ExposedPorts: {},
      ...config,
    }),
    HostConfig: goHostConfig({
      Binds: dirs.map((name) => `${join(directory, name)}:/${name}`),
      LogConfig: { Type: 'json-file', Config: { 'max-file': '2', 'max-size': '2m' } },
      NetworkMode: 'default',
      PortBindings: {},
      CapDrop: ['net_raw'],
      Memory: MEMORY,
      MemorySwap: MEMORY,
      CpuShares: 100,
      PidsLimit: 0,
      ...host,
    }),
    NetworkingConfig: networking,
  };
}

/** Reads a stream of the daemon until it ends. */
function follow(path: string): { text: () => string; ended: Promise<void>; close: () => void } {
  let received = Buffer.alloc(0);
  const leave = new AbortController();
  const ended = new Promise<void>((resolve) => {
    const sent = get({ socketPath: engine.socket, path: API + path, agent: false, signal: leave.signal }, (answer) => {
      answer.on('data', (chunk: Buffer) => (received = Buffer.concat([received, chunk])));
      answer.on('close', resolve).on('error', () => undefined);
    });
    sent.on('error', () => resolve());
  });
  return { text: () => received.toString(), ended, close: () => leave.abort() };
}

beforeAll(async () => {
  engine = await startEngine();
  directory = mkdtempSync('/tmp/hf-nomad-');
  await engine.api('POST', '/images/busybox/tag?repo=busybox&tag=1');
});
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

test('the driver’s fingerprint finds version, bridge and runtimes [nomad-fingerprint]', async () => {
  expect((await call('GET', '/version')).json).toMatchObject({ Version: expect.stringMatching(/./) as string });
  const networks = (await call('GET', '/networks')).json as { Name: string; IPAM: { Config: { Gateway: string }[] } }[];
  expect(networks.find(({ Name }) => Name === 'bridge')!.IPAM.Config[0]!.Gateway).toMatch(/^10\./);
  const info = (await call('GET', '/info')).json as { Runtimes: object; CgroupDriver: string; OSType: string };
  expect(info.OSType).toBe('linux');
  expect(Object.keys(info.Runtimes)).toContain('runc');
});

test('a task is pulled, run, entered, measured, signalled, stopped and destroyed [nomad-task]', async () => {
  await using registry = await FaultyRegistry.start();
  registry.image('team/web', '1', [busyboxTar()]);
  const reference = `${registry.host}/team/web`;
  expect((await call('GET', `/images/${reference}:1/json`)).status).toBe(404);
  const auth = Buffer.from('{"username":"","password":"","serveraddress":""}\n').toString('base64url');
  const pulled = await call('POST', `/images/create?fromImage=${encodeURIComponent(reference)}&tag=1`, undefined, {
    'X-Registry-Auth': auth,
  });
  expect(pulled.text).toContain('Status: Downloaded newer image');
  const image = (await call('GET', `/images/${reference}:1/json`)).json as { Id: string };

  const name = `web-${ALLOC}`;
  const command = ['sh', '-c', 'trap "echo hup" HUP; trap "exit 5" TERM; echo started; while :; do sleep 0.1; done'];
  const c = await start(
    name,
    task(command, {
      config: { Image: `${reference}:1`, ExposedPorts: { '8080/tcp': {}, '8080/udp': {} } },
      host: {
        PortBindings: {
          '8080/tcp': [{ HostIp: '127.0.0.1', HostPort: '28741' }],
          '8080/udp': [{ HostIp: '127.0.0.1', HostPort: '28741' }],
        },
      },
    }),
  );
  expect(c.Image).toBe(image.Id);
  expect(c.NetworkSettings.Networks.bridge!.IPAddress).toMatch(/^10\./);
  const { answer } = await opened(engine.socket, 'POST', `${API}/containers/${c.Id}/wait?condition=not-running`);
  const logs = follow(`/containers/${c.Id}/logs?follow=1&since=0.000000000&stderr=1&stdout=1`);
  await until(() => logs.text().includes('started'), DEADLINE_MS);
  const stats = follow(`/containers/${c.Id}/stats?stream=1`);
  await until(() => stats.text().split('\n').length > 2, DEADLINE_MS);
  const second = JSON.parse(stats.text().split('\n')[1]!) as { memory_stats: { limit: number }; precpu_stats: object };
  expect(second.memory_stats.limit).toBe(MEMORY);

  const created = (
    await call('POST', `/containers/${c.Id}/exec`, {
      ...{ User: '', Privileged: false, Tty: false, AttachStdin: true, AttachStderr: true, AttachStdout: true },
      ...{ DetachKeys: '', Env: null, WorkingDir: '', Cmd: ['sh', '-c', 'cat; id -u >&2; exit 12'] },
    })
  ).json as { Id: string };
  const exec = await hijack(engine.socket, `${API}/exec/${created.Id}/start`, { Detach: false, Tty: false });
  exec.write('to the task');
  exec.closeWrite();
  const { 1: stdout, 2: stderr } = unframe(await exec.output);
  expect([stdout, stderr]).toEqual(['to the task', '0\n']);
  // The driver polls until the exec no longer runs.
  await until(async () => !((await call('GET', `/exec/${created.Id}/json`)).json as { Running: boolean }).Running);
  expect((await call('GET', `/exec/${created.Id}/json`)).json).toMatchObject({ ExitCode: 12 });

  expect((await call('POST', `/containers/${c.Id}/kill?signal=SIGHUP`)).status).toBe(204);
  await until(() => logs.text().includes('hup'), DEADLINE_MS);
  expect((await call('POST', `/containers/${c.Id}/stop?t=5`)).status).toBe(204);
  expect((await answer).json).toEqual({ StatusCode: 5 });
  await logs.ended;
  // As dockerd, the stream of statistics goes on until the client leaves.
  stats.close();
  await stats.ended;
  expect((await inspect(c.Id)).State).toMatchObject({ Running: false, OOMKilled: false, ExitCode: 5 });
  // What follows every wait, in case its answer was wrong.
  expect((await call('POST', `/containers/${c.Id}/stop?t=0`)).status).toBe(304);
  expect((await call('DELETE', `/containers/${c.Id}?force=1&v=1`)).status).toBe(204);
  expect((await call('DELETE', `/images/${image.Id}?force=1`)).status).toBe(200);
  expect((await call('GET', `/containers/${c.Id}/json`)).status).toBe(404);
}, 60_000);

test('a group’s tasks join the network of its pause container [nomad-group-network]', async () => {
  const pause = await start(`nomad_init_${ALLOC}`, {
    ...goConfig({
      Image: 'busybox:1',
      Cmd: ['sleep', '100000'],
      Hostname: 'group-host',
      Labels: { [LABEL]: ALLOC },
    }),
    HostConfig: goHostConfig({ NetworkMode: 'none', RestartPolicy: { Name: 'unless-stopped', MaximumRetryCount: 0 } }),
    NetworkingConfig: null,
  });
  // The spec's path, which Nomad hands to CNI plugins.
  const { SandboxKey } = pause.NetworkSettings;
  execFileSync('nsenter', [`--net=${SandboxKey}`, 'ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1']);
  const hosts = join(directory, 'hosts');
  writeFileSync(hosts, '127.0.0.1 localhost\n172.26.64.5 group-host\n');
  const c = await start(
    `member-${ALLOC}`,
    task(['sleep', '100000'], {
      host: {
        NetworkMode: `container:${pause.Id}`,
        Mounts: [
          { Type: 'bind', Source: hosts, Target: '/etc/hosts', BindOptions: { Propagation: 'private' } },
          { Type: 'tmpfs', Target: '/cache', TmpfsOptions: { SizeBytes: 65536 } },
        ],
      },
    }),
  );
  const seen = execFileSync(
    'nsenter',
    ['-t', String(c.State.Pid), '-m', '-n', '-u', 'sh', '-c'].concat(
      'cat /etc/hosts /etc/hostname; ls /sys/class/net; hostname',
    ),
    { encoding: 'utf8' },
  );
  for (const text of ['172.26.64.5 group-host', 'eth0']) expect(seen).toContain(text);
  expect(seen.trim().split('\n').at(-1)).toBe('group-host');
  const found = (
    await call('GET', `/containers/json?filters=${encodeURIComponent(JSON.stringify({ label: { [LABEL]: true } }))}`)
  ).json as { Id: string; Labels: Record<string, string>; Mounts: { Destination: string }[] }[];
  expect(found.map(({ Id }) => Id).sort()).toEqual([c.Id, pause.Id].sort());
  expect(found.find(({ Id }) => Id === c.Id)!.Mounts.map(({ Destination }) => Destination)).toEqual(
    expect.arrayContaining(['/alloc', '/local', '/secrets']),
  );
  for (const id of [c.Id, pause.Id]) expect((await call('DELETE', `/containers/${id}?force=1`)).status).toBe(204);
}, 60_000);

test('a conflict and a missing container have the status that the driver looks for [nomad-refusals]', async () => {
  const c = await start('taken', task(['sleep', '100000']));
  expect((await call('POST', '/containers/create?name=taken', task(['true']))).status).toBe(409);
  expect((await call('DELETE', `/containers/${c.Id}?force=1`)).status).toBe(204);
  const missing = await call('POST', '/containers/create?name=other', task(['true'], { config: { Image: 'none:9' } }));
  expect([missing.status, (missing.json as { message: string }).message]).toEqual([404, 'No such image: none:9']);
  const none = `No such container: ${c.Id}`;
  for (const [path, message] of [
    ['stop?t=0', none],
    ['kill?signal=SIGTERM', `cannot kill container: ${c.Id}: ${none}`],
  ] as const) {
    const refused = await call('POST', `/containers/${c.Id}/${path}`);
    expect([refused.status, refused.json]).toEqual([404, { message }]);
  }
});

test('the daemon is killed under a task: its wait, its recovery and its logs go on [nomad-daemon-killed]', async () => {
  const command = 'i=0; while [ ! -e /local/end ]; do i=$((i+1)); echo line $i; sleep 0.05; done; exit 6';
  const c = await start(`long-${ALLOC}`, task(['sh', '-c', command]));
  const { answer } = await opened(engine.socket, 'POST', `${API}/containers/${c.Id}/wait?condition=not-running`);
  const logs = follow(`/containers/${c.Id}/logs?follow=1&since=0.000000000&stderr=1&stdout=1`);
  await until(() => logs.text().includes('line 3\n'), DEADLINE_MS);
  await engine.kill9();
  // The driver's log process reads on from the time at which the stream ended.
  await logs.ended;
  const since = `${Math.floor(Date.now() / 1000)}.000000000`;
  await engine.startAgain();
  const again = follow(`/containers/${c.Id}/logs?follow=1&since=${since}&stderr=1&stdout=1`);

  // RecoverTask: the same container, running since the same time.
  expect((await inspect(c.Id)).State).toEqual(c.State);
  writeFileSync(join(directory, 'local', 'end'), '');
  expect((await answer).json).toEqual({ StatusCode: 6 });
  await again.ended;
  rmSync(join(directory, 'local', 'end'));
  const log = unframe((await call('GET', `/containers/${c.Id}/logs?stdout=1`)).body)[1]
    .trim()
    .split('\n');
  expect(log).toEqual(log.map((_, index) => `line ${index + 1}`));
  expect(again.text()).toContain(`${log.at(-1)!}\n`);
  expect((await call('DELETE', `/containers/${c.Id}?force=1&v=1`)).status).toBe(204);
}, 60_000);

test('Nomad before 1.9 sends requests without a version [nomad-unversioned]', async () => {
  const send = (method: string, path: string, body?: object): Promise<Answer> =>
    request(engine.socket, method, path, body);
  // go-dockerclient leaves out what is not set.
  const created = await send('POST', '/containers/create?name=old', {
    ...{ Image: 'busybox:1', Cmd: ['sh', '-c', 'exit 4'], Labels: { [LABEL]: ALLOC }, Env: ['A=b'] },
    HostConfig: { Memory: MEMORY, MemorySwap: MEMORY, CpuShares: 100, NetworkMode: 'default', PidsLimit: 0 },
  });
  expect(created.status, created.text).toBe(201);
  const { Id } = created.json as { Id: string };
  expect((await send('POST', `/containers/${Id}/start`)).status).toBe(204);
  expect((await send('POST', `/containers/${Id}/wait`)).json).toEqual({ StatusCode: 4 });
  expect((await send('POST', `/containers/${Id}/stop?t=0`)).status).toBe(304);
  const refused = await send('POST', `/containers/${Id}/kill?signal=15`);
  expect([refused.status, (refused.json as { message: string }).message]).toEqual([
    409,
    `cannot kill container: ${Id}: container ${Id} is not running`,
  ]);
  expect((await send('DELETE', `/containers/${Id}?force=1&v=1`)).status).toBe(204);
});
