/** Pods, as cri-dockerd makes them for a kubelet: the requests that it sends, in its order and with its bodies. */
import { execFileSync, spawn } from 'node:child_process';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { busyboxTar } from '../support/busybox.ts';
import { CriDockerd, removePodCgroups, type PodOptions } from '../support/cri-dockerd.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { FaultyRegistry } from '../support/faulty-registry.ts';
import { digestOf } from '../support/tar.ts';
import { until } from '../support/until.ts';

const DEADLINE_MS = 30_000;
const NOT_FOUND = /No such container: [0-9a-z]+/;

let engine: TestEngine;
let cri: CriDockerd;
let files: string;
let shared: string;
const parent = `/holdfast-test-${process.pid}`;
const cgroup = `${parent}/kubepods/burstable/pod7d5fbb65`;
const POD: PodOptions = { name: 'web', cgroup, hostname: 'web-0' };

const namespace = (pid: number | 'self', kind: string): string => readlinkSync(`/proc/${pid}/ns/${kind}`);

beforeAll(async () => {
  engine = await startEngine();
  cri = new CriDockerd(engine.socket);
  files = mkdtempSync('/tmp/hf-cri-');
  shared = join(files, 'shared');
});
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
  execFileSync('sh', ['-c', 'umount -R "$1" 2>&1 || :', 'sh', shared]);
  rmSync(files, { recursive: true, force: true });
  removePodCgroups(parent);
});

test('cri-dockerd’s questions at its start are answered [cri-start]', async () => {
  const version = (await cri.get('/version')).json as { ApiVersion: string; Version: string };
  expect(version.ApiVersion).toMatch(/^1\.\d+$/);
  expect(version.Version).not.toBe('');
  const info = (await cri.get('/info')).json as {
    CgroupDriver: string;
    LoggingDriver: string;
    DockerRootDir: string;
    DefaultRuntime: string;
    SecurityOptions: string[];
    Runtimes: Record<string, { path: string }>;
  };
  expect(['cgroupfs', 'systemd']).toContain(info.CgroupDriver);
  expect(info.LoggingDriver).toBe('json-file');
  expect(statfsSync(info.DockerRootDir).blocks).toBeGreaterThan(0);
  expect(Object.keys(info.Runtimes)).toContain(info.DefaultRuntime);
  expect(info.SecurityOptions.some((option) => option.startsWith('name=userns'))).toBe(false);
});

test('/info has the features that the runtimes report, since API 1.44 [info-runtime-features]', async () => {
  const FEATURES = 'org.opencontainers.runtime-spec.features';
  interface Runtimes {
    Runtimes: Record<string, { path: string; status?: Record<string, string> }>;
  }
  const { Runtimes } = (await cri.get('/info')).json as Runtimes;
  for (const name of ['runc', 'io.containerd.runc.v2']) {
    const { path, status } = Runtimes[name]!;
    const printed = execFileSync(path, ['features'], { encoding: 'utf8' });
    expect(status, name).toEqual({ [FEATURES]: JSON.stringify(JSON.parse(printed)) });
  }
  expect((JSON.parse(Runtimes.runc!.status![FEATURES]!) as { mountOptions: string[] }).mountOptions).toContain('rro');
  const older = (await engine.api('GET', '/v1.43/info')).json as Runtimes;
  expect(older.Runtimes.runc).toEqual({ path: Runtimes.runc!.path });
});

