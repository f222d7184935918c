/**
 * Runs a Debian made by debootstrap: its users and groups by name, its environment, its package manager. A real daemon
 * is needed because the image supplies passwd, group and file system.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { debianTar } from '../support/debian.ts';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';

const MAKING_MS = 600_000;

let engine: TestEngine;
beforeAll(async () => {
  const archive = debianTar();
  engine = await startEngine();
  const imported = await docker('import', '-c', 'CMD ["bash"]', '-c', 'ENV LANG=C.UTF-8', archive, 'debian:test');
  expect(imported).toMatchObject({ stderr: '', exitCode: 0 });
}, MAKING_MS);
afterAll(async () => engine?.[Symbol.asyncDispose]());

const { docker } = dockerOf(() => engine);
const bash = (script: string, ...options: string[]) =>
  docker('run', '--rm', ...options, 'debian:test', 'bash', '-ec', script);

describe('users', () => {
  test('the default user is root with Docker’s PATH and HOME and the image’s environment', async () => {
    const { stdout } = await bash('id; echo $HOME; echo $PATH; echo $LANG; pwd');
    expect(stdout).toBe(
      'uid=0(root) gid=0(root) groups=0(root)\n/root\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nC.UTF-8\n/\n',
    );
  });

  test.each([
    ['man', 'uid=6(man) gid=12(man) groups=12(man)', '/var/cache/man'],
    ['man:audio', 'uid=6(man) gid=29(audio) groups=29(audio)', '/var/cache/man'],
    ['6', 'uid=6(man) gid=12(man) groups=12(man)', '/var/cache/man'],
    ['nobody', 'uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)', '/nonexistent'],
    ['4321:8765', 'uid=4321 gid=8765 groups=8765', '/'],
  ])('user %s is looked up in the image’s passwd and group', async (user, id, home) => {
    expect(await bash('id; echo $HOME; grep CapEff /proc/self/status', '--user', user)).toEqual({
      stdout: `${id}\n${home}\nCapEff:\t0000000000000000\n`,
      stderr: '',
      exitCode: 0,
    });
  });

  test('--group-add looks group names up in the image', async () => {
    expect((await bash('id', '--user', 'man', '--group-add', 'audio', '--group-add', 'video')).stdout).toBe(
      'uid=6(man) gid=12(man) groups=12(man),29(audio),44(video)\n',
    );
  });

  test('an unknown user is refused', async () => {
    const { exitCode, stderr } = await bash('id', '--user', 'stranger');
    expect(exitCode).toBe(125);
    expect(stderr).toContain('unable to find user stranger: no matching entries in passwd file');
  });

  test('exec runs as a user that was added inside, with supplementary groups and home', async () => {
    const { stdout } = await docker('run', '-d', 'debian:test', 'sleep', '1000');
    const id = stdout.trim();
    expect(await docker('exec', id, 'useradd', '--create-home', '--groups', 'audio,video', 'worker')).toEqual({
      stdout: '',
      stderr: '',
      exitCode: 0,
    });
    const seen = await docker(
      ...['exec', '--user', 'worker', id, 'bash'],
      ...['-c', 'id; echo $HOME; cd; touch mine && stat -c %U mine; touch /etc/no 2>&1'],
    );
    expect(seen.stdout).toBe(
      "uid=1000(worker) gid=1000(worker) groups=1000(worker),29(audio),44(video)\n/home/worker\nworker\ntouch: cannot touch '/etc/no': Permission denied\n",
    );
    expect((await docker('exec', id, 'su', 'worker', '-c', 'id -un')).stdout).toBe('worker\n');
    await docker('restart', '-t', '0', id);
    expect((await docker('exec', '--user', 'worker:video', id, 'id', '-gn')).stdout).toBe('video\n');
  });
});

describe('packages', () => {
  /** Builds and installs a package with a maintainer script: dpkg and apt at work without a network. */
  const MAKE = `
    mkdir -p /tmp/hello/DEBIAN /tmp/hello/usr/bin /tmp/hello/etc
    printf 'Package: hf-hello\\nVersion: 1.0\\nArchitecture: all\\nMaintainer: nobody <nobody@example.test>\\nDepends: adduser\\nDescription: says hello\\n' > /tmp/hello/DEBIAN/control
    printf '#!/bin/sh\\nset -e\\nadduser --quiet --system --group --home /var/lib/hello hello\\n' > /tmp/hello/DEBIAN/postinst
    printf '/etc/hello.conf\\n' > /tmp/hello/DEBIAN/conffiles
    echo greeting=hello > /tmp/hello/etc/hello.conf
    printf '#!/bin/sh\\n. /etc/hello.conf; echo $greeting\\n' > /tmp/hello/usr/bin/hello
    chmod 755 /tmp/hello/DEBIAN/postinst /tmp/hello/usr/bin/hello
    dpkg-deb --root-owner-group --build /tmp/hello /tmp/hf-hello.deb >/dev/null`;

  test('dpkg finds the files that debootstrap installed intact', async () => {
    expect(
      await bash("dpkg --audit; dpkg --verify bash coreutils apt; dpkg-query -f '${db:Status-Abbrev}\\n' -W | sort -u"),
    ).toEqual({ stdout: 'ii \n', stderr: '', exitCode: 0 });
  });

  test('apt installs and purges a package', async () => {
    const script = `${MAKE}
      export DEBIAN_FRONTEND=noninteractive
      apt-get install -qq -y /tmp/hf-hello.deb </dev/null >/tmp/log 2>&1 || { cat /tmp/log >&2; exit 1; }
      hello; dpkg-query -f '\${Status}\\n' -W hf-hello; stat -c '%U %G' /var/lib/hello; apt-get check -qq
      echo greeting=changed > /etc/hello.conf; hello
      apt-get purge -qq -y hf-hello </dev/null >/tmp/log 2>&1 || { cat /tmp/log >&2; exit 1; }
      ! test -e /etc/hello.conf; ! test -e /usr/bin/hello; dpkg --audit; echo gone`;
    expect(await bash(script, '--network', 'none')).toEqual({
      stdout: 'hello\ninstall ok installed\nhello hello\nchanged\ngone\n',
      stderr: '',
      exitCode: 0,
    });
  });

  test('an installed package survives a restart of the container and is absent from another', async () => {
    await docker(
      ...['run', '--name', 'kept'],
      ...['debian:test', 'bash'],
      ...['-ec', `${MAKE}; test -e /usr/bin/hello || dpkg -i /tmp/hf-hello.deb >/dev/null; hello`],
    );
    expect(await docker('start', '-a', 'kept')).toMatchObject({ stdout: 'hello\n', exitCode: 0 });
    expect((await bash('command -v hello || echo none')).stdout).toBe('none\n');
  });
});

describe('the rest of the system', () => {
  test('devices, terminals and file systems are where Debian expects them', async () => {
    const { stdout } = await bash(
      'for f in null zero full random urandom tty ptmx fd stdin stdout stderr shm mqueue; do test -e /dev/$f && echo $f; done | wc -l; stat -f -c %T / /proc /sys /dev/shm; mktemp -d /dev/shm/XXXX >/dev/null; hostname | wc -c',
    );
    expect(stdout).toBe('13\noverlayfs\nproc\nsysfs\ntmpfs\n13\n');
  });

  test('perl, awk and tar work with owners, hard links and sparse files', async () => {
    const script =
      'cd /tmp; mkdir a; echo x > a/one; ln a/one a/two; truncate -s 10M a/sparse; chown 6:12 a/one; tar cSf a.tar a; rm -r a; tar xf a.tar; stat -c "%h %u %g" a/one; test $(du -k a/sparse | cut -f1) -lt 100 && echo sparse; perl -e "print 6*7, qq{\\n}"; awk "BEGIN { print 6*7 }"';
    expect(await bash(script)).toEqual({ stdout: '2 6 12\nsparse\n42\n42\n', stderr: '', exitCode: 0 });
  });
});
