/**
 * What cri-dockerd sends for the calls of a kubelet, field for field (Mirantis/cri-dockerd: core/sandbox_helpers.go,
 * core/container_create.go, core/security_context.go, core/exec.go, core/logs.go, libdocker/kube_docker_client.go).
 * Its client negotiates the version; this is the one of the Docker release that it is built with.
 */
import { expect } from 'vitest';
import { execFileSync } from 'node:child_process';
import { unframe } from './frames.ts';
import { request, type Answer } from './http.ts';
import { goConfig, goHostConfig, hijack, type Hijacked } from './go-client.ts';

const API = '/v1.47';
const SHM_BYTES = 64 * 1024 * 1024;
const TYPE = 'io.kubernetes.docker.type';

export interface PodOptions {
  name: string;
  /** Parent cgroup of the pod, which the kubelet has made. */
  cgroup: string;
  hostname?: string;
  /** The pod's namespaces that are the host's. */
  host?: { network?: boolean; ipc?: boolean; pid?: boolean };
  sysctls?: Record<string, string>;
}

export interface ContainerOptions {
  name: string;
  attempt?: number;
  command: string[];
  /** Bind mounts. */
  mounts?: { source: string; target: string; readOnly?: boolean; propagation?: string }[];
  env?: Record<string, string>;
  stdin?: boolean;
  tty?: boolean;
  memory?: number;
  /** Joins the sandbox's PID namespace (`shareProcessNamespace`). */
  sharesPids?: boolean;
  logPath?: string;
}

export interface Inspected {
  Id: string;
  Name: string;
  Image: string;
  State: {
    Running: boolean;
    Pid: number;
    ExitCode: number;
    OOMKilled: boolean;
    StartedAt: string;
    FinishedAt: string;
    Error: string;
  };
  LogPath: string;
  ResolvConfPath: string;
  Config: { Labels: Record<string, string>; Hostname: string; Tty: boolean };
  HostConfig: { NetworkMode: string; PidMode: string; IpcMode: string; CgroupParent: string };
  NetworkSettings: { IPAddress: string; SandboxKey: string };
  Mounts: { Source: string; Destination: string; RW: boolean; Propagation: string }[];
  SizeRw?: number;
}

export interface Listed {
  Id: string;
  Names: string[];
  Status: string;
  State: string;
  Created: number;
  Image: string;
  ImageID: string;
  Labels: Record<string, string>;
}

const UID = '7d5fbb65-6a5c-4cf0-9d7c-f4a3a1a9d9a1';

export class CriDockerd {
  constructor(private readonly socket: string) {}

  get = (path: string): Promise<Answer> => request(this.socket, 'GET', API + path);
  post = (path: string, body?: object, headers?: Record<string, string>): Promise<Answer> =>
    request(this.socket, 'POST', API + path, body, headers);
  delete = (path: string): Promise<Answer> => request(this.socket, 'DELETE', API + path);

  /** RunPodSandbox, without the call of CNI. @returns the id */
  async runPodSandbox(pod: PodOptions): Promise<string> {
    expect((await this.get('/images/busybox:latest/json')).status).toBe(200);
    const created = await this.post(`/containers/create?name=k8s_POD_${pod.name}_default_${UID}_0`, this.sandbox(pod));
    expect(created.status, created.text).toBe(201);
    const { Id } = created.json as { Id: string };
    expect((await this.post(`/containers/${Id}/start`)).status).toBe(204);
    return Id;
  }

  /** The body of the sandbox's create. `sleep` is what the pause image's program does. */
  sandbox({ name, cgroup, hostname = '', host = {}, sysctls }: PodOptions): object {
    return {
      ...goConfig({
        Hostname: hostname,
        Image: 'busybox:latest',
        Cmd: ['sleep', '100000'],
        Labels: {
          'annotation.kubernetes.io/config.source': 'api',
          [TYPE]: 'podsandbox',
          'io.kubernetes.container.name': 'POD',
          'io.kubernetes.pod.name': name,
          'io.kubernetes.pod.namespace': 'default',
          'io.kubernetes.pod.uid': UID,
        },
        ExposedPorts: {},
      }),
      HostConfig: goHostConfig({
        IpcMode: host.ipc ? 'host' : 'shareable',
        NetworkMode: host.network ? 'host' : 'none',
        PidMode: host.pid ? 'host' : '',
        PortBindings: {},
        OomScoreAdj: -998,
        CpuShares: 2,
        CgroupParent: cgroup,
        SecurityOpt: ['no-new-privileges'],
        ShmSize: SHM_BYTES,
        ...(sysctls && { Sysctls: sysctls }),
      }),
      NetworkingConfig: null,
    };
  }

