/** The daemon's configuration, read once at start from flags, environment and daemon.json. */
import type { Ulimit } from '../model/container-config.ts';

/** Docker's own profile in effect: the data of containers-common under its guards (engine/spec/seccomp-guards.ts). */
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
  /**
   * Tells daemons on one host apart in names that are global (nft tables, chains): '' on the default roots, else eight
   * hex digits.
   */
  readonly instance: string;
  /** unix:///path or fd://; at least one. */
  readonly hosts: readonly string[];
  /** Group of the API socket, by name or number; '' = root's. */
  readonly group: string;
  readonly pidfile: string;
  readonly debug: boolean;
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error' | 'fatal';
  /** Default log driver of containers and its options. */
  readonly logDriver: string;
  readonly logOpts: Readonly<Record<string, string>>;
  readonly cgroupDriver: 'cgroupfs' | 'systemd';
  /**
   * Parent of the containers' cgroups: /holdfast, or a slice (holdfast.slice) under the systemd driver; derived from
   * the roots where they are not the default.
   */
  readonly cgroupParent: string;
  readonly runtimes: Readonly<Record<string, RuntimeConfig>>;
  readonly defaultRuntime: string;
  readonly defaultUlimits: Readonly<Record<string, Ulimit>>;
  readonly defaultShmSize: number;
  readonly registryMirrors: readonly string[];
  readonly insecureRegistries: readonly string[];
  /** Has a directory for each registry that has certificates of its own. */
  readonly registryCerts: string;
  readonly maxConcurrentDownloads: number;
  readonly maxConcurrentUploads: number;
  readonly maxDownloadAttempts: number;
  /** Address and prefix of the default bridge, e.g. 10.77.0.1/16. */
  readonly bip: string;
  /** Name of the default bridge's link; derived from the roots where they are not the default. */
  readonly bridge: string;
  readonly defaultAddressPools: readonly AddressPool[];
  readonly dns: readonly string[];
  readonly dnsOptions: readonly string[];
  readonly dnsSearch: readonly string[];
  readonly mtu: number;
  /** Default host address of published ports, '' = all. */
  readonly ip: string;
  readonly iptables: boolean;
  readonly storageDriver: string;
  readonly labels: readonly string[];
  readonly features: Readonly<Record<string, boolean>>;
  /** Path of the default seccomp profile (containers-common format) or 'unconfined'. */
  readonly seccompProfile: string;
  /** '' where the host has none. */
  readonly initPath: string;
  readonly noNewPrivileges: boolean;
  /** Seconds a container gets to stop when the host shuts down. */
  readonly shutdownTimeout: number;
  /** Milliseconds after which a client that accepts no byte is dropped; 0 = never. */
  readonly slowClientMs: number;
  /** Warm, anonymous shims kept ready. */
  readonly warmShims: number;
  /** What was accepted but means nothing here, for the log. */
  readonly warnings: readonly string[];
}
