/** Attacks that other engines were open to; docs/hardening.md has the list, with the tests in other files. */
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { busyboxTar } from '../support/busybox.ts';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { FaultyRegistry } from '../support/faulty-registry.ts';
import { archive, digestOf, file } from '../support/tar.ts';

let engine: TestEngine;
let scratch: string;
beforeAll(async () => {
  engine = await startEngine();
  scratch = mkdtempSync('/tmp/hf-attacks-');
});
afterAll(async () => {
  rmSync(scratch, { recursive: true, force: true });
  await engine?.[Symbol.asyncDispose]();
});
const { docker, ok } = dockerOf(() => engine);

/** Loads an image of busybox's files with this configuration. */
async function imageWith(name: string, config: object): Promise<void> {
  const layer = busyboxTar();
  const document = {
    ...{ architecture: 'amd64', os: 'linux', config },
    rootfs: { type: 'layers', diff_ids: [digestOf(layer)] },
  };
  const tar = archive(
    file('c.json', JSON.stringify(document)),
    file('l.tar', layer),
    file('manifest.json', JSON.stringify([{ Config: 'c.json', RepoTags: [name], Layers: ['l.tar'] }])),
  );
  const loaded = await engine.api('POST', '/images/load', tar, { 'Content-Type': 'application/x-tar' });
  expect(loaded.text).toContain(`Loaded image: ${name}`);
}

test('an uploaded archive is not unpacked by the container’s own programs [cp-trojan-decompressor]', async () => {
  const id = await ok('run', '-d', 'busybox', 'sleep', '100000');
  const names = ['xz', 'unxz', 'gzip', 'gunzip', 'unpigz', 'bzip2', 'bunzip2', 'zstd', 'unzstd', 'tar'];
  const install = names.flatMap((name) =>
    ['/bin', '/sbin', '/usr/bin', '/usr/sbin', '/usr/local/bin'].map((directory) => `${directory}/${name}`),
  );
  const trojan = '#!/bin/sh\necho ran >> /trojan\n';
  const script = `for f in ${install.join(' ')}; do mkdir -p $(dirname $f); rm -f $f; printf '${trojan.replaceAll('\n', '\\n')}' > $f; chmod 755 $f; done`;
  await ok('exec', id, 'sh', '-c', script);
  writeFileSync(join(scratch, 'tar'), archive(['uploaded', 'content']));
  for (const [format, ...command] of [
    ['gzip', 'gzip', '-c'],
    ['xz', 'xz', '-c'],
    ['bzip2', 'bzip2', '-c'],
  ]) {
    const [program, ...args] = command;
    const packed = execFileSync(program!, [...args, join(scratch, 'tar')]);
    const put = await engine.api('PUT', `/containers/${id}/archive?path=/tmp`, packed, {
      'Content-Type': 'application/x-tar',
    });
    expect([format, put.status, put.text]).toEqual([format, 200, '']);
    expect(await ok('exec', id, 'cat', '/tmp/uploaded')).toBe('content');
    await ok('exec', id, 'rm', '/tmp/uploaded');
  }
  expect(await ok('exec', id, 'sh', '-c', '[ ! -e /trojan ] && echo clean')).toBe('clean');
}, 60_000);

test('copying works in a container whose libraries are planted, and loads none of them [cp-planted-libraries]', async () => {
  const id = await ok('run', '-d', 'busybox', 'sleep', '100000');
  // What CVE-2019-14271 loaded: libnss_*.so of the container, by a process of the host.
  const plant =
    'for d in /lib /lib64 /usr/lib /lib/x86_64-linux-gnu; do mkdir -p $d; for n in nss_files nss_dns c dl; do echo x > $d/lib$n.so.2; done; done; echo x > /etc/ld.so.preload';
  await ok('exec', id, 'sh', '-c', plant);
  writeFileSync(join(scratch, 'in'), 'copied');
  await ok('cp', join(scratch, 'in'), `${id}:/in`);
  await ok('cp', `${id}:/in`, join(scratch, 'out'));
  expect(readFileSync(join(scratch, 'out'), 'utf8')).toBe('copied');
});

test('an image’s volumes and working directory stay in the container [image-path-escape]', async () => {
  const canary = join(scratch, 'canary');
  mkdirSync(canary);
  writeFileSync(join(canary, 'secret'), 'the host’s');
  const before = readdirSync(scratch);
  const up = `${'../'.repeat(12)}${canary.slice(1)}`;
  await imageWith('escape:1', {
    Volumes: { [`/${up}`]: {} },
    WorkingDir: `/${up}/made`,
    Cmd: ['sh', '-c', `ls ${canary}; pwd`],
  });
  const { stdout, stderr } = await docker('run', '--rm', 'escape:1');
  expect(stdout + stderr).not.toContain('secret');
  expect(readdirSync(canary)).toEqual(['secret']);
  expect(readdirSync(scratch)).toEqual(before);
  // CVE-2024-21626: a working directory that a leaked descriptor would make the host's.
  for (const directory of ['/proc/self/fd/7', '/proc/self/fd/8', '/proc/self/fd/9', '/proc/self/fd/10']) {
    const run = await docker('run', '--rm', '-w', directory, 'busybox', 'ls', `../../../../../../../../..${canary}`);
    expect(run.stdout).not.toContain('secret');
  }
}, 60_000);

