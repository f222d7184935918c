/** From what was given to one checked, frozen Config. */
import { existsSync } from 'node:fs';
import { isAbsolute, join, normalize } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { Ulimit } from '../model/container-config.ts';
import { absolute } from './absolute.ts';
import { DEFAULT_SECCOMP_PROFILE, type AddressPool, type Config } from './config.ts';
import { ConfigError } from './error.ts';
import type { Raw } from './flags.ts';
import { DEFAULT_DATA_ROOT, DEFAULT_EXEC_ROOT, namesFor, type Names } from './names.ts';
import { checkBip, checkBridge, checkDomain, checkIp, checkPools, checkPublishAddress } from './network-checks.ts';
import { options } from './options.ts';
import { findProgram } from './program.ts';
import { checkDefaultRuntime, runtimeTable, type RawRuntime } from './runtimes.ts';

/** One driver, by the names that Docker has given it. */
const STORAGE_DRIVERS = ['overlay2', 'overlay', 'overlayfs'];
const LOG_DRIVERS = ['json-file', 'none'];
const INIT_PROGRAMS = ['tini-static', 'docker-init', 'catatonit', 'tini']; // the static ones first: it runs inside the container

const DEFAULT_SHM_SIZE = 64 * 1024 * 1024;
const DEFAULT_MTU = 1500;
const DEFAULT_SHUTDOWN_TIMEOUT = 15;
const DEFAULT_SLOW_CLIENT_SECONDS = 600;
const DEFAULT_REGISTRY_CERTS = '/etc/holdfast/certs.d';
const DEFAULT_DOWNLOADS = 3;
const DEFAULT_UPLOADS = 5;
const DEFAULT_ATTEMPTS = 5;
const DEFAULT_WARM_SHIMS = 2;
const DEFAULT_POOLS: AddressPool[] = [{ base: '10.78.0.0/15', size: 24 }];

/** sun_path holds 107 bytes and a NUL. unix(7). */
export const MAX_SOCKET_PATH = 107;
/** What a container's socket adds to the exec-root: /c/ID/ctl, with 16 digits of the id. */
const CONTAINER_SOCKET_SUFFIX = '/c/'.length + 16 + '/ctl'.length;
export const MAX_EXEC_ROOT = MAX_SOCKET_PATH - CONTAINER_SOCKET_SUFFIX;

/** @throws ConfigError that says which setting to change */
export function resolveConfig(raw: Raw, env: NodeJS.ProcessEnv): Config {
  const string = (key: string, fallback = ''): string => (raw[key] as string | undefined) || fallback;
  const boolean = (key: string, fallback: boolean): boolean => (raw[key] as boolean | undefined) ?? fallback;
  const list = (key: string): string[] => (raw[key] as string[] | undefined) ?? [];
  const atLeast = (key: string, least: number, fallback: number): number => {
    const value = (raw[key] as number | undefined) ?? fallback;
    if (value < least) throw new ConfigError(`invalid ${key}: ${value} is less than ${least}`);
    return value;
  };

  const dataRoot = root('data-root', string('data-root', DEFAULT_DATA_ROOT));
  const execRoot = root('exec-root', string('exec-root', DEFAULT_EXEC_ROOT));
  checkRoots(dataRoot, execRoot);
  const names = namesFor(dataRoot, execRoot);
  const hosts = list('hosts').length > 0 ? list('hosts') : ['unix://'];
  const cgroupDriver = driverOf(list('exec-opts'));
  const debug = boolean('debug', false);
  const runtimes = runtimeTable((raw.runtimes as Record<string, RawRuntime> | undefined) ?? {}, env);

  const config: Config = {
    dataRoot,
    execRoot,
    instance: names.instance,
    hosts: hosts.map((host) => checkHost(host, `${execRoot}/holdfast.sock`)),
    group: string('group'),
    pidfile: string('pidfile', join(execRoot, 'holdfastd.pid')),
    debug,
    logLevel: debug ? 'debug' : checkLogLevel(string('log-level', 'info')),
    logDriver: oneOf('log-driver', string('log-driver', 'json-file'), LOG_DRIVERS),
    logOpts: (raw['log-opts'] as Record<string, string> | undefined) ?? {},
    cgroupDriver,
    cgroupParent: checkCgroupParent(string('cgroup-parent'), cgroupDriver, names),
    runtimes,
    defaultRuntime: checkDefaultRuntime(string('default-runtime', 'runc'), runtimes),
    defaultUlimits: checkUlimits((raw['default-ulimits'] as Record<string, Ulimit> | undefined) ?? {}),
    defaultShmSize: checkBytes(
      'default-shm-size',
      (raw['default-shm-size'] as string | number | undefined) ?? DEFAULT_SHM_SIZE,
    ),
    registryMirrors: list('registry-mirrors').map(checkMirror),
    insecureRegistries: list('insecure-registries').map(checkInsecureRegistry),
    registryCerts: raw['registry-certs']
      ? absolute('registry-certs', string('registry-certs'))
      : DEFAULT_REGISTRY_CERTS,
    maxConcurrentDownloads: atLeast('max-concurrent-downloads', 0, DEFAULT_DOWNLOADS) || DEFAULT_DOWNLOADS,
    maxConcurrentUploads: atLeast('max-concurrent-uploads', 0, DEFAULT_UPLOADS) || DEFAULT_UPLOADS,
    maxDownloadAttempts: atLeast('max-download-attempts', 1, DEFAULT_ATTEMPTS),
    bip: checkBip(string('bip', names.bip)),
    bridge: checkBridge(string('bridge', names.bridge)),
    defaultAddressPools: checkPools((raw['default-address-pools'] as AddressPool[] | undefined) ?? DEFAULT_POOLS),
    dns: list('dns').map((address) => checkIp('dns', address)),
    dnsOptions: list('dns-opts'),
    dnsSearch: list('dns-search').map(checkDomain),
    mtu: atLeast('mtu', 0, DEFAULT_MTU) || DEFAULT_MTU,
    ip: checkPublishAddress(string('ip')),
    iptables: boolean('iptables', true),
    storageDriver: checkStorageDriver(string('storage-driver', 'overlay2')),
    labels: checkLabels(list('labels')),
    features: (raw.features as Record<string, boolean> | undefined) ?? {},
    seccompProfile: checkSeccomp(string('seccomp-profile', DEFAULT_SECCOMP_PROFILE)),
    initPath: raw['init-path']
      ? absolute('init-path', string('init-path'))
      : (INIT_PROGRAMS.map((name) => findProgram(name, env)).find(Boolean) ?? ''),
    noNewPrivileges: boolean('no-new-privileges', false),
    shutdownTimeout: atLeast('shutdown-timeout', -1, DEFAULT_SHUTDOWN_TIMEOUT),
    slowClientMs: atLeast('slow-client-timeout', 0, DEFAULT_SLOW_CLIENT_SECONDS) * 1000,
    warmShims: atLeast('warm-shims', 0, DEFAULT_WARM_SHIMS),
    warnings: judgeInert(raw),
  };
  return deepFreeze(config);
}

