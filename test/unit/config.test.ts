import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { overlap, parseSubnet } from '../../src/config/addresses.ts';
import type { Config } from '../../src/config/config.ts';
import { loadConfig } from '../../src/config/load.ts';
import { namesFor } from '../../src/config/names.ts';
import { options } from '../../src/config/options.ts';
import { MAX_EXEC_ROOT } from '../../src/config/path-checks.ts';

const directory = mkdtempSync(join(tmpdir(), 'hf-config-'));
afterAll(() => rmSync(directory, { recursive: true }));

const PATH = { PATH: '/usr/bin:/usr/sbin' };
let files = 0;

/** Loads the configuration with `file` as daemon.json. */
function load(argv: string[], file: unknown = {}, env: NodeJS.ProcessEnv = {}): Config {
  const path = join(directory, `daemon-${++files}.json`);
  writeFileSync(path, typeof file === 'string' ? file : JSON.stringify(file));
  const invocation = loadConfig([...argv, '--config-file', path], { ...PATH, ...env });
  if (!('config' in invocation)) throw new Error(`${invocation.command} has no configuration`);
  return invocation.config;
}

describe('defaults', () => {
  test('match the README', () => {
    expect(load([])).toMatchObject({
      dataRoot: '/var/lib/holdfast',
      execRoot: '/run/holdfast',
      hosts: ['unix:///run/holdfast/holdfast.sock'],
      pidfile: '/run/holdfast/holdfastd.pid',
      instance: '',
      bridge: 'holdfast0',
      bip: '10.77.0.1/16',
      logDriver: 'json-file',
      defaultRuntime: 'runc',
      mtu: 1500,
      ip: '',
      iptables: true,
      logLevel: 'info',
      warnings: [],
    });
  });

  test('use addresses that neither Docker nor podman uses', () => {
    const { bip, defaultAddressPools } = load([]);
    const foreign = [
      '172.16.0.0/12',
      '192.168.0.0/16',
      '10.88.0.0/16',
      '10.89.0.0/16',
      '10.90.0.0/15',
      '10.92.0.0/14',
      '10.96.0.0/11',
      '10.128.0.0/9',
    ];
    for (const ours of [bip, ...defaultAddressPools.map((p) => p.base)]) {
      for (const theirs of foreign)
        expect(overlap(parseSubnet(ours)!, parseSubnet(theirs)!), `${ours} and ${theirs}`).toBe(false);
    }
    expect(overlap(parseSubnet(bip)!, parseSubnet(defaultAddressPools[0]!.base)!)).toBe(false);
  });

  test('give a configuration that is frozen', () => {
    const config = load(['--label', 'a=b']);
    expect(() => ((config as { mtu: number }).mtu = 1)).toThrow(TypeError);
    expect(() => (config.labels as string[]).push('x=y')).toThrow(TypeError);
  });
});

describe('two daemons on one host', () => {
  test('derive every global name from both roots', () => {
    const one = load(['--data-root', '/tmp/x/data', '--exec-root', '/tmp/x/run']);
    const other = load(['--data-root', '/tmp/x/data', '--exec-root', '/tmp/y/run']);
    expect(one.instance).toMatch(/^[0-9a-f]{8}$/);
    for (const key of ['instance', 'bridge', 'bip'] as const) expect(one[key]).not.toBe(other[key]);
    expect(one.cgroupParent).toContain(one.instance);
    expect(one.hosts).toEqual(['unix:///tmp/x/run/holdfast.sock']);
  });

  test('get a bridge name that fits in a link name, and a valid subnet', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (data, exec) => {
        const names = namesFor(`/${data}`, `/${exec}`);
        expect(Buffer.byteLength(names.bridge)).toBeLessThanOrEqual(15);
        const subnet = parseSubnet(names.bip)!;
        expect(subnet.address).toBe(subnet.network + 1);
        expect(overlap(subnet, parseSubnet('10.64.0.0/13')!)).toBe(true);
      }),
    );
  });
});

