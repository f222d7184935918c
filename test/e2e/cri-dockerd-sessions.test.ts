/** What kubectl does with a pod's containers through cri-dockerd, its refusals, and a daemon killed under a pod. */
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { CriDockerd, removePodCgroups, type PodOptions } from '../support/cri-dockerd.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { unframe } from '../support/frames.ts';
import { until } from '../support/until.ts';

const DEADLINE_MS = 30_000;

let engine: TestEngine;
let cri: CriDockerd;
let files: string;
const parent = `/holdfast-test-${process.pid}`;
const POD: PodOptions = { name: 'web', cgroup: `${parent}/kubepods/burstable/pod7d5fbb65`, hostname: 'web-0' };

beforeAll(async () => {
  engine = await startEngine();
  cri = new CriDockerd(engine.socket);
  files = mkdtempSync('/tmp/hf-cri-');
});
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
  rmSync(files, { recursive: true, force: true });
  removePodCgroups(parent);
});

test('exec with a terminal, attach, logs and statistics work as kubectl uses them [cri-streams]', async () => {
  const pod = { ...POD, name: 'streams' };
  const sandbox = await cri.runPodSandbox(pod);
  const logPath = join(files, 'streams_0.log');
  const id = await cri.runContainer(sandbox, pod, {
    name: 'shell',
    command: ['sh', '-c', 'echo out; echo err >&2; while read -r line; do echo "got $line"; done; exit 7'],
    stdin: true,
    logPath,
  });

  const { id: exec, connection } = await cri.exec(id, ['sh'], { tty: true, stdin: true });
  expect((await cri.post(`/exec/${exec}/resize?h=37&w=111`)).status).toBe(200);
  connection.write('stty size; exit 42\n');
  expect((await connection.output).toString()).toContain('37 111');
  expect(await cri.execInspect(exec)).toMatchObject({ Running: false, ExitCode: 42 });
  expect(await cri.run(id, 'sh', '-c', 'echo o; echo e >&2; exit 3')).toEqual({
    stdout: 'o',
    stderr: 'e',
    exitCode: 3,
  });
  const piped = await cri.exec(id, ['wc', '-c'], { stdin: true });
  piped.connection.write('12345');
  piped.connection.closeWrite();
  expect(unframe(await piped.connection.output)[1].trim()).toBe('5');
  expect((await cri.run(id, 'no-such-program')).exitCode).toBe(127);

  const attached = await cri.attach(id);
  attached.write('hello\n');
  await until(() => attached.received().includes('got hello'), DEADLINE_MS);
  attached.close();

  // The kubelet reads the file that LogPath names, through a link of its own.
  const { LogPath } = await cri.inspect(id);
  symlinkSync(LogPath, logPath);
  interface Line {
    log: string;
    stream: string;
    time: string;
  }
  const lines = (): Line[] =>
    readFileSync(logPath, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Line);
  await until(() => lines().length === 3, DEADLINE_MS);
  expect(
    lines()
      .map(({ log, stream }) => `${stream} ${log}`)
      .sort(),
  ).toEqual(['stderr err\n', 'stdout got hello\n', 'stdout out\n']);
  for (const { time } of lines()) expect(Date.parse(time)).not.toBeNaN();
  const logs = async (query: string): Promise<string> =>
    unframe((await cri.get(`/containers/${id}/logs?stderr=1&stdout=1&${query}`)).body)[1];
  expect(await logs('since=0&tail=1')).toBe('got hello\n');
  expect(await logs('since=0&tail=&timestamps=1')).toMatch(/^\d{4}-\d\d-\d\dT\S+Z out\n/m);
  expect(await logs(`since=${Math.floor(Date.now() / 1000) + 3600}`)).toBe('');

  const stats = (await cri.get(`/containers/${id}/stats?one-shot=1&stream=0`)).json as {
    cpu_stats: { cpu_usage: { total_usage: number } };
    memory_stats: { usage: number };
  };
  expect(stats.cpu_stats.cpu_usage.total_usage).toBeGreaterThan(0);
  expect(stats.memory_stats.usage).toBeGreaterThan(0);
  await cri.run(id, 'dd', 'if=/dev/zero', 'of=/file', 'bs=1k', 'count=64');
  expect((await cri.inspect(id, true)).SizeRw).toBeGreaterThanOrEqual(64 * 1024);
  const images = (await cri.get('/images/json?all=1&shared-size=1')).json as { Size: number; SharedSize: number }[];
  expect(images.length).toBeGreaterThan(0);
  for (const { Size, SharedSize } of images) expect(SharedSize >= 0 && SharedSize <= Size).toBe(true);

  for (const each of [id, sandbox]) expect((await cri.remove(each)).status).toBe(204);
}, 120_000);