function root(key: string, path: string): string {
  const clean = normalize(absolute(key, path)).replace(/(.)\/$/, '$1');
  // overlayfs separates its lower directories by colons and its options by commas.
  if (/[:,\s"\\]/.test(clean))
    throw new ConfigError(
      `invalid ${key}: ${JSON.stringify(path)} must not contain white space, quotes, backslashes, colons or commas`,
    );
  return clean;
}

function checkRoots(dataRoot: string, execRoot: string): void {
  const within = (inner: string, outer: string): boolean => `${inner}/`.startsWith(`${outer}/`);
  if (within(dataRoot, execRoot) || within(execRoot, dataRoot))
    throw new ConfigError(
      `data-root ${dataRoot} and exec-root ${execRoot} must not be the same directory, nor one inside the other`,
    );
  const length = Buffer.byteLength(execRoot);
  if (length > MAX_EXEC_ROOT)
    throw new ConfigError(
      `invalid exec-root: ${execRoot} has ${length} bytes, and ${MAX_EXEC_ROOT} is the most: the sockets below it may have ${MAX_SOCKET_PATH} in all`,
    );
}

function checkHost(host: string, fallback: string): string {
  if (host.startsWith('fd://')) return host;
  if (!host.startsWith('unix://')) {
    const kind = /^[a-z]+:\/\//.exec(host)?.[0] ?? '';
    throw new ConfigError(
      `invalid host ${JSON.stringify(host)}: ${kind === '' ? 'it must begin with unix:// or fd://' : `${kind} is not served, only unix:// and fd://`}`,
    );
  }
  const path = host.slice('unix://'.length) || fallback;
  if (!isAbsolute(path))
    throw new ConfigError(
      `invalid host ${JSON.stringify(host)}: the socket's path must be absolute, as in unix:///run/holdfast/holdfast.sock`,
    );
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH)
    throw new ConfigError(`invalid host ${JSON.stringify(host)}: a socket's path may have ${MAX_SOCKET_PATH} bytes`);
  return `unix://${path}`;
}

function checkLogLevel(level: string): Config['logLevel'] {
  // logrus, dockerd's logger, knows some more names.
  const names: Record<string, Config['logLevel']> = {
    trace: 'debug',
    debug: 'debug',
    info: 'info',
    warn: 'warn',
    warning: 'warn',
    error: 'error',
    fatal: 'fatal',
    panic: 'fatal',
  };
  const found = names[level.toLowerCase()];
  if (!found) throw new ConfigError(`invalid logging level: ${level}`);
  return found;
}

function oneOf(key: string, value: string, allowed: readonly string[]): string {
  if (!allowed.includes(value))
    throw new ConfigError(`invalid ${key}: ${JSON.stringify(value)} is not available here: ${allowed.join(', ')}`);
  return value;
}

function checkStorageDriver(name: string): string {
  oneOf('storage-driver', name, STORAGE_DRIVERS);
  return STORAGE_DRIVERS[0]!;
}

function driverOf(execOpts: string[]): Config['cgroupDriver'] {
  // As systemd's own sd_booted(3), and only where systemd owns the one tree of cgroup v2.
  let driver: string =
    existsSync('/run/systemd/system') && existsSync('/sys/fs/cgroup/cgroup.controllers') ? 'systemd' : 'cgroupfs';
  for (const option of execOpts) {
    const [, name = '', value = ''] = /^\s*([^=]*?)\s*=\s*(.*?)\s*$/.exec(option) ?? [];
    if (name === '' || value === '')
      throw new ConfigError(`invalid exec-opt (${option}): must be formatted 'opt=value'`);
    if (name.toLowerCase() !== 'native.cgroupdriver')
      throw new ConfigError(`invalid exec-opt (${option}): unknown option: '${name}'`);
    driver = value;
  }
  if (driver !== 'cgroupfs' && driver !== 'systemd')
    throw new ConfigError(
      `invalid exec-opt: native.cgroupdriver is cgroupfs or systemd, not ${JSON.stringify(driver)}`,
    );
  return driver;
}

function checkCgroupParent(parent: string, driver: Config['cgroupDriver'], names: Names): string {
  if (parent === '') return names.cgroupParent[driver];
  if (driver === 'systemd') {
    if (parent.includes('/') || !parent.endsWith('.slice'))
      throw new ConfigError(`cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"`);
    return parent;
  }
  const path = normalize(`/${parent}`).replace(/\/$/, '');
  if (path === '') throw new ConfigError('invalid cgroup-parent: containers need a cgroup of their own below /');
  return path;
}

function checkUlimits(limits: Record<string, Ulimit>): Record<string, Ulimit> {
  return Object.fromEntries(
    Object.entries(limits).map(([name, { Soft, Hard }]) => {
      if (Hard !== -1 && (Soft === -1 || Soft > Hard))
        throw new ConfigError(
          `invalid default-ulimit ${name}: the soft limit (${Soft}) is above the hard one (${Hard})`,
        );
      return [name, { Name: name, Soft, Hard }];
    }),
  );
}

function checkBytes(key: string, size: string | number): number {
  const [, digits = '', unit = ''] = /^(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?$/i.exec(String(size)) ?? [];
  if (digits === '') throw new ConfigError(`invalid ${key}: ${JSON.stringify(size)} is no size; write 64M or 67108864`);
  return Math.floor(Number(digits) * 1024 ** ' kmgtp'.indexOf(unit.toLowerCase() || ' '));
}

function checkMirror(mirror: string): string {
  const invalid = (why: string): ConfigError =>
    new ConfigError(`invalid registry mirror ${JSON.stringify(mirror)}: ${why}`);
  if (!URL.canParse(mirror)) throw invalid('it is no URL');
  const url = new URL(mirror);
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw invalid(`${url.protocol.slice(0, -1)} is not http or https`);
  if (url.search || url.hash) throw invalid('it has a query or a fragment');
  if (url.username || url.password) throw invalid('it has a user or a password in it');
  return mirror.endsWith('/') ? mirror : `${mirror}/`;
}

function checkInsecureRegistry(registry: string): string {
  if (registry.includes('://')) throw new ConfigError(`insecure registry ${registry} should not contain '://'`);
  if (registry.startsWith('-') || registry.endsWith('-') || registry === '')
    throw new ConfigError(`invalid insecure registry ${JSON.stringify(registry)}`);
  return registry;
}

function checkLabels(labels: string[]): string[] {
  const values = new Map<string, string>();
  for (const label of labels) {
    const at = label.indexOf('=');
    if (at < 1) throw new ConfigError(`bad attribute format: ${label}`);
    const [name, value] = [label.slice(0, at), label.slice(at + 1)];
    if (values.has(name) && values.get(name) !== value)
      throw new ConfigError(`conflict labels for ${label} and ${name}=${values.get(name)}`);
    values.set(name, value);
  }
  return [...values].map(([name, value]) => `${name}=${value}`);
}

const checkSeccomp = (profile: string): string =>
  profile === 'builtin'
    ? DEFAULT_SECCOMP_PROFILE
    : profile === 'unconfined'
      ? profile
      : absolute('seccomp-profile', profile);

function judgeInert(raw: Raw): string[] {
  const odd = options.filter(
    (o) => o.inert !== undefined && raw[o.key] !== undefined && !isDeepStrictEqual(raw[o.key], o.same),
  );
  const refused = odd.find((o) => o.refusal !== undefined);
  if (refused)
    throw new ConfigError(`${refused.key} cannot be ${JSON.stringify(raw[refused.key])}: ${refused.refusal}`);
  return odd.map((o) => `${o.key} has no effect: ${o.inert}`);
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    Object.freeze(value);
    Object.values(value).forEach(deepFreeze);
  }
  return value;
}