test('a pod’s containers share its names, its network, its IPC and its cgroup [cri-pod]', async () => {
  const sandbox = await cri.runPodSandbox({ ...POD, sysctls: { 'net.ipv4.ip_unprivileged_port_start': '80' } });
  const pod = await cri.inspect(sandbox);
  expect(pod.State.Running).toBe(true);

  // cri-dockerd rewrites resolv.conf in place; the pod's containers have the same file.
  const resolv = 'nameserver 192.0.2.10\nsearch default.svc.cluster.local\noptions ndots:5\n';
  writeFileSync(pod.ResolvConfPath, resolv);
  // What a CNI plugin does: it enters the namespace by the sandbox's pid.
  const inPod = ['-t', String(pod.State.Pid), '-n'];
  execFileSync('nsenter', [...inPod, 'ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1']);
  execFileSync('nsenter', [...inPod, 'ip', 'addr', 'add', '192.0.2.77/24', 'dev', 'eth0']);
  execFileSync('nsenter', [...inPod, 'ip', 'link', 'set', 'eth0', 'up']);

  mkdirSync(join(files, 'config'));
  writeFileSync(join(files, 'config', 'key'), 'value');
  mkdirSync(shared);
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', shared]);
  execFileSync('mount', ['--make-shared', shared]);
  const hosts = join(files, 'etc-hosts');
  writeFileSync(hosts, '127.0.0.1 localhost\n192.0.2.77 web-0\n');
  const idle = ['sleep', '100000'];
  const app = await cri.runContainer(sandbox, POD, {
    name: 'app',
    command: idle,
    env: { KEY: 'a=b' },
    memory: 64 * 1024 * 1024,
    mounts: [
      { source: join(files, 'config'), target: '/config', readOnly: true },
      { source: hosts, target: '/etc/hosts' },
      { source: join(shared, 'made'), target: '/made', propagation: 'rslave' },
    ],
  });
  const sidecar = await cri.runContainer(sandbox, POD, { name: 'sidecar', command: idle, sharesPids: true });

  for (const id of [app, sidecar]) {
    expect((await cri.run(id, 'hostname')).stdout).toBe('web-0');
    expect((await cri.run(id, 'cat', '/etc/hostname')).stdout).toBe('web-0');
    expect((await cri.run(id, 'cat', '/etc/resolv.conf')).stdout).toBe(resolv.trim());
    expect((await cri.run(id, 'ip', 'addr', 'show', 'eth0')).stdout).toContain('192.0.2.77/24');
    const { State, HostConfig } = await cri.inspect(id);
    for (const kind of ['net', 'ipc']) expect(namespace(State.Pid, kind)).toBe(namespace(pod.State.Pid, kind));
    expect(HostConfig.CgroupParent).toBe(cgroup);
    expect(readFileSync(`/proc/${State.Pid}/cgroup`, 'utf8')).toContain(`${cgroup}/${id}`);
    expect(readFileSync(`/proc/${State.Pid}/oom_score_adj`, 'utf8').trim()).toBe('999');
  }
  expect((await cri.run(app, 'cat', '/proc/sys/net/ipv4/ip_unprivileged_port_start')).stdout).toBe('80');
  expect((await cri.run(app, 'sh', '-c', 'echo $KEY; cat /config/key; cat /etc/hosts')).stdout).toContain('a=b\nvalue');
  expect((await cri.run(app, 'sh', '-c', 'echo x > /config/key')).exitCode).not.toBe(0);
  expect((await cri.inspect(app)).Mounts).toEqual(
    expect.arrayContaining([
      expect.objectContaining({ Destination: '/config', RW: false, Propagation: 'rprivate' }),
      expect.objectContaining({ Destination: '/made', RW: true, Propagation: 'rslave' }),
    ]),
  );
  // HostToContainer: what the host mounts later appears in the container.
  expect(lstatSync(join(shared, 'made')).isDirectory()).toBe(true);
  execFileSync('mount', ['--bind', join(files, 'config'), join(shared, 'made')]);
  expect((await cri.run(app, 'cat', '/made/key')).stdout).toBe('value');
  await cri.run(app, 'sh', '-c', 'echo shared > /dev/shm/x');
  expect((await cri.run(sidecar, 'cat', '/dev/shm/x')).stdout).toBe('shared');
  // The sidecar sees the sandbox's process as PID 1; the app has PIDs of its own.
  expect((await cri.run(sidecar, 'readlink', '/proc/1/ns/pid')).stdout).toBe(namespace(pod.State.Pid, 'pid'));
  expect(namespace((await cri.inspect(app)).State.Pid, 'pid')).not.toBe(namespace(pod.State.Pid, 'pid'));

  // The kubelet's lists.
  const type = 'io.kubernetes.docker.type';
  const sandboxes = await cri.list({ [type]: 'podsandbox', 'io.kubernetes.pod.name': 'web' }, { all: false });
  expect(sandboxes.map(({ Id, Names }) => [Id, Names[0]!.split('_')[1]])).toEqual([[sandbox, 'POD']]);
  const members = await cri.list({ [type]: 'container', 'io.kubernetes.sandbox.id': sandbox }, { status: 'running' });
  expect(members.map(({ Id }) => Id).sort()).toEqual([app, sidecar].sort());
  for (const { Status } of members) expect(Status).toMatch(/^Up/);
  expect(await cri.list({ [type]: 'container' }, { id: app })).toHaveLength(1);
  expect(await cri.list({ [type]: 'other' }, {})).toEqual([]);

  // UpdateContainerResources, which an in-place resize sends.
  const limits = { CpuPeriod: 100_000, CpuQuota: 20_000, CpuShares: 204, Memory: 96 << 20, MemorySwap: 96 << 20 };
  const updated = await cri.post(`/containers/${app}/update`, { ...limits, CpusetCpus: '', CpusetMems: '' });
  expect(updated.status, updated.text).toBe(200);

  expect((await cri.stop(app, 1)).status).toBe(204);
  expect((await cri.stop(app, 1)).status).toBe(304);
  const ended = await cri.inspect(app);
  expect(ended.State).toMatchObject({ Running: false, ExitCode: 137, OOMKilled: false });
  expect((await cri.list({ [type]: 'container' }, { id: app }))[0]!.Status).toMatch(/^Exited/);

  // A new attempt in the same sandbox has the same names.
  const second = await cri.runContainer(sandbox, POD, { name: 'app', attempt: 1, command: idle });
  expect((await cri.run(second, 'cat', '/etc/hostname', '/etc/resolv.conf')).stdout).toBe(`web-0\n${resolv.trim()}`);

  for (const id of [app, second, sidecar]) expect((await cri.remove(id)).status).toBe(204);
  expect((await cri.stop(sandbox, 10)).status).toBe(204);
  expect((await cri.remove(sandbox)).status).toBe(204);
  const gone = await cri.stop(sandbox, 10);
  expect([gone.status, (gone.json as { message: string }).message]).toEqual([404, expect.stringMatching(NOT_FOUND)]);
}, 120_000);