test('conflicts and failed starts have the texts that cri-dockerd parses [cri-refusals]', async () => {
  const pod = { ...POD, name: 'refused' };
  const sandbox = await cri.runPodSandbox(pod);
  const { name, body } = cri.container(sandbox, pod, { name: 'app', command: ['/no-such-program'] });
  const first = ((await cri.post(`/containers/create?name=${name}`, body)).json as { Id: string }).Id;
  const conflict = await cri.post(`/containers/create?name=${name}`, body);
  expect(conflict.status).toBe(409);
  expect(
    /Conflict. (?:.)+ is already in use by container "?([0-9a-z]+)"?/.exec(conflict.text.replaceAll('\\', ''))?.[1],
  ).toBe(first);
  const started = await cri.post(`/containers/${first}/start`);
  expect(started.status).toBe(400);
  expect(started.text).toContain('no such file or directory');
  // Never started: a zero FinishedAt and a code, from which "ContainerCannotRun" is made.
  expect((await cri.inspect(first)).State).toMatchObject({ ExitCode: 127, FinishedAt: '0001-01-01T00:00:00Z' });
  expect((await cri.remove(first)).status).toBe(204);

  process.kill((await cri.inspect(sandbox)).State.Pid, 'SIGKILL');
  await until(async () => !(await cri.inspect(sandbox)).State.Running, DEADLINE_MS);
  const late = cri.container(sandbox, pod, { name: 'late', command: ['true'] });
  const { Id } = (await cri.post(`/containers/create?name=${late.name}`, late.body)).json as { Id: string };
  const refused = await cri.post(`/containers/${Id}/start`);
  expect([refused.status, (refused.json as { message: string }).message]).toEqual([
    409,
    expect.stringMatching(
      /^cannot join network namespace of a non running container: container k8s_POD_\S+ is exited$/,
    ),
  ]);
  for (const each of [Id, sandbox]) expect((await cri.remove(each)).status).toBe(204);
}, 60_000);

test('the daemon is killed under a pod: the same client continues [cri-daemon-killed]', async () => {
  const pod = { ...POD, name: 'survivor' };
  const sandbox = await cri.runPodSandbox(pod);
  const before = await cri.inspect(sandbox);
  writeFileSync(before.ResolvConfPath, 'nameserver 192.0.2.10\n');
  const app = await cri.runContainer(sandbox, pod, {
    name: 'app',
    command: ['sh', '-c', 'while read -r line; do echo "got $line"; done; sleep 100000'],
    stdin: true,
  });
  const { State } = await cri.inspect(app);
  const exec = await cri.exec(app, ['sh', '-c', 'read -r line; echo "exec got $line"; exit 9'], { stdin: true });
  const attached = await cri.attach(app);
  attached.write('one\n');
  await until(() => attached.received().includes('got one'), DEADLINE_MS);

  await engine.kill9();
  attached.write('two\n');
  await until(() => attached.received().includes('got two'), DEADLINE_MS);
  await engine.startAgain();

  exec.connection.write('word\n');
  expect(unframe(await exec.connection.output)[1]).toBe('exec got word\n');
  expect(await cri.execInspect(exec.id)).toMatchObject({ Running: false, ExitCode: 9 });
  attached.close();
  expect((await cri.inspect(app)).State).toEqual(State);
  expect((await cri.inspect(sandbox)).State).toEqual(before.State);
  expect((await cri.run(app, 'cat', '/etc/hostname', '/etc/resolv.conf')).stdout).toBe('web-0\nnameserver 192.0.2.10');
  expect(readFileSync((await cri.inspect(app)).LogPath, 'utf8')).toContain('got two');

  // The kubelet goes on: another container in the same sandbox, then the pod's end.
  const next = await cri.runContainer(sandbox, pod, { name: 'next', command: ['sleep', '100000'] });
  expect((await cri.run(next, 'hostname')).stdout).toBe('web-0');
  await engine.kill9();
  await engine.startAgain();
  for (const each of [next, app, sandbox]) {
    expect((await cri.stop(each, 0)).status).toBe(204);
    expect((await cri.remove(each)).status).toBe(204);
  }
  expect(await cri.list({ 'io.kubernetes.pod.name': 'survivor' }, {})).toEqual([]);
}, 120_000);

