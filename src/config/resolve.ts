/** Turns raw option values into the checked, frozen Config. */
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { Ulimit } from '../model/container-config.ts';
import { DEFAULT_SECCOMP_PROFILE, type AddressPool, type Config } from './config.ts';
import {
  cgroupDriverOf,
  checkBytes,
  checkCgroupParent,
  checkSeccompProfile,
  checkUlimits,
} from './container-checks.ts';
import { ConfigError } from './error.ts';
import type { Raw } from './flags.ts';
import { DEFAULT_DATA_ROOT, DEFAULT_EXEC_ROOT, namesFor } from './names.ts';
import { checkBip, checkBridge, checkDomain, checkIp, checkPools, checkPublishAddress } from './network-checks.ts';
import { options } from './options.ts';
import { absolute, checkHost, checkRoot, checkRoots } from './path-checks.ts';
import { findProgram } from './program.ts';
import { checkInsecureRegistry, checkMirror } from './registry-checks.ts';
import { checkDefaultRuntime, runtimeTable, type RawRuntime } from './runtimes.ts';

/** The names that Docker has given to one driver. */
const STORAGE_DRIVERS = ['overlay2', 'overlay', 'overlayfs'];
const LOG_DRIVERS = ['json-file', 'none'];
/** Static ones first: the program runs inside the container, where a dynamic one may lack its libraries. */
const INIT_PROGRAMS = ['tini-static', 'docker-init', 'catatonit', 'tini'];

const CGROUPNS_MODES = ['private', 'host'];
const IPC_MODES = ['private', 'shareable'];

const DEFAULT_SHM_SIZE_BYTES = 64 * 1024 * 1024;
const DEFAULT_MTU = 1500;
const DEFAULT_SHUTDOWN_TIMEOUT_SECONDS = 15;
const DEFAULT_SLOW_CLIENT_SECONDS = 600;
const DEFAULT_REGISTRY_CERTS = '/etc/holdfast/certs.d';
const DEFAULT_DOWNLOADS = 3;
const DEFAULT_UPLOADS = 5;
const DEFAULT_ATTEMPTS = 5;
const DEFAULT_WARM_SHIMS = 2;
const DEFAULT_POOLS: AddressPool[] = [{ base: '10.78.0.0/15', size: 24 }];

