/** System call filters: profiles of Docker's and containers-common's form become what the runtime takes. seccomp(2) */
import { readFileSync, statSync } from 'node:fs';
import { constants } from 'node:os';
import { DEFAULT_SECCOMP_PROFILE } from '../../config/config.ts';
import { InvalidParameter, SystemFault } from '../../model/errors.ts';
import type { HostConfig } from '../../model/container-config.ts';
import type { Host } from './host.ts';
import type { OciSeccomp, OciSyscall } from './oci.ts';
import { withDockersGuards } from './seccomp-guards.ts';
import { securityOptions } from './security-options.ts';

const UNCONFINED = 'unconfined';
const BUILTIN = 'builtin';

interface Condition {
  arches?: string[] | null;
  caps?: string[] | null;
  minKernel?: string | null;
}

interface ProfileSyscall {
  name?: string;
  names?: string[] | null;
  action: string;
  args?: OciSyscall['args'] | null;
  errnoRet?: number | null;
  /** An errno's name (containers-common). */
  errno?: string;
  includes?: Condition | null;
  excludes?: Condition | null;
}

export interface SeccompProfile {
  defaultAction: string;
  defaultErrnoRet?: number | null;
  architectures?: string[] | null;
  archMap?: { architecture: string; subArchitectures?: string[] | null }[] | null;
  flags?: string[] | null;
  listenerPath?: string;
  listenerMetadata?: string;
  syscalls?: ProfileSyscall[] | null;
}

/** Profiles name the x86 pair otherwise than Node and the kernel do. */
const PROFILE_ARCHITECTURES: Readonly<Record<string, string>> = { '386': 'x86' };

const SECCOMP_ARCHITECTURES: Readonly<Record<string, string>> = {
  amd64: 'SCMP_ARCH_X86_64',
  '386': 'SCMP_ARCH_X86',
  arm64: 'SCMP_ARCH_AARCH64',
  arm: 'SCMP_ARCH_ARM',
  ppc64: 'SCMP_ARCH_PPC64LE',
  s390x: 'SCMP_ARCH_S390X',
  riscv64: 'SCMP_ARCH_RISCV64',
  mipsle: 'SCMP_ARCH_MIPSEL',
  loong64: 'SCMP_ARCH_LOONGARCH64',
};

/** A profile that comes with a request must be one. @throws InvalidParameter */
export function checkSeccomp(hostConfig: Pick<HostConfig, 'SecurityOpt'>, host: Host): void {
  const { seccomp } = securityOptions(hostConfig.SecurityOpt);
  if (seccomp === '' || seccomp === UNCONFINED || seccomp === BUILTIN) return;
  if (!host.seccomp)
    throw new InvalidParameter('seccomp is not enabled in your kernel, cannot run a custom seccomp profile');
  parseProfile(seccomp);
}

/** The filter of a container with these capabilities; undefined = none.
 *  @throws SystemFault when the default profile cannot be read: nobody runs unconfined by accident */
export function seccompFilter(
  hostConfig: Pick<HostConfig, 'SecurityOpt' | 'Privileged'>,
  defaultProfile: string,
  capabilities: readonly string[],
  host: Host,
): OciSeccomp | undefined {
  const { seccomp } = securityOptions(hostConfig.SecurityOpt);
  if (!host.seccomp || seccomp === UNCONFINED) return undefined;
  if (seccomp !== '' && seccomp !== BUILTIN) return convert(parseProfile(seccomp), capabilities, host);
  if (hostConfig.Privileged || (seccomp === '' && defaultProfile === UNCONFINED)) return undefined;
  const path = seccomp === BUILTIN ? DEFAULT_SECCOMP_PROFILE : defaultProfile;
  const filter = convert(readProfile(path), capabilities, host);
  // A profile that somebody chose for this daemon is what they say it is.
  return path === DEFAULT_SECCOMP_PROFILE ? withDockersGuards(filter, capabilities, host.architecture) : filter;
}

