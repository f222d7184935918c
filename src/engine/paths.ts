/** Where everything lies under the two roots. The names are short: a unix socket's path ends at 107 bytes. */
import { join } from 'node:path';

/** Enough of an id to be unique on one host (64 bits), short enough for socket paths. */
const SHORT = 16;

export class Paths {
  constructor(
    readonly dataRoot: string,
    readonly execRoot: string,
  ) {}

  readonly database = (): string => join(this.dataRoot, 'holdfast.db');
  readonly dataLock = (): string => join(this.dataRoot, 'lock');
  readonly execLock = (): string => join(this.execRoot, 'lock');
  /** Bundles of the shim, by content hash. */
  readonly shimBundles = (): string => join(this.dataRoot, 'shims');
  readonly images = (): string => join(this.dataRoot, 'images');
  readonly volumes = (): string => join(this.dataRoot, 'volumes');
  readonly containers = (): string => join(this.dataRoot, 'containers');
  /** Config, spec.json, lock, journal, log, hosts, resolv.conf, hostname, upper, work. Survives reboot. */
  readonly container = (id: string): string => join(this.containers(), id);
  /** ctl, fd, FIFOs, bundle config.json, rootfs mount point. Dies with the host. */
  readonly runs = (): string => join(this.execRoot, 'c');
  readonly run = (id: string): string => join(this.runs(), id.slice(0, SHORT));
  readonly rootfs = (id: string): string => join(this.run(id), 'rootfs');
  /**
   * Where the part of a volume that mount point `index` names is bound, so that nobody can swap it while the runtime
   * mounts it.
   */
  readonly subpath = (id: string, index: number): string => join(this.run(id), 'subpaths', String(index));
  readonly netns = (id: string): string => join(this.execRoot, 'netns', id.slice(0, SHORT));
  readonly runtimeRoot = (runtime: string): string => join(this.execRoot, 'oci', runtime);
  /** The tables of aardvark-dns. */
  readonly dns = (): string => join(this.execRoot, 'names');
}