describe('flags', () => {
  test.each<[string[], Partial<Config>]>([
    [['--debug'], { debug: true, logLevel: 'debug' }],
    [['--debug=false'], { debug: false }],
    [['--debug=T'], { debug: true }],
    [['-D'], { debug: true }],
    [['-Dl', 'warn'], { debug: true }],
    [['-lwarn'], { logLevel: 'warn' }],
    [['-l=error'], { logLevel: 'error' }],
    [['--log-level', 'WARNING'], { logLevel: 'warn' }],
    [['--iptables=false'], { iptables: false }],
    [['--no-new-privileges'], { noNewPrivileges: true }],
    [['--default-cgroupns-mode=private'], { defaultCgroupnsMode: 'private' }],
    [['--default-ipc-mode', 'shareable'], { defaultIpcMode: 'shareable' }],
    [['--init', '--init-path', '/sbin/tini'], { init: true, initPath: '/sbin/tini' }],
    [['-H', 'unix:///tmp/a.sock', '--host=fd://'], { hosts: ['unix:///tmp/a.sock', 'fd://'] }],
    [['-H', 'unix://'], { hosts: ['unix:///run/holdfast/holdfast.sock'] }],
    [['-G', 'docker'], { group: 'docker' }],
    [['-p', '/tmp/h.pid'], { pidfile: '/tmp/h.pid' }],
    [['--log-opt', 'max-size=10m', '--log-opt', 'max-file=3'], { logOpts: { 'max-size': '10m', 'max-file': '3' } }],
    [
      ['--default-ulimit', 'nofile=1024:2048', '--default-ulimit', 'nproc=5'],
      {
        defaultUlimits: {
          nofile: { Name: 'nofile', Soft: 1024, Hard: 2048 },
          nproc: { Name: 'nproc', Soft: 5, Hard: 5 },
        },
      },
    ],
    [
      ['--default-address-pool', 'base=172.30.0.0/16,size=24'],
      { defaultAddressPools: [{ base: '172.30.0.0/16', size: 24 }] },
    ],
    [['--default-shm-size', '1g'], { defaultShmSize: 2 ** 30 }],
    [['--default-shm-size', '65536'], { defaultShmSize: 65536 }],
    [['--exec-opt', 'native.cgroupdriver=systemd'], { cgroupDriver: 'systemd', cgroupParent: 'holdfast.slice' }],
    [
      ['--exec-opt', 'native.cgroupdriver=cgroupfs', '--cgroup-parent', 'mine'],
      { cgroupDriver: 'cgroupfs', cgroupParent: '/mine' },
    ],
    [['--feature', 'a', '--feature', 'b=false'], { features: { a: true, b: false } }],
    [['--seccomp-profile', 'unconfined'], { seccompProfile: 'unconfined' }],
    [['--slow-client-timeout', '5'], { slowClientMs: 5000 }],
    [['--ip', '0.0.0.0'], { ip: '' }],
    [['--registry-mirror', 'https://mirror.example'], { registryMirrors: ['https://mirror.example/'] }],
    [['-s', 'overlay2'], { storageDriver: 'overlay2' }],
  ])('sets %j', (argv, expected) => {
    expect(load(argv)).toMatchObject(expected);
  });

  test.each<[string[], RegExp]>([
    [['--nonsense'], /^unknown flag: --nonsense/],
    [['-x'], /^unknown shorthand flag: 'x' in -x/],
    [['--debug=maybe'], /^invalid argument for --debug: "maybe" is neither true nor false/],
    [['--mtu', 'wide'], /^invalid argument for --mtu/],
    [['start'], /^unknown command: start/],
    [['--log-level', 'loud'], /^invalid logging level: loud$/],
    [['--host', 'tcp://0.0.0.0:2375'], /tcp:\/\/ is not served/],
    [['--host', '/tmp/x.sock'], /must begin with unix:\/\/ or fd:\/\//],
    [['--host', 'unix://tmp/x.sock'], /must be absolute/],
    [['--host', `unix:///${'x'.repeat(107)}`], /107 bytes/],
    [['--data-root', 'data'], /^invalid data-root: "data" must be an absolute path/],
    [['--data-root', '/a:b'], /must not contain/],
    [['--data-root', '/tmp/a', '--exec-root', '/tmp/a/run'], /one inside the other/],
    [['--bip', '10.0.0.0/16'], /names the subnet itself; give the bridge an address in it, e\.g\. 10\.0\.0\.1\/16/],
    [['--bip', '10.0.255.255/16'], /broadcast/],
    [['--bip', '10.0.0.1'], /^invalid bip/],
    [['--bip', '10.0.0.1/31'], /no room/],
    [['--bip', 'fd00::1/64'], /^invalid bip/],
    [['--bridge', 'a-bridge-with-a-long-name'], /at most 15 bytes/],
    [['--bridge', 'none'], /--network none/],
    [['--default-address-pool', 'base=10.0.0.0/16,size=8'], /do not fit/],
    [['--default-address-pool', 'size=8'], /base=CIDR,size=BITS/],
    [['--dns', 'one.one'], /^invalid dns/],
    [['--label', 'plain'], /^bad attribute format: plain/],
    [['--label', 'a=1', '--label', 'a=2'], /^conflict labels for a=2 and a=1/],
    [['--default-runtime', 'kata'], /^specified default runtime 'kata' does not exist/],
    [['--add-runtime', 'x=no-such-program'], /not in PATH/],
    [['--exec-opt', 'native.cgroupdriver=other'], /cgroupfs or systemd/],
    [['--exec-opt', 'isolation=x'], /unknown option: 'isolation'/],
    [['--exec-opt', 'native.cgroupdriver=systemd', '--cgroup-parent', '/x'], /valid slice/],
    [['--log-driver', 'syslog'], /json-file, none/],
    [['--storage-driver', 'btrfs'], /overlay2/],
    [['--insecure-registry', 'http://x'], /should not contain/],
    [['--registry-mirror', 'ftp://x'], /not http or https/],
    [['--default-ulimit', 'nofile=20:10'], /above the hard limit/],
    [['--default-shm-size', 'lots'], /is not a size/],
    [['--warm-shims', '-1'], /less than 0/],
  ])('rejects %j', (argv, message) => {
    expect(() => load(argv)).toThrow(message);
  });

  test('rejects a flag that ends the command line without its value', () => {
    expect(() => loadConfig(['--data-root'], PATH)).toThrow('flag needs an argument: --data-root');
  });

  test('rejects an exec-root too long for socket paths below it', () => {
    const longest = `/${'r'.repeat(MAX_EXEC_ROOT - 1)}`;
    expect(load(['--exec-root', longest, '--host', 'unix:///tmp/h.sock']).execRoot).toBe(longest);
    expect(() => load(['--exec-root', `${longest}r`])).toThrow(`${MAX_EXEC_ROOT} is the most`);
  });
});

describe('daemon.json', () => {
  test('understands the keys of Docker', () => {
    const config = load([], {
      'data-root': '/srv/holdfast',
      hosts: ['unix:///srv/h.sock'],
      'log-driver': 'json-file',
      'log-opts': { 'max-size': '10m' },
      'exec-opts': ['native.cgroupdriver=cgroupfs'],
      runtimes: { mine: { path: '/usr/bin/true', runtimeArgs: ['--debug'] } },
      'default-runtime': 'mine',
      'default-ulimits': { nofile: { Name: 'nofile', Hard: 9, Soft: 8 } },
      'registry-mirrors': ['http://m.example/'],
      'insecure-registries': ['10.0.0.0/8'],
      bip: '10.9.0.1/24',
      'default-address-pools': [{ base: '10.10.0.0/16', size: 26 }],
      dns: ['10.0.0.2'],
      'live-restore': true,
      'storage-driver': 'overlay2',
      'userland-proxy': false,
      features: { x: true },
    });
    expect(config).toMatchObject({
      dataRoot: '/srv/holdfast',
      hosts: ['unix:///srv/h.sock'],
      bip: '10.9.0.1/24',
      defaultRuntime: 'mine',
      warnings: [],
    });
    expect(config.runtimes.mine).toEqual({ path: '/usr/bin/true', args: ['--debug'] });
  });

  test('rejects unknown keys and names them', () => {
    expect(() => load([], { 'data-rot': '/x', moo: 1, debug: true })).toThrow(
      /the following directives don't match any configuration option: data-rot, moo$/,
    );
  });

  test('accepts Docker keys without effect here, each with a warning', () => {
    const { warnings } = load([], { 'live-restore': false, 'userland-proxy': true, 'metrics-addr': ':1', icc: true });
    expect(warnings).toEqual(
      expect.arrayContaining([
        expect.stringContaining('live-restore'),
        expect.stringContaining('userland-proxy'),
        expect.stringContaining('metrics-addr'),
      ]),
    );
    expect(warnings).toHaveLength(3);
  });

  test.each([
    { 'userns-remap': 'default' },
    { icc: false },
    { 'authorization-plugins': ['x'] },
    { 'selinux-enabled': true },
    { rootless: true },
    { 'ip-forward': false },
    { 'default-network-opts': { bridge: { 'com.docker.network.bridge.enable_icc': 'false' } } },
  ])('rejects the loss of a protection: %j', (file) => {
    expect(() => load([], file)).toThrow(new RegExp(`^${Object.keys(file)[0]} cannot be`));
  });

  test.each<[unknown, RegExp]>([
    [{ mtu: 'wide' }, /mtu must be integer/],
    [{ 'default-ipc-mode': 'host' }, /^default IPC mode \(host\) is invalid\. Use one of "private" and "shareable"$/],
    [{ 'default-cgroupns-mode': 'x' }, /^default cgroup namespace mode \(x\) is invalid\./],
    [{ hosts: 'unix:///x' }, /hosts must be array/],
    [{ 'default-ulimits': { nofile: { Hard: 'x', Soft: 1 } } }, /default-ulimits\.nofile\.Hard must be integer/],
    [{ runtimes: { x: { path: '/x', colour: 1 } } }, /runtimes\.x must NOT have additional properties \(colour\)/],
    [{ 'config-file': '/x' }, /don't match any configuration option: config-file/],
    ['{"debug": tru}', /unable to configure the daemon with file .*JSON/],
    ['[]', /one JSON object/],
  ])('rejects %j', (file, message) => {
    expect(() => load([], file)).toThrow(message);
  });

  test('accepts an empty file, and one with a byte order mark', () => {
    expect(load([], ' \n').debug).toBe(false);
    expect(load([], '\uFEFF{"debug": true}').debug).toBe(true);
  });

  test('requires a file that was named, but not the default one', () => {
    expect(() => loadConfig(['--config-file', '/nowhere/daemon.json'], PATH)).toThrow(
      'unable to configure the daemon with file /nowhere/daemon.json: open /nowhere/daemon.json: no such file or directory',
    );
    expect(() => loadConfig([], PATH)).not.toThrow();
  });

  test('rejects an option in both flags and file, as dockerd does', () => {
    expect(() => load(['--debug', '-H', 'unix:///a'], { debug: false, hosts: ['unix:///b'] })).toThrow(
      /the following directives are specified both as a flag and in the configuration file: debug: \(from flag: true, from file: false\), hosts: \(from flag: \[unix:\/\/\/a\], from file: \[unix:\/\/\/b\]\)$/,
    );
    expect(() => load([], { debug: false }, { HOLDFAST_DEBUG: '1' })).toThrow(
      /both in the environment and in the configuration file: debug: \(from environment: true/,
    );
  });

  test('merges the runtimes of flags and file', () => {
    const { runtimes } = load(['--add-runtime', 'a=/usr/bin/true'], { runtimes: { b: { path: '/usr/bin/false' } } });
    expect(Object.keys(runtimes)).toEqual(expect.arrayContaining(['a', 'b', 'runc']));
  });
});

describe('environment', () => {
  test('sets what flags can set; flags win', () => {
    const env = { HOLDFAST_DATA_ROOT: '/srv/data', HOLDFAST_HOST: 'unix:///a unix:///b', HOLDFAST_DEBUG: 'true' };
    expect(load([], {}, env)).toMatchObject({ dataRoot: '/srv/data', hosts: ['unix:///a', 'unix:///b'], debug: true });
    expect(load(['--data-root', '/other', '--debug=false'], {}, env)).toMatchObject({
      dataRoot: '/other',
      debug: false,
    });
  });

  test('rejects a bad value and names its variable', () => {
    expect(() => load([], {}, { HOLDFAST_DEBUG: 'perhaps' })).toThrow(/HOLDFAST_DEBUG/);
  });

  test('ignores HOLDFAST_VERSION: it does not print the version', () => {
    expect(loadConfig([], { ...PATH, HOLDFAST_VERSION: '1', HOLDFAST_HELP: '1' }).command).toBe('daemon');
  });
});

describe('commands', () => {
  test.each([
    [[], 'daemon'],
    [['check'], 'check'],
    [['--debug', 'check'], 'check'],
    [['--validate'], 'validate'],
    [['--version'], 'version'],
    [['-v'], 'version'],
    [['--help'], 'help'],
    [['-h', '--version'], 'help'],
  ])('%j runs the command %s', (argv, command) => {
    expect(loadConfig(argv, PATH).command).toBe(command);
  });

  test('lists every flag in --help, in lines of at most 100 columns', () => {
    const invocation = loadConfig(['--help'], PATH);
    const text = 'text' in invocation ? invocation.text : '';
    for (const option of options) expect(text).toContain(`--${option.flag}`);
    for (const line of text.split('\n')) expect(line.length, line).toBeLessThanOrEqual(100);
  });

  test('gives no two options the same key, flag or letter', () => {
    for (const names of [options.map((o) => o.key), options.map((o) => o.flag), options.flatMap((o) => o.short ?? [])])
      expect(new Set(names).size).toBe(names.length);
  });
});
