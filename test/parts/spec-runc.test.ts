/** Containers that runc makes of generated specs, from a busybox rootfs. */
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Config } from '../../src/config/config.ts';
import type { CreateRequest, HostConfig } from '../../src/model/container-config.ts';
import type { Container } from '../../src/model/container.ts';
import { Paths } from '../../src/engine/paths.ts';
import { maskedPaths } from '../../src/engine/spec/defaults.ts';
import { CAPABILITIES, thisHost } from '../../src/engine/spec/host.ts';
import { createBindSources } from '../../src/engine/spec/mounts.ts';
import { mountShareableShm } from '../../src/engine/spec/shm.ts';
import type { ExecRequest } from '../../src/engine/spec/process.ts';
import { cgroupsPath, execProcess, ociSpec } from '../../src/engine/spec/spec.ts';
import type { SpecInput } from '../../src/engine/spec/spec-input.ts';
import { validateUpdate } from '../../src/engine/spec/update.ts';
import { ociJson } from '../../src/protocol/oci-json.ts';
import { unmount } from '../../src/sys/mount.ts';
import { mountsUnder } from '../../src/sys/mountinfo.ts';
import { createNetns, removeNetns } from '../../src/sys/netns.ts';
import { container as containerOf, daemon } from '../support/spec-fixtures.ts';

const APPLETS = [
  'sh',
  'cat',
  'grep',
  'id',
  'ls',
  'sleep',
  'touch',
  'mount',
  'df',
  'hostname',
  'pwd',
  'env',
  'stat',
  'ps',
  'tty',
  'echo',
  'unshare',
  'tr',
  'true',
  'readlink',
  'stty',
];
const MIB = 1 << 20;
const DEADLINE_MS = 60_000;

let base = '';
let config: Config;
let paths: Paths;
let netns = '';

beforeAll(() => {
  base = mkdtempSync(join(tmpdir(), 'hf-spec-runc-'));
  config = daemon({
    dataRoot: join(base, 'data'),
    execRoot: join(base, 'run'),
    cgroupParent: `/holdfast-spec-${process.pid}`,
  });
  paths = new Paths(config.dataRoot, config.execRoot);
  netns = join(base, 'netns');
  createNetns(netns);
});

afterAll(() => {
  removeNetns(netns);
  for (const point of mountsUnder(base)) unmount(point);
  rmSync(base, { recursive: true, force: true });
  for (const hierarchy of readdirSync('/sys/fs/cgroup')) {
    const directory = join('/sys/fs/cgroup', hierarchy, config.cgroupParent);
    if (existsSync(directory)) rmdirSync(directory);
  }
});

/** The files of a container: rootfs, hosts, hostname, resolv.conf. */
function lay(id: string): void {
  const root = paths.rootfs(id);
  for (const directory of ['bin', 'etc', 'proc', 'sys', 'dev', 'tmp'])
    mkdirSync(join(root, directory), { recursive: true });
  copyFileSync('/usr/bin/busybox', join(root, 'bin/busybox'));
  for (const applet of APPLETS) symlinkSync('busybox', join(root, 'bin', applet));
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/srv:/bin/sh\n');
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\nweb:x:1000:\naudio:x:29:web\n');
  mkdirSync(paths.container(id), { recursive: true });
  for (const name of ['hosts', 'hostname', 'resolv.conf'])
    writeFileSync(join(paths.container(id), name), `the ${name}\n`);
}

interface Made {
  container: Container;
  input: SpecInput;
  bundle: string;
}

function make(request: CreateRequest, id = randomBytes(32).toString('hex')): Made {
  lay(id);
  const made = containerOf({ HostConfig: {}, ...request }, { id, daemon: config, host: thisHost() });
  // The definition has the fixtures' id; this container needs its own.
  if (!request.Hostname && made.hostConfig.NetworkMode !== 'host') made.config.Hostname = id.slice(0, 12);
  createBindSources(made);
  mountShareableShm(made.hostConfig, id, paths);
  const input: SpecInput = {
    container: made,
    config,
    paths,
    netns: made.hostConfig.NetworkMode === 'host' ? '' : netns,
    pidOf: (other) => pids.get(other) ?? 0,
  };
  writeFileSync(join(paths.run(id), 'config.json'), ociJson(ociSpec(input)));
  return { container: made, input, bundle: paths.run(id) };
}

const pids = new Map<string, number>();
const runc = (...args: string[]) =>
  spawnSync('runc', ['--root', join(base, 'oci'), ...args], { encoding: 'utf8', timeout: DEADLINE_MS });