/** What of a profile applies to these capabilities, this kernel and machine. */
export function convert(profile: SeccompProfile, capabilities: readonly string[], host: Host): OciSeccomp {
  const holds = (condition: Condition | null | undefined, join: 'every' | 'some'): boolean => {
    const parts = [
      condition?.arches?.length
        ? condition.arches.includes(PROFILE_ARCHITECTURES[host.architecture] ?? host.architecture)
        : undefined,
      condition?.caps?.length ? condition.caps[join]((name) => capabilities.includes(name)) : undefined,
      condition?.minKernel ? kernelAtLeast(host.kernel, condition.minKernel) : undefined,
    ].filter((part) => part !== undefined);
    return parts[join]((part) => part);
  };
  const applies = (rule: ProfileSyscall): boolean => holds(rule.includes, 'every') && !holds(rule.excludes, 'some');
  return {
    defaultAction: profile.defaultAction,
    ...(profile.defaultErrnoRet != null ? { defaultErrnoRet: profile.defaultErrnoRet } : {}),
    ...architectures(profile, host),
    ...(profile.flags?.length ? { flags: profile.flags } : {}),
    ...(profile.listenerPath ? { listenerPath: profile.listenerPath } : {}),
    ...(profile.listenerMetadata ? { listenerMetadata: profile.listenerMetadata } : {}),
    syscalls: (profile.syscalls ?? []).filter(applies).map(rule),
  };
}

function rule(entry: ProfileSyscall): OciSyscall {
  const errno = entry.errnoRet ?? (entry.errno ? (constants.errno as Record<string, number>)[entry.errno] : undefined);
  return {
    names: entry.names?.length ? entry.names : [entry.name!],
    action: entry.action,
    ...(errno !== undefined ? { errnoRet: errno } : {}),
    ...(entry.args?.length ? { args: entry.args } : {}),
  };
}

function architectures(profile: SeccompProfile, host: Host): Pick<OciSeccomp, 'architectures'> {
  if (profile.architectures?.length) return { architectures: profile.architectures };
  const own = profile.archMap?.find((entry) => entry.architecture === SECCOMP_ARCHITECTURES[host.architecture]);
  return own ? { architectures: [own.architecture, ...(own.subArchitectures ?? [])] } : {};
}

let cached: { path: string; modified: number; profile: SeccompProfile } | undefined;

function readProfile(path: string): SeccompProfile {
  try {
    const modified = statSync(path).mtimeMs;
    if (cached?.path !== path || cached.modified !== modified)
      cached = { path, modified, profile: parseProfile(readFileSync(path, 'utf8')) };
    return cached.profile;
  } catch (error) {
    throw new SystemFault(
      `the seccomp profile ${path} cannot be used: ${(error as Error).message} (Debian has one in golang-github-containers-common; seccomp-profile names another, or unconfined)`,
    );
  }
}

function parseProfile(text: string): SeccompProfile {
  const refused = (why: string): InvalidParameter => new InvalidParameter(`Decoding seccomp profile failed: ${why}`);
  let profile: SeccompProfile;
  try {
    profile = JSON.parse(text) as SeccompProfile;
  } catch (error) {
    throw refused((error as Error).message);
  }
  if (typeof profile !== 'object' || profile === null || typeof profile.defaultAction !== 'string')
    throw refused('defaultAction is missing');
  for (const list of ['architectures', 'archMap', 'flags', 'syscalls'] as const)
    if (profile[list] && !Array.isArray(profile[list])) throw refused(`${list} is no list`);
  if (profile.architectures?.length && profile.archMap?.length) {
    throw refused(
      "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
    );
  }
  for (const entry of profile.syscalls ?? []) {
    const lists = [
      entry?.names,
      entry?.args,
      ...[entry?.includes, entry?.excludes].flatMap((condition) => [condition?.arches, condition?.caps]),
    ];
    if (typeof entry !== 'object' || entry === null || lists.some((list) => list && !Array.isArray(list)))
      throw refused('a system call rule of another form');
    if (entry.name && entry.names?.length)
      throw refused("both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'");
    if (!entry.name && !entry.names?.length) throw refused("a system call rule without 'names'");
    if (typeof entry.action !== 'string') throw refused(`the rule for ${entry.name ?? entry.names![0]} has no action`);
  }
  return profile;
}

function kernelAtLeast(kernel: readonly [number, number], needed: string): boolean {
  const [major = 0, minor = 0] = needed.split('.').map(Number);
  return kernel[0] > major || (kernel[0] === major && kernel[1] >= minor);
}