test('a container that cannot join another is refused as by dockerd [join-refusals]', async () => {
  const create = async (name: string, Cmd: string[], HostConfig: object): Promise<string> => {
    const answer = await cri.post(`/containers/create?name=${name}`, { Image: 'busybox', Cmd, HostConfig });
    expect(answer.status, answer.text).toBe(201);
    return (answer.json as { Id: string }).Id;
  };
  const own = { NetworkMode: 'none', IpcMode: 'shareable' };
  const ids: Record<string, string> = {
    donor: await create('donor', ['true'], own),
    ended: await create('ended', ['true'], own),
    again: await create('again', ['false'], { ...own, RestartPolicy: { Name: 'always' } }),
  };
  for (const name of ['ended', 'again']) expect((await cri.post(`/containers/${name}/start`)).status).toBe(204);
  const status = async (name: string): Promise<string> =>
    ((await cri.inspect(name)).State as unknown as { Status: string }).Status;
  await until(async () => (await status('ended')) === 'exited', DEADLINE_MS);

  const notRunning = 'cannot join network namespace of a non running container: container';
  const restarting = `Container ${ids.again} is restarting, wait until the container is running`;
  const refusals: [field: string, donor: string, status: number, message: string][] = [
    ['NetworkMode', 'donor', 409, `${notRunning} donor is created`],
    ['NetworkMode', 'ended', 409, `${notRunning} ended is exited`],
    ['NetworkMode', 'again', 409, `cannot join network namespace of container: ${restarting}`],
    ['NetworkMode', 'missing', 500, 'joining network namespace of container: No such container: missing'],
    ['NetworkMode', 'member', 500, 'cannot join own network namespace'],
    ['PidMode', 'donor', 500, `failed to join PID namespace: container ${ids.donor} is not running`],
    ['PidMode', 'again', 500, `failed to join PID namespace: ${restarting}`],
    ['IpcMode', 'ended', 409, `failed to join IPC namespace: container ${ids.ended} is not running`],
    ['IpcMode', 'again', 409, `failed to join IPC namespace: ${restarting}`],
  ];
  const attempt = async (field: string, donor: string): Promise<unknown> => {
    await create('member', ['true'], { [field]: `container:${donor}` });
    const refused = await cri.post('/containers/member/start');
    expect((await cri.remove('member')).status).toBe(204);
    return [refused.status, refused.json];
  };
  for (const [field, donor, code, message] of refusals) {
    const expected = [code, { message }];
    // One that restarts is between two runs for ever longer, but not always.
    if (donor === 'again')
      await until(async () => isDeepStrictEqual(await attempt(field, donor), expected), DEADLINE_MS);
    else expect([field, donor, await attempt(field, donor)]).toEqual([field, donor, expected]);
  }
  for (const name of Object.keys(ids)) expect((await cri.remove(name)).status).toBe(204);
}, 120_000);