/** Runs `script` to its end. @returns its output on both streams */
function run(script: string, request: CreateRequest = {}): string {
  const { container, bundle } = make({ Cmd: ['sh', '-c', script], ...request });
  try {
    const { stdout, stderr } = runc('run', '--bundle', bundle, container.id);
    return stdout + stderr;
  } finally {
    runc('delete', '--force', container.id);
    for (const point of mountsUnder(paths.run(container.id))) unmount(point);
  }
}

const host = (script: string, HostConfig: Partial<HostConfig>, request: CreateRequest = {}): string =>
  run(script, { ...request, HostConfig });

/** Runs a container in the background while `work` examines it. */
async function living(
  request: CreateRequest,
  work: (made: Made & { pid: number; exec(request: Partial<ExecRequest>): string }) => void,
): Promise<void> {
  const made = make({ Cmd: ['sleep', '1000'], ...request });
  const { id } = made.container;
  const pidFile = join(made.bundle, 'pid');
  // Detached with its output in a file: a pipe held by the container would block the parent.
  const started = spawn(
    'runc',
    ['--root', join(base, 'oci'), 'run', '--detach', '--pid-file', pidFile, '--bundle', made.bundle, id],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  expect(await new Promise((resolve) => started.on('exit', resolve))).toBe(0);
  const pid = Number(readFileSync(pidFile, 'latin1'));
  pids.set(id, pid);
  const exec = (request: Partial<ExecRequest>): string => {
    const file = join(made.bundle, 'process.json');
    writeFileSync(
      file,
      ociJson(
        execProcess(made.input, {
          Cmd: [],
          Env: [],
          User: '',
          WorkingDir: '',
          Tty: false,
          Privileged: false,
          ...request,
        }),
      ),
    );
    const { stdout, stderr } = runc('exec', '--process', file, id);
    return stdout + stderr;
  };
  try {
    work({ ...made, pid, exec });
  } finally {
    runc('delete', '--force', id);
    pids.delete(id);
    for (const point of mountsUnder(paths.run(id))) unmount(point);
  }
}

const effective = (status: string): string => /^CapEff:\s*([0-9a-f]+)$/m.exec(status)![1]!;
const mask = (names: readonly string[]): string =>
  names
    .reduce((bits, name) => bits | (1n << BigInt(CAPABILITIES.indexOf(name))), 0n)
    .toString(16)
    .padStart(16, '0');

describe('a container', () => {
  test('is filtered, confined, named and has its files by default', () => {
    const seen = run(
      'cat /proc/self/status; hostname; env; cat /etc/hosts /etc/hostname /etc/resolv.conf; cat /proc/mounts; ls /sys/class/net; cat /proc/sys/net/ipv4/ip_unprivileged_port_start',
    );
    expect(seen).toMatch(/^Seccomp:\s+2$/m);
    expect(seen).toMatch(/^NoNewPrivs:\s+0$/m);
    expect(effective(seen)).toBe('00000000a80425fb');
    expect(seen).toMatch(/^HOSTNAME=[0-9a-f]{12}$/m);
    expect(seen).toMatch(/^HOME=\/root$/m);
    expect(seen).toMatch(/^PATH=\/usr\/local\/sbin:/m);
    expect(seen).toContain('the hosts\nthe hostname\nthe resolv.conf\n');
    const masked = maskedPaths(thisHost()).filter((path) => existsSync(path));
    expect(masked.length).toBeGreaterThan(0);
    expect(masked.filter((path) => !seen.includes(` ${path} `))).toEqual([]);
    expect(seen).toMatch(/ \/proc\/sys proc ro,/);
    expect(seen).toMatch(/ \/sys sysfs ro,/);
    expect(seen).toMatch(/shm \/dev\/shm tmpfs .*size=65536k/);
    expect(seen).toMatch(/^lo$/m);
    expect(seen).toMatch(/^0$/m);
  });

  test('rejects the system calls that Docker’s seccomp profile rejects', () => {
    // CLONE_NEWUSER: the profile maps it to EPERM without CAP_SYS_ADMIN.
    expect(run('unshare -U true 2>&1; echo $?')).toMatch(/Operation not permitted\n1\n$/);
    expect(host('grep Seccomp: /proc/self/status', { SecurityOpt: ['seccomp=unconfined'] })).toMatch(/:\s+0$/m);
    const profile = JSON.stringify({
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 }],
    });
    expect(host('busybox mkdir /x', { SecurityOpt: [`seccomp=${profile}`] })).toContain('Operation not permitted');
  });

  test('can be privileged', () => {
    const seen = host(
      'cat /proc/self/status; ls /dev; touch /sys/x 2>&1; grep " /sys " /proc/mounts; grep -c "tmpfs /proc/" /proc/mounts',
      { Privileged: true },
    );
    expect(seen).toMatch(/^Seccomp:\s+0$/m);
    expect(effective(seen)).toBe(mask(thisHost().capabilities));
    expect(seen).toMatch(/^loop-control$/m);
    expect(seen).toMatch(/ \/sys sysfs rw,/);
    expect(seen).toMatch(/^0$/m);
  });

  test('gets capabilities added and dropped', () => {
    expect(effective(host('cat /proc/self/status', { CapDrop: ['ALL'], CapAdd: ['net_admin', 'CAP_CHOWN'] }))).toBe(
      mask(['CAP_CHOWN', 'CAP_NET_ADMIN']),
    );
    expect(effective(host('cat /proc/self/status', { CapAdd: ['ALL'] }))).toBe(mask(thisHost().capabilities));
    expect(effective(run('cat /proc/self/status', { User: 'web' }))).toBe('0000000000000000');
  });

  test('runs as a named user with its groups and home', () => {
    // The kernel sorts supplementary groups.
    expect(run('id; env', { User: 'web' })).toMatch(
      /uid=1000\(web\) gid=1000\(web\) groups=29\(audio\),1000\(web\)[\s\S]*HOME=\/srv/,
    );
    expect(host('id -u; id -g; id -G', { GroupAdd: ['audio', '4321'] }, { User: '7:8' })).toBe('7\n8\n8 29 4321\n');
    expect(() => run('true', { User: 'nobody' })).toThrow(
      'unable to find user nobody: no matching entries in passwd file',
    );
  });

  test('has writable mounts on a read-only rootfs', () => {
    const seen = host('touch /x; touch /etc/hosts; touch /dev/shm/y && touch /tmp/z && echo both', {
      ReadonlyRootfs: true,
      Tmpfs: { '/tmp': '' },
    });
    expect(seen).toMatch(/\/x: Read-only file system/);
    expect(seen).toMatch(/\/etc\/hosts: Read-only file system/);
    expect(seen).toMatch(/^both$/m);
  });

  test('has tmpfs mounts', () => {
    const seen = host('cat /proc/mounts', {
      Tmpfs: { '/a': 'size=1m,exec' },
      Mounts: [{ Type: 'tmpfs', Target: '/b', TmpfsOptions: { SizeBytes: 2 * MIB, Mode: 0o700 } }],
    });
    expect(seen).toMatch(/tmpfs \/a tmpfs rw,nosuid,nodev,relatime,size=1024k/);
    expect(seen).toMatch(/tmpfs \/b tmpfs rw,nosuid,nodev,noexec,relatime,size=2048k,mode=700/);
  });

  test('has bind mounts: the source is made when missing, read-only is recursive', () => {
    const missing = join(base, 'made/by/bind');
    const outer = join(base, 'outer');
    mkdirSync(join(outer, 'below'), { recursive: true });
    spawnSync('mount', ['-t', 'tmpfs', 'below', join(outer, 'below')]);
    try {
      const seen = host('touch /seen/x && echo wrote; touch /outer/y; touch /outer/below/z; cat /os', {
        Binds: [`${missing}:/seen`, `${outer}:/outer:ro`, '/etc/os-release:/os:ro'],
      });
      expect(seen).toMatch(/^wrote$/m);
      expect(seen).toMatch(/\/outer\/y: Read-only/);
      expect(seen).toMatch(/\/outer\/below\/z: Read-only/);
      expect(seen).toContain('PRETTY_NAME');
      expect(existsSync(join(missing, 'x'))).toBe(true);
      const shallow = host('touch /outer/y 2>&1; touch /outer/below/z && echo wrote', {
        Mounts: [
          {
            Type: 'bind',
            Source: outer,
            Target: '/outer',
            ReadOnly: true,
            BindOptions: { ReadOnlyNonRecursive: true },
          },
        ],
      });
      expect(shallow).toMatch(/\/outer\/y: Read-only[\s\S]*wrote/);
    } finally {
      unmount(join(outer, 'below'));
    }
  });

  test('starts with a bind of the host’s root, whatever its propagation', () =>
    expect(host('ls /host/etc/os-release', { Binds: ['/:/host:ro'] })).toContain('/host/etc/os-release'));

  test('can have our init', () => {
    expect(host('cat /proc/1/cmdline | tr "\\0" " "; ps', { Init: true })).toMatch(/^\/sbin\/docker-init -- sh -c/);
    expect(host('ps | grep -c docker-init; true', { Init: true, PidMode: 'host' })).not.toContain(
      '/sbin/docker-init -- sh',
    );
  });

  test('gets ulimits, OOM score, sysctls, domain name and working directory', () => {
    const seen = host(
      'ulimit -n; ulimit -Hn; ulimit -c; ulimit -Hc; cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/domainname; pwd',
      {
        Ulimits: [
          { Name: 'nofile', Soft: 99, Hard: 100 },
          { Name: 'core', Soft: -1, Hard: -1 },
        ],
        OomScoreAdj: 500,
        Sysctls: { 'net.ipv4.ip_default_ttl': '99' },
      },
      { Domainname: 'example.test', WorkingDir: '/some/where' },
    );
    expect(seen).toBe('99\n100\nunlimited\nunlimited\n500\n99\nexample.test\n/some/where\n');
  });

  test('gets devices and masked paths', () => {
    const seen = host('ls -l /dev/nothing; cat /proc/uptime; echo end', {
      Devices: [{ PathOnHost: '/dev/null', PathInContainer: '/dev/nothing', CgroupPermissions: 'rwm' }],
      MaskedPaths: ['/proc/uptime'],
    });
    expect(seen).toMatch(/^crw-rw-rw-.* 1,\s+3 .*\/dev\/nothing\nend$/m);
  });

  test('shares namespaces with the host', () => {
    const links = (type: string): string =>
      spawnSync('readlink', [`/proc/self/ns/${type}`], { encoding: 'utf8' }).stdout.trim();
    const seen = host('for n in pid ipc uts net; do readlink /proc/self/ns/$n; done', {
      PidMode: 'host',
      IpcMode: 'host',
      UTSMode: 'host',
      NetworkMode: 'host',
    });
    expect(seen.trim().split('\n')).toEqual(['pid', 'ipc', 'uts', 'net'].map(links));
    expect(host('cat /proc/self/cgroup', { CgroupnsMode: 'private' })).toMatch(/:\/$/m);
    expect(host('grep " /dev/shm " /proc/mounts; echo none', { IpcMode: 'none' })).toBe('none\n');
  });

  test('shares /dev/shm and processes with another container', async () => {
    await living({ HostConfig: { IpcMode: 'shareable', ShmSize: 2 * MIB } }, ({ container, exec }) => {
      exec({ Cmd: ['sh', '-c', 'echo shared > /dev/shm/note'] });
      const other = `container:${container.id}`;
      const seen = host('cat /dev/shm/note; grep " /dev/shm " /proc/mounts; ps', { IpcMode: other, PidMode: other });
      expect(seen).toMatch(/^shared$/m);
      expect(seen).toMatch(/size=2048k/);
      expect(seen).toContain('sleep 1000');
    });
  });

  test('has annotations and console size in its spec', () => {
    const { input } = make({ Tty: true, HostConfig: { Annotations: { 'org.example': 'x' }, ConsoleSize: [33, 99] } });
    expect(ociSpec(input)).toMatchObject({
      annotations: { 'org.example': 'x' },
      process: { terminal: true, consoleSize: { height: 33, width: 99 } },
    });
  });

  test('fails with a clear error for what the host lacks', () => {
    expect(() =>
      host('true', { Devices: [{ PathOnHost: '/dev/nope', PathInContainer: '/dev/nope', CgroupPermissions: 'rwm' }] }),
    ).toThrow('error gathering device information while adding custom device "/dev/nope"');
  });
});