test('a pod on the host’s network, IPC and PIDs has the host’s namespaces [cri-host-namespaces]', async () => {
  const pod: PodOptions = { name: 'agent', cgroup, host: { network: true, ipc: true, pid: true } };
  const sandbox = await cri.runPodSandbox(pod);
  const id = await cri.runContainer(sandbox, pod, { name: 'agent', command: ['sleep', '100000'] });
  for (const each of [sandbox, id]) {
    const { State } = await cri.inspect(each);
    for (const kind of ['net', 'ipc', 'pid']) expect(namespace(State.Pid, kind)).toBe(namespace('self', kind));
  }
  const { State } = await cri.inspect(id);
  expect(namespace(State.Pid, 'uts')).toBe(namespace('self', 'uts'));
  expect((await cri.run(id, 'hostname')).stdout).toBe(execFileSync('hostname', { encoding: 'utf8' }).trim());
  for (const each of [id, sandbox]) expect((await cri.remove(each)).status).toBe(204);
}, 60_000);

test('a port is forwarded into a pod by the sandbox’s pid [cri-port-forward]', async () => {
  const sandbox = await cri.runPodSandbox({ ...POD, name: 'forwarded' });
  execFileSync('nsenter', [
    '-t',
    String((await cri.inspect(sandbox)).State.Pid),
    '-n',
    'ip',
    'link',
    'set',
    'lo',
    'up',
  ]);
  const server = await cri.runContainer(
    sandbox,
    { ...POD, name: 'forwarded' },
    {
      name: 'server',
      command: ['sh', '-c', 'while :; do echo from-the-pod | nc -l -p 8080; done'],
    },
  );
  const { State } = await cri.inspect(sandbox);
  const client = `
    const socket = require('node:net').connect(8080, '127.0.0.1');
    socket.on('error', () => process.exit(1)).pipe(process.stdout);`;
  await until(async () => {
    const child = spawn('nsenter', ['-t', String(State.Pid), '-n', process.execPath, '-e', client]);
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
    await new Promise((resolve) => child.on('close', resolve));
    return text === 'from-the-pod\n';
  }, DEADLINE_MS);
  for (const each of [server, sandbox]) expect((await cri.remove(each)).status).toBe(204);
}, 60_000);

test('an image is pulled, found by every reference, and removed by all of them [cri-images]', async () => {
  await using registry = await FaultyRegistry.start();
  const { digest, config } = registry.image('team/app', 'v1', [busyboxTar()]);
  const name = `${registry.host}/team/app`;
  const id = digestOf(config);
  expect((await cri.get(`/images/${name}:v1/json`)).status).toBe(404);
  // Go's encoder ends the JSON with a newline, and its base64 is padded.
  const auth = Buffer.from('{}\n').toString('base64').replaceAll('+', '-').replaceAll('/', '_');
  const pulled = await cri.post(`/images/create?fromImage=${encodeURIComponent(name)}&tag=v1`, undefined, {
    'X-Registry-Auth': auth,
  });
  const messages = pulled.text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { status?: string; error?: string });
  expect(messages.filter(({ error }) => error !== undefined)).toEqual([]);
  expect(messages.at(-1)!.status).toContain('Downloaded newer image');
  for (const reference of [`${name}:v1`, `${name}@${digest}`, id]) {
    const found = (await cri.get(`/images/${reference}/json`)).json as Record<string, unknown>;
    expect(found).toMatchObject({ Id: id, RepoTags: [`${name}:v1`], RepoDigests: [`${name}@${digest}`] });
  }
  expect((await cri.get(`/images/${id}/history`)).status).toBe(200);
  const listed = await cri.get(`/images/json?filters=${encodeURIComponent(`{"reference":{"${name}:v1":true}}`)}`);
  expect((listed.json as { Id: string }[]).map(({ Id }) => Id)).toEqual([id]);
  // RemoveImage goes through tags, digests and the id; what is gone already must be a 404.
  const statuses: number[] = [];
  for (const reference of [`${name}:v1`, `${name}@${digest}`, id])
    statuses.push((await cri.delete(`/images/${reference}`)).status);
  expect(statuses).toEqual([200, 404, 404]);
  const missing = await cri.post(`/images/create?fromImage=${encodeURIComponent(name)}&tag=none`);
  expect(`${missing.status} ${missing.text}`).toMatch(/manifest unknown|not found/);
}, 60_000);
