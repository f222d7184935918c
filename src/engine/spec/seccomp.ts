/** System call filters: converts profiles of Docker and containers-common to the OCI form. seccomp(2) */
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
  /** Name of an errno (containers-common). */
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

/** Profiles' own names of architectures, by Go's. */
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

/** Checks a profile that the request contains. @throws InvalidParameter */
export function checkSeccomp(hostConfig: Pick<HostConfig, 'SecurityOpt'>, host: Host): void {
  const { seccomp } = securityOptions(hostConfig.SecurityOpt);
  if (seccomp === '' || seccomp === UNCONFINED || seccomp === BUILTIN) return;
  if (!host.seccomp)
    throw new InvalidParameter('seccomp is not enabled in your kernel, cannot run a custom seccomp profile');
  parseProfile(seccomp);
}

/**
 * The filter of a container with these capabilities; undefined = unconfined.
 * @throws SystemFault when the default profile cannot be read, as the container would run unconfined
 */
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
  // A profile that the administrator has chosen is used unchanged.
  return path === DEFAULT_SECCOMP_PROFILE ? withDockersGuards(filter, capabilities, host.architecture) : filter;
}

/** Selects the rules of a profile that apply to these capabilities, this kernel and architecture. */
export function convert(profile: SeccompProfile, capabilities: readonly string[], host: Host): OciSeccomp {
  const applies = ({ includes, excludes }: ProfileSyscall): boolean =>
    holds(includes, 'every', capabilities, host) && !holds(excludes, 'some', capabilities, host);
  return {
    defaultAction: profile.defaultAction,
    ...(profile.defaultErrnoRet != null ? { defaultErrnoRet: profile.defaultErrnoRet } : {}),
    ...architectures(profile, host),
    ...(profile.flags?.length ? { flags: profile.flags } : {}),
    ...(profile.listenerPath ? { listenerPath: profile.listenerPath } : {}),
    ...(profile.listenerMetadata ? { listenerMetadata: profile.listenerMetadata } : {}),
    syscalls: (profile.syscalls ?? []).filter(applies).map(ociRule),
  };
}

/** Whether every (for `includes`) or some (for `excludes`) part of the condition holds. */
function holds(
  condition: Condition | null | undefined,
  quantifier: 'every' | 'some',
  capabilities: readonly string[],
  host: Host,
): boolean {
  const { arches, caps, minKernel } = condition ?? {};
  const parts: boolean[] = [];
  if (arches?.length) parts.push(arches.includes(PROFILE_ARCHITECTURES[host.architecture] ?? host.architecture));
  if (caps?.length) parts.push(caps[quantifier]((name) => capabilities.includes(name)));
  if (minKernel) parts.push(kernelAtLeast(host.kernel, minKernel));
  return parts[quantifier]((part) => part);
}

function ociRule(entry: ProfileSyscall): OciSyscall {
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
      `cannot use the seccomp profile ${path}: ${(error as Error).message} (Debian's package golang-github-containers-common has one; or set seccomp-profile to another path, or to unconfined)`,
    );
  }
}

/** @throws InvalidParameter `Decoding seccomp profile failed: …` */
function parseProfile(text: string): SeccompProfile {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw malformed((error as Error).message);
  }
  if (!isRecord(parsed) || typeof parsed.defaultAction !== 'string') throw malformed('defaultAction is missing');
  for (const field of ['architectures', 'archMap', 'flags', 'syscalls'])
    if (parsed[field] && !Array.isArray(parsed[field])) throw malformed(`${field} is not a list`);
  const profile = parsed as unknown as SeccompProfile;
  if (profile.architectures?.length && profile.archMap?.length) {
    throw malformed(
      "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
    );
  }
  profile.syscalls?.forEach(checkRule);
  return profile;
}

function checkRule(rule: unknown): void {
  if (!isRecord(rule)) throw malformed('malformed system call rule');
  const { name, names, args, includes, excludes, action } = rule as unknown as ProfileSyscall;
  const lists = [names, args, includes?.arches, includes?.caps, excludes?.arches, excludes?.caps];
  if (lists.some((list) => list && !Array.isArray(list))) throw malformed('malformed system call rule');
  if (name && names?.length)
    throw malformed("both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'");
  if (!name && !names?.length) throw malformed("a system call rule without 'names'");
  if (typeof action !== 'string') throw malformed(`the rule for ${name ?? names![0]} has no action`);
}

const malformed = (reason: string): InvalidParameter =>
  new InvalidParameter(`Decoding seccomp profile failed: ${reason}`);

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

function kernelAtLeast(kernel: readonly [number, number], needed: string): boolean {
  const [major = 0, minor = 0] = needed.split('.').map(Number);
  return kernel[0] > major || (kernel[0] === major && kernel[1] >= minor);
}