describe('resource limits', () => {
  /** A control's value in the container's cgroup: in v1's hierarchy or in the unified one. */
  const control = (path: string, v1: string, v2: string): string => {
    const [hierarchy = '', file = ''] = v1.split('/');
    const candidates = [join('/sys/fs/cgroup', hierarchy, path, file), join('/sys/fs/cgroup', path, v2)];
    return readFileSync(
      candidates.find((candidate) => existsSync(candidate))!,
      'latin1',
    ).trim();
  };
  const v2 = thisHost().cgroup === 'v2';

  test('are in the cgroup and can be updated', async () => {
    const HostConfig: Partial<HostConfig> = {
      Memory: 32 * MIB,
      MemorySwap: 64 * MIB,
      NanoCpus: 5e8,
      CpuShares: 512,
      PidsLimit: 77,
      CpusetCpus: '0',
      MemoryReservation: 16 * MIB,
      DeviceCgroupRules: ['c 10:200 rwm'],
    };
    await living({ HostConfig }, ({ container, exec }) => {
      const path = cgroupsPath(container, config);
      expect(control(path, 'memory/memory.limit_in_bytes', 'memory.max')).toBe(`${32 * MIB}`);
      expect(control(path, 'memory/memory.soft_limit_in_bytes', 'memory.low')).toBe(`${16 * MIB}`);
      expect(control(path, 'cpu/cpu.cfs_quota_us', 'cpu.max')).toMatch(/^50000/);
      expect(control(path, 'pids/pids.max', 'pids.max')).toBe('77');
      if (!v2) {
        expect(control(path, 'memory/memory.memsw.limit_in_bytes', '')).toBe(`${64 * MIB}`);
        expect(control(path, 'cpu/cpu.shares', '')).toBe('512');
        expect(control(path, 'devices/devices.list', '')).toContain('c 10:200 rwm');
      }
      expect(exec({ Cmd: ['grep', 'Cpus_allowed_list', '/proc/self/status'] })).toMatch(/:\s+0$/m);

      const changes = { Memory: 48 * MIB, MemorySwap: 96 * MIB, PidsLimit: -1, NanoCpus: 1e9 };
      const { resources, hostConfig } = validateUpdate(container, changes);
      const updated = spawnSync('runc', ['--root', join(base, 'oci'), 'update', '--resources', '-', container.id], {
        input: JSON.stringify(resources),
        encoding: 'utf8',
      });
      expect(updated.stderr).toBe('');
      expect(hostConfig).toMatchObject({ Memory: 48 * MIB, CpuShares: 512, PidsLimit: 0 });
      expect(control(path, 'memory/memory.limit_in_bytes', 'memory.max')).toBe(`${48 * MIB}`);
      expect(control(path, 'cpu/cpu.cfs_quota_us', 'cpu.max')).toMatch(/^100000/);
      expect(control(path, 'pids/pids.max', 'pids.max')).toBe('max');
    });
  });
});

