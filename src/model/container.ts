/** The record of a container: one row in the store. */
import type { RunState } from '../protocol/runstate.ts';
import type { ContainerConfig, EndpointRequest, HostConfig } from './container-config.ts';

/** Stored before anything else changes: the next daemon finishes or undoes what is not `ready`. */
export type Phase = 'creating' | 'ready' | 'removing' | 'dead';

/** A mount point of a container, resolved at create (Docker's `Mounts` in inspect). */
export interface MountPoint {
  type: 'bind' | 'volume' | 'tmpfs';
  /** Volume name; '' for others. */
  name: string;
  /** Host path; '' for tmpfs. */
  source: string;
  destination: string;
  driver: string;
  mode: string;
  rw: boolean;
  propagation: string;
  /** A volume created without a name for this container: `rm -v` removes it. */
  anonymous?: true;
  /** The directory in the volume that is mounted; absent = all of it. */
  subpath?: string;
  /** Read-only, but not the mounts below its source: of a client before API 1.44. */
  readOnlyNonRecursive?: true;
}

/** A container's endpoint on one network. Addresses are '' while it does not run. */
export interface Endpoint {
  network: string;
  networkId: string;
  request: EndpointRequest;
  endpointId: string;
  gateway: string;
  ipAddress: string;
  ipPrefixLen: number;
  ipv6Gateway: string;
  globalIPv6Address: string;
  globalIPv6PrefixLen: number;
  macAddress: string;
  dnsNames: string[];
}

/** A published port that is bound. */
export interface BoundPort {
  containerPort: number;
  protocol: 'tcp' | 'udp' | 'sctp';
  hostIp: string;
  hostPort: number;
}

export interface Container {
  id: string;
  /** Without the slash. */
  name: string;
  phase: Phase;
  /** Wall ns, decimal string. */
  created: string;
  /** sha256:… */
  imageId: string;
  config: ContainerConfig;
  hostConfig: HostConfig;
  /** argv[0] and the rest, entrypoint and command joined. */
  path: string;
  args: string[];
  mounts: MountPoint[];
  /** By network name, in order of creation. */
  endpoints: Record<string, Endpoint>;
  ports: BoundPort[];
  /** '' unless it has a network namespace of its own that is pinned. */
  netns: string;
  state: RunState;
  /** Journal records up to here are in `state` and in the events. */
  cursor: number;
  /** Docker's AppArmorProfile; '' where the host has none. */
  appArmorProfile: string;
  platform: 'linux';
  /** Why nearly all of this record is lost: its row cannot be read, or is missing. It can be stopped and removed. */
  damaged?: string;
  /** Of a damaged container: text that names its volumes, as far as any is left. */
  lostMounts?: string;
}
