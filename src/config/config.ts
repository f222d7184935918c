/** The daemon's configuration, read at start-up from flags, environment and daemon.json. */
import type { Ulimit } from '../model/container-config.ts';

/** From containers-common; equivalent to Docker's built-in profile with engine/spec/seccomp-guards.ts applied. */
export const DEFAULT_SECCOMP_PROFILE = '/usr/share/containers/seccomp.json';

export interface RuntimeConfig {
  path: string;
  args: string[];
}

export interface AddressPool {
  base: string;
  size: number;
}

export interface Config {
  readonly dataRoot: string;
  readonly execRoot: string;
  /** Part of host-wide names (nft tables, chains): '' on the default roots, else eight hex digits. */
  readonly instance: string;
  /** unix:///PATH or fd://; at least one. */
  readonly hosts: readonly string[];
  /** Group of the API socket, by name or number; '' for root's. */
  readonly group: string;
  readonly pidfile: string;
  readonly debug: boolean;
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error' | 'fatal';
  /** Default log driver of containers and its options. */
  readonly logDriver: string;
  readonly logOpts: Readonly<Record<string, string>>;
  readonly cgroupDriver: 'cgroupfs' | 'systemd';
  /** Parent of the containers' cgroups: a path, or a slice under the systemd driver. Derived from non-default roots. */
  readonly cgroupParent: string;
  readonly runtimes: Readonly<Record<string, RuntimeConfig>>;
  readonly defaultRuntime: string;
  readonly defaultUlimits: Readonly<Record<string, Ulimit>>;
  readonly defaultShmSize: number;
  readonly registryMirrors: readonly string[];
  readonly insecureRegistries: readonly string[];
  /** Directory with a subdirectory HOST[:PORT] for each registry with its own certificates. */
  readonly registryCerts: string;
  readonly maxConcurrentDownloads: number;
  readonly maxConcurrentUploads: number;
  readonly maxDownloadAttempts: number;
  /** Address and prefix of the default bridge, e.g. 10.77.0.1/16. */
  readonly bip: string;
  /** Interface name of the default bridge. Derived from non-default roots. */
  readonly bridge: string;
  readonly defaultAddressPools: readonly AddressPool[];
  readonly dns: readonly string[];
  readonly dnsOptions: readonly string[];
  readonly dnsSearch: readonly string[];
  readonly mtu: number;
  /** Default host address of published ports; '' for all. */
  readonly ip: string;
  readonly iptables: boolean;
  readonly storageDriver: string;
  readonly labels: readonly string[];
  readonly features: Readonly<Record<string, boolean>>;
  /** Path of the default seccomp profile (containers-common format) or 'unconfined'. */
  readonly seccompProfile: string;
  /** '' for Docker's default: private with cgroup v2, else host. */
  readonly defaultCgroupnsMode: string;
  readonly defaultIpcMode: string;
  /** Whether containers have an init by default. */
  readonly init: boolean;
  /** '' if the host has none. */
  readonly initPath: string;
  readonly noNewPrivileges: boolean;
  /** Seconds for a container to stop at host shutdown; -1 for no limit. */
  readonly shutdownTimeout: number;
  /** Milliseconds after which a client that reads nothing is disconnected; 0 for never. */
  readonly slowClientMs: number;
  /** Number of idle shims kept ready for new containers. */
  readonly warmShims: number;
  /** Options without effect, for the log and docker info. */
  readonly warnings: readonly string[];
}