/** @throws ConfigError that names the setting to change */
export function resolveConfig(raw: Raw, env: NodeJS.ProcessEnv): Config {
  const string = (key: string, fallback = ''): string => (raw[key] as string | undefined) || fallback;
  const boolean = (key: string, fallback: boolean): boolean => (raw[key] as boolean | undefined) ?? fallback;
  const list = (key: string): string[] => (raw[key] as string[] | undefined) ?? [];
  const map = <T>(key: string): Record<string, T> => (raw[key] as Record<string, T> | undefined) ?? {};
  const path = (key: string, fallback: string): string => (raw[key] ? absolute(key, string(key)) : fallback);
  const atLeast = (key: string, minimum: number, fallback: number): number => {
    const value = (raw[key] as number | undefined) ?? fallback;
    if (value < minimum) throw new ConfigError(`invalid ${key}: ${value} is less than ${minimum}`);
    return value;
  };

  const dataRoot = checkRoot('data-root', string('data-root', DEFAULT_DATA_ROOT));
  const execRoot = checkRoot('exec-root', string('exec-root', DEFAULT_EXEC_ROOT));
  checkRoots(dataRoot, execRoot);
  const names = namesFor(dataRoot, execRoot);
  const hosts = list('hosts').length > 0 ? list('hosts') : ['unix://'];
  const cgroupDriver = cgroupDriverOf(list('exec-opts'));
  const debug = boolean('debug', false);
  const runtimes = runtimeTable(map<RawRuntime>('runtimes'), env);
  const shmSize = (raw['default-shm-size'] as string | number | undefined) ?? DEFAULT_SHM_SIZE_BYTES;
  const pools = (raw['default-address-pools'] as AddressPool[] | undefined) ?? DEFAULT_POOLS;

  const initPath = path('init-path', findInit(env));

  return deepFreeze<Config>({
    dataRoot,
    execRoot,
    instance: names.instance,
    hosts: hosts.map((host) => checkHost(host, `${execRoot}/holdfast.sock`)),
    group: string('group'),
    pidfile: string('pidfile', join(execRoot, 'holdfastd.pid')),
    debug,
    logLevel: debug ? 'debug' : checkLogLevel(string('log-level', 'info')),
    logDriver: oneOf('log-driver', string('log-driver', 'json-file'), LOG_DRIVERS),
    logOpts: map<string>('log-opts'),
    cgroupDriver,
    cgroupParent: checkCgroupParent(string('cgroup-parent'), cgroupDriver, names),
    runtimes,
    defaultRuntime: checkDefaultRuntime(string('default-runtime', 'runc'), runtimes),
    defaultUlimits: checkUlimits(map<Ulimit>('default-ulimits')),
    defaultShmSize: checkBytes('default-shm-size', shmSize),
    registryMirrors: list('registry-mirrors').map(checkMirror),
    insecureRegistries: list('insecure-registries').map(checkInsecureRegistry),
    registryCerts: path('registry-certs', DEFAULT_REGISTRY_CERTS),
    // As in dockerd, 0 means the default.
    maxConcurrentDownloads: atLeast('max-concurrent-downloads', 0, DEFAULT_DOWNLOADS) || DEFAULT_DOWNLOADS,
    maxConcurrentUploads: atLeast('max-concurrent-uploads', 0, DEFAULT_UPLOADS) || DEFAULT_UPLOADS,
    maxDownloadAttempts: atLeast('max-download-attempts', 1, DEFAULT_ATTEMPTS),
    bip: checkBip(string('bip', names.bip)),
    bridge: checkBridge(string('bridge', names.bridge)),
    defaultAddressPools: checkPools(pools),
    dns: list('dns').map((address) => checkIp('dns', address)),
    dnsOptions: list('dns-opts'),
    dnsSearch: list('dns-search').map(checkDomain),
    mtu: atLeast('mtu', 0, DEFAULT_MTU) || DEFAULT_MTU,
    ip: checkPublishAddress(string('ip')),
    iptables: boolean('iptables', true),
    storageDriver: checkStorageDriver(string('storage-driver', 'overlay2')),
    labels: checkLabels(list('labels')),
    features: map<boolean>('features'),
    seccompProfile: checkSeccompProfile(string('seccomp-profile', DEFAULT_SECCOMP_PROFILE)),
    defaultCgroupnsMode: checkMode('default-cgroupns-mode', string('default-cgroupns-mode'), CGROUPNS_MODES),
    defaultIpcMode: checkMode('default-ipc-mode', string('default-ipc-mode', 'private'), IPC_MODES),
    init: boolean('init', false),
    initPath: boolean('init', false) ? required('init-path', initPath) : initPath,
    noNewPrivileges: boolean('no-new-privileges', false),
    shutdownTimeout: atLeast('shutdown-timeout', -1, DEFAULT_SHUTDOWN_TIMEOUT_SECONDS),
    slowClientMs: atLeast('slow-client-timeout', 0, DEFAULT_SLOW_CLIENT_SECONDS) * 1000,
    warmShims: atLeast('warm-shims', 0, DEFAULT_WARM_SHIMS),
    warnings: checkInert(raw),
  });
}

function checkLogLevel(level: string): Config['logLevel'] {
  // Includes the names that only logrus, dockerd's logger, has.
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

/** dockerd's words (cmd/dockerd, daemon/config/config_linux.go). */
function checkMode(key: string, value: string, allowed: readonly string[]): string {
  if (value === '' || allowed.includes(value)) return value;
  const what = key === 'default-ipc-mode' ? 'IPC' : 'cgroup namespace';
  const list = allowed.map((mode) => JSON.stringify(mode)).join(' and ');
  throw new ConfigError(`default ${what} mode (${value}) is invalid. Use one of ${list}`);
}

function required(key: string, value: string): string {
  if (value === '') throw new ConfigError(`${key} is required for init: the host has no ${INIT_PROGRAMS.join(', ')}`);
  return value;
}

/** '' if none is installed. */
const findInit = (env: NodeJS.ProcessEnv): string =>
  INIT_PROGRAMS.map((name) => findProgram(name, env)).find((path) => path !== undefined) ?? '';

/** Warnings about options without effect. @throws ConfigError for one that must not be ignored */
function checkInert(raw: Raw): string[] {
  return options.flatMap(({ key, inert }) => {
    const value = raw[key];
    if (!inert || value === undefined || isDeepStrictEqual(value, inert.actual)) return [];
    if (inert.rejected) throw new ConfigError(`${key} cannot be ${JSON.stringify(value)}: ${inert.reason}`);
    return [`${key} has no effect: ${inert.reason}`];
  });
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    Object.freeze(value);
    Object.values(value).forEach(deepFreeze);
  }
  return value;
}