test('what shows or changes the host in /proc and /sys is hidden [masked-paths]', async () => {
  const masked = [
    ...['/proc/acpi', '/proc/asound', '/proc/interrupts', '/proc/kcore', '/proc/keys', '/proc/latency_stats'],
    ...['/proc/sched_debug', '/proc/scsi', '/proc/timer_list', '/proc/timer_stats'],
    ...['/sys/devices/virtual/powercap', '/sys/firmware', '/sys/devices/system/cpu/cpu0/thermal_throttle'],
  ].filter((path) => existsSync(path));
  expect(masked.length).toBeGreaterThan(0);
  const look = `for p in ${masked.join(' ')}; do if [ -d $p ]; then ls -A $p; else head -c 1 $p; fi; done`;
  expect(await ok('run', '--rm', 'busybox', 'sh', '-c', look)).toBe('');
  const write =
    'for p in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/irq/default_smp_affinity /sys/kernel/uevent_helper; do [ -e $p ] && (echo x > $p) 2>/dev/null && echo written $p; done; true';
  expect(await ok('run', '--rm', 'busybox', 'sh', '-c', write)).toBe('');
});

test('a process has no inheritable and no ambient capabilities [capabilities-inheritable]', async () => {
  const read = ['sh', '-c', 'grep -E "CapInh|CapAmb" /proc/self/status'];
  const none = 'CapInh:\t0000000000000000\nCapAmb:\t0000000000000000';
  for (const options of [[], ['--user', '1000'], ['--privileged'], ['--cap-add', 'NET_ADMIN']])
    expect(await ok('run', '--rm', ...options, 'busybox', ...read)).toBe(none);
  const id = await ok('run', '-d', 'busybox', 'sleep', '100000');
  expect(await ok('exec', id, ...read)).toBe(none);
  expect(await ok('exec', '--privileged', id, ...read)).toBe(none);
});

test('other users of the host cannot enter the daemon’s directories [data-modes]', () => {
  for (const directory of ['data', 'run', 'data/containers', 'run/c']) {
    const mode = statSync(join(engine.root, directory)).mode & 0o007;
    expect([directory, mode]).toEqual([directory, 0]);
  }
});

test('the runtime cannot be overwritten from a container [runtime-not-writable]', async () => {
  const before = execFileSync('sha256sum', [execFileSync('which', ['runc'], { encoding: 'utf8' }).trim()]);
  const id = await ok('run', '-d', 'busybox', 'sleep', '100000');
  // CVE-2019-5736: the entry point is the runtime itself, through /proc/self/exe.
  await ok('exec', id, 'sh', '-c', 'printf "#!/proc/self/exe\\n" > /bin/trap; chmod 755 /bin/trap');
  for (let turn = 0; turn < 3; turn++) await docker('exec', id, '/bin/trap');
  await docker('run', '--rm', '--entrypoint', '/proc/self/exe', 'busybox', '--version');
  expect(execFileSync('sha256sum', [execFileSync('which', ['runc'], { encoding: 'utf8' }).trim()])).toEqual(before);
});

test('a foreign layer’s URL is not asked [foreign-layer-url]', async () => {
  await using registry = await FaultyRegistry.start();
  await using elsewhere = await FaultyRegistry.start();
  const { config, layers } = registry.image('app', '1', [archive(['f', 'x'])]);
  const document = {
    schemaVersion: 2,
    mediaType: 'application/vnd.docker.distribution.manifest.v2+json',
    config: {
      mediaType: 'application/vnd.docker.container.image.v1+json',
      digest: digestOf(config),
      size: config.length,
    },
    layers: [
      {
        mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
        digest: layers[0],
        size: registry.blobs.get(layers[0]!)!.length,
        urls: [`http://${elsewhere.host}/layer`],
      },
    ],
  };
  registry.manifest('app', '1', document, document.mediaType);
  const auth = Buffer.from('{"username":"alice","password":"secret"}').toString('base64url');
  const name = encodeURIComponent(`${registry.host}/app`);
  await engine.api('POST', `/images/create?fromImage=${name}&tag=1`, undefined, { 'X-Registry-Auth': auth });
  expect(elsewhere.seen).toEqual([]);
});

test('a limit that the runtime refuses is answered with its reason, not with its log [update-runtime-refusal]', async () => {
  const id = await ok('run', '-d', 'busybox', 'sleep', '100000');
  const refused = await engine.api('POST', `/containers/${id}/update`, { CpuShares: 674_488_118 });
  // The runtimes of cgroup v2 convert the number instead of refusing it.
  if (refused.status !== 200)
    expect((refused.json as { message: string }).message).toMatch(
      new RegExp(`^Cannot update container ${id}: (?!time=|\\{)[^"\n]*cpu-shares[^"\n]*$`),
    );
  // A value that the kernel does not take is the client's fault.
  expect((await engine.api('POST', `/containers/${id}/update`, { PidsLimit: 2 ** 32 })).status).toBe(400);
  await ok('rm', '-f', id);
});
