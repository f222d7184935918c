/** Paths below the data root and the exec root. Short, as a unix socket's path is limited to 107 bytes (unix(7)). */
import { join } from 'node:path';

/** Characters of an id in a path: 64 bits, unique on one host. */
const SHORT_ID = 16;

export class Paths {
  constructor(
    readonly dataRoot: string,
    readonly execRoot: string,
  ) {}

  readonly database = (): string => join(this.dataRoot, 'holdfast.db');
  readonly dataLock = (): string => join(this.dataRoot, 'lock');
  readonly execLock = (): string => join(this.execRoot, 'lock');
  /** Shim bundles, by content hash. */
  readonly shimBundles = (): string => join(this.dataRoot, 'shims');
  readonly images = (): string => join(this.dataRoot, 'images');
  readonly volumes = (): string => join(this.dataRoot, 'volumes');
  readonly containers = (): string => join(this.dataRoot, 'containers');
  /** spec.json, lock, journal, log, hosts, resolv.conf, hostname, upper, work. Survives a reboot. */
  readonly container = (id: string): string => join(this.containers(), id);
  /** Control socket, FIFOs, the OCI bundle with config.json and rootfs. On a tmpfs: a reboot deletes it. */
  readonly runs = (): string => join(this.execRoot, 'c');
  readonly run = (id: string): string => join(this.runs(), id.slice(0, SHORT_ID));
  readonly rootfs = (id: string): string => join(this.run(id), 'rootfs');
  readonly subpaths = (id: string): string => join(this.run(id), 'subpaths');
  /**
   * Bind mount of the volume subpath of mount point `index`: another container that writes to the volume cannot swap
   * it for a symbolic link before the runtime mounts it.
   */
  readonly subpath = (id: string, index: number): string => join(this.subpaths(id), String(index));
  readonly netns = (id: string): string => join(this.execRoot, 'netns', id.slice(0, SHORT_ID));
  /** Whether this host forwarded before the daemon. */
  readonly forwarding = (): string => join(this.execRoot, 'forwarding.json');
  readonly runtimeRoot = (runtime: string): string => join(this.execRoot, 'oci', runtime);
  /** The files of the DNS server (networks/dns/tables.ts). */
  readonly dns = (): string => join(this.execRoot, 'dns');
  /** The directory of aardvark-dns, which earlier releases used. */
  readonly aardvark = (): string => join(this.execRoot, 'names');
}