  /** The body of a container's create, and its name. */
  container(sandboxId: string, pod: PodOptions, c: ContainerOptions): { name: string; body: object } {
    const { host = {} } = pod;
    const sandbox = `container:${sandboxId}`;
    return {
      name: `k8s_${c.name}_${pod.name}_default_${UID}_${c.attempt ?? 0}`,
      body: {
        ...goConfig({
          Image: 'busybox:latest',
          Entrypoint: c.command,
          Env: Object.entries(c.env ?? {}).map(([name, value]) => `${name}=${value}`),
          Labels: {
            'annotation.io.kubernetes.container.restartCount': String(c.attempt ?? 0),
            [TYPE]: 'container',
            'io.kubernetes.container.logpath': c.logPath ?? '',
            'io.kubernetes.container.name': c.name,
            'io.kubernetes.pod.name': pod.name,
            'io.kubernetes.pod.namespace': 'default',
            'io.kubernetes.pod.uid': UID,
            'io.kubernetes.sandbox.id': sandboxId,
          },
          OpenStdin: c.stdin ?? false,
          StdinOnce: false,
          Tty: c.tty ?? false,
          Healthcheck: { Test: ['NONE'] },
        }),
        HostConfig: goHostConfig({
          Mounts: (c.mounts ?? []).map(({ source, target, readOnly, propagation }) => ({
            Type: 'bind',
            Source: source,
            Target: target,
            ...(readOnly && { ReadOnly: true }),
            BindOptions: {
              CreateMountpoint: true,
              ...(readOnly && { ReadOnlyNonRecursive: true }),
              ...(propagation !== undefined && { Propagation: propagation }),
            },
          })),
          RestartPolicy: { Name: 'no', MaximumRetryCount: 0 },
          NetworkMode: sandbox,
          IpcMode: sandbox,
          PidMode: host.pid ? 'host' : c.sharesPids ? sandbox : '',
          UTSMode: host.network ? 'host' : '',
          Memory: c.memory ?? 0,
          MemorySwap: c.memory ?? 0,
          CpuShares: 102,
          CpuQuota: 10_000,
          CpuPeriod: 100_000,
          OomScoreAdj: 999,
          CgroupParent: pod.cgroup,
          Devices: [],
          SecurityOpt: ['seccomp=unconfined'],
          ShmSize: SHM_BYTES,
          MaskedPaths: ['/proc/asound', '/proc/acpi', '/proc/kcore', '/proc/keys', '/proc/timer_list', '/sys/firmware'],
          ReadonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
        }),
        NetworkingConfig: null,
      },
    };
  }

  /** CreateContainer and StartContainer. @returns the id */
  async runContainer(sandboxId: string, pod: PodOptions, options: ContainerOptions): Promise<string> {
    const { name, body } = this.container(sandboxId, pod, options);
    const created = await this.post(`/containers/create?name=${name}`, body);
    expect(created.status, created.text).toBe(201);
    const { Id } = created.json as { Id: string };
    const started = await this.post(`/containers/${Id}/start`);
    expect(started.status, started.text).toBe(204);
    return Id;
  }

  /** ContainerStatus; `size` as cri-dockerd's collection of statistics asks. */
  async inspect(id: string, size = false): Promise<Inspected> {
    const answer = await this.get(`/containers/${id}/json${size ? '?size=1' : ''}`);
    expect(answer.status, answer.text).toBe(200);
    return answer.json as Inspected;
  }

  /** ListContainers, ListPodSandbox. */
  async list(labels: Record<string, string>, { all = true, ...more }: { all?: boolean; id?: string; status?: string }) {
    const filters = {
      label: Object.fromEntries(Object.entries(labels).map(([name, value]) => [`${name}=${value}`, true])),
      ...Object.fromEntries(Object.entries(more).map(([key, value]) => [key, { [value]: true }])),
    };
    const query = new URLSearchParams({ ...(all && { all: '1' }), filters: JSON.stringify(filters) });
    const answer = await this.get(`/containers/json?${query.toString()}`);
    expect(answer.status, answer.text).toBe(200);
    return answer.json as Listed[];
  }

  /** Starts an exec as `kubectl exec` does; `ExecSync` is the same without a terminal. */
  async exec(
    id: string,
    command: string[],
    { tty = false, stdin = false } = {},
  ): Promise<{ id: string; connection: Hijacked }> {
    const created = await this.post(`/containers/${id}/exec`, {
      User: '',
      Privileged: false,
      Tty: tty,
      AttachStdin: stdin,
      AttachStderr: !tty,
      AttachStdout: true,
      DetachKeys: '',
      Env: null,
      WorkingDir: '',
      Cmd: command,
    });
    expect(created.status, created.text).toBe(201);
    const exec = (created.json as { Id: string }).Id;
    const connection = await hijack(this.socket, `${API}/exec/${exec}/start`, { Detach: false, Tty: tty });
    return { id: exec, connection };
  }

  /** What cri-dockerd asks after an exec's connection has ended: not running, and the exit code. */
  async execInspect(id: string): Promise<{ Running: boolean; ExitCode: number | null }> {
    const answer = await this.get(`/exec/${id}/json`);
    expect(answer.status, answer.text).toBe(200);
    return answer.json as { Running: boolean; ExitCode: number | null };
  }

  /** ExecSync: runs a command to its end. */
  async run(id: string, ...command: string[]): Promise<{ stdout: string; stderr: string; exitCode: number }> {
    const { id: exec, connection } = await this.exec(id, command);
    const { 1: stdout, 2: stderr } = unframe(await connection.output);
    const { Running, ExitCode } = await this.execInspect(exec);
    expect(Running).toBe(false);
    return { stdout: stdout.trim(), stderr: stderr.trim(), exitCode: ExitCode ?? -1 };
  }

  /** `kubectl attach`. */
  attach = (id: string): Promise<Hijacked> =>
    hijack(this.socket, `${API}/containers/${id}/attach?stderr=1&stdin=1&stdout=1&stream=1`);

  /** StopContainer, StopPodSandbox. */
  stop = (id: string, seconds: number): Promise<Answer> => this.post(`/containers/${id}/stop?t=${seconds}`);

  /** RemoveContainer and the removal of a sandbox. */
  remove = (id: string): Promise<Answer> => this.delete(`/containers/${id}?force=1&v=1`);
}

/** Removes the cgroups that a kubelet would have made below `parent`, from every hierarchy. */
export const removePodCgroups = (parent: string): void =>
  void execFileSync('sh', [
    '-c',
    `find /sys/fs/cgroup -depth -type d -path '*${parent}*' -exec rmdir {} ';' 2>/dev/null || :`,
  ]);