describe('an exec', () => {
  test('has the container’s environment and its own, and is confined alike', async () => {
    // Not nofile: before runc 1.1.13 the Go runtime of `runc exec` may raise a soft limit to the hard one (runc#4195).
    const core = { Name: 'core', Soft: 1024, Hard: 2048 };
    await living({ Env: ['A=1', 'B=1'], WorkingDir: '/srv', HostConfig: { Ulimits: [core] } }, ({ exec }) => {
      const script = 'env; pwd; echo core $(ulimit -Sc) $(ulimit -Hc); cat /proc/self/status';
      const seen = exec({ Cmd: ['sh', '-c', script], Env: ['B=2', 'C=3'] });
      expect(seen).toMatch(/^A=1$/m);
      expect(seen).toMatch(/^B=2$/m);
      expect(seen).toMatch(/^C=3$/m);
      expect(seen).not.toContain('TERM=');
      expect(seen).toMatch(/^\/srv$/m);
      expect(seen).toMatch(/^core 2 4$/m);
      expect(seen).toMatch(/^Seccomp:\s+2$/m);
      expect(effective(seen)).toBe('00000000a80425fb');
    });
  });

  test('runs as another user, privileged, in another directory', async () => {
    await living({ User: 'web' }, ({ exec, input }) => {
      expect(exec({ Cmd: ['id'] })).toContain('uid=1000(web) gid=1000(web) groups=29(audio),1000(web)');
      expect(effective(exec({ Cmd: ['cat', '/proc/self/status'] }))).toBe('0000000000000000');
      expect(exec({ Cmd: ['sh', '-c', 'id -u; pwd; env'], User: 'root', WorkingDir: '/etc' })).toMatch(
        /^0\n\/etc\n[\s\S]*HOME=\/root/,
      );
      expect(effective(exec({ Cmd: ['cat', '/proc/self/status'], User: '0', Privileged: true }))).toBe(
        mask(thisHost().capabilities),
      );
      expect(() => exec({ Cmd: ['id'], User: 'nobody' })).toThrow(
        'unable to find user nobody: no matching entries in passwd file',
      );
      expect(
        execProcess(input, { Cmd: ['x'], Env: [], User: '', WorkingDir: '', Tty: true, Privileged: false }),
      ).toMatchObject({ terminal: true, env: expect.arrayContaining(['TERM=xterm']) });
    });
  });
});
