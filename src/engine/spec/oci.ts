/** The part of the OCI runtime specification that we use. github.com/opencontainers/runtime-spec */
import type { Int64 } from '../../model/container-config.ts';

export interface OciMount {
  destination: string;
  type: string;
  source: string;
  options: string[];
}

export interface OciNamespace {
  type: 'mount' | 'network' | 'uts' | 'pid' | 'ipc' | 'cgroup' | 'user';
  path?: string;
}

export interface OciDevice {
  path: string;
  type: 'c' | 'b';
  major: number;
  minor: number;
  fileMode: number;
  uid: number;
  gid: number;
}

export interface OciDeviceRule {
  allow: boolean;
  type?: 'a' | 'b' | 'c';
  major?: number;
  minor?: number;
  access: string;
}

interface OciThrottle {
  major: number;
  minor: number;
  rate: Int64;
}

/** Also the input of `runtime update --resources -`. */
export interface OciResources {
  devices?: OciDeviceRule[];
  memory?: { limit?: Int64; reservation?: Int64; swap?: Int64; swappiness?: number; disableOOMKiller?: boolean };
  cpu?: {
    shares?: Int64;
    quota?: Int64;
    period?: number;
    cpus?: string;
    mems?: string;
  };
  pids?: { limit: Int64 };
  blockIO?: {
    weight?: number;
    weightDevice?: { major: number; minor: number; weight: number }[];
    throttleReadBpsDevice?: OciThrottle[];
    throttleWriteBpsDevice?: OciThrottle[];
    throttleReadIOPSDevice?: OciThrottle[];
    throttleWriteIOPSDevice?: OciThrottle[];
  };
}

export interface OciSyscall {
  names: string[];
  action: string;
  errnoRet?: number;
  args?: { index: number; value: number; valueTwo?: number; op: string }[];
}

export interface OciSeccomp {
  defaultAction: string;
  defaultErrnoRet?: number;
  architectures?: string[];
  flags?: string[];
  listenerPath?: string;
  listenerMetadata?: string;
  syscalls: OciSyscall[];
}

export interface OciCapabilities {
  bounding: string[];
  effective?: string[];
  permitted?: string[];
}

export interface OciRlimit {
  type: string;
  soft: Int64;
  hard: Int64;
}

export interface OciProcess {
  terminal: boolean;
  consoleSize?: { height: number; width: number };
  user: { uid: number; gid: number; additionalGids: number[] };
  args: string[];
  env: string[];
  cwd: string;
  capabilities: OciCapabilities;
  rlimits?: OciRlimit[];
  noNewPrivileges: boolean;
  apparmorProfile?: string;
  oomScoreAdj: number;
}

export interface OciSpec {
  ociVersion: string;
  root: { path: string; readonly: boolean };
  hostname?: string;
  process: OciProcess;
  mounts: OciMount[];
  annotations?: Record<string, string>;
  linux: {
    namespaces: OciNamespace[];
    devices: OciDevice[];
    cgroupsPath: string;
    resources: OciResources;
    sysctl?: Record<string, string>;
    seccomp?: OciSeccomp;
    rootfsPropagation?: string;
    maskedPaths?: string[];
    readonlyPaths?: string[];
  };
}
