/** AppArmor profiles. apparmor(7) */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { SystemFault } from '../../model/errors.ts';
import type { HostConfig } from '../../model/container-config.ts';
import { securityOptions } from './security-options.ts';

/** Docker's name: tools look for it, and a dockerd on the same host loads equal rules under it. */
export const DEFAULT_PROFILE = 'docker-default';
export const UNCONFINED = 'unconfined';

const PARSER = '/sbin/apparmor_parser';
const LOADED = '/sys/kernel/security/apparmor/profiles';

/** Docker's condition: AppArmor is enabled in the kernel, and there is a parser to load profiles. */
export function hostHasAppArmor(): boolean {
  try {
    return (
      readFileSync('/sys/module/apparmor/parameters/enabled', 'latin1').startsWith('Y') &&
      existsSync(PARSER) &&
      existsSync(LOADED)
    );
  } catch {
    return false;
  }
}

/** The profile that a container runs under; '' on a host without AppArmor. */
export function profileOf(hostConfig: Pick<HostConfig, 'SecurityOpt' | 'Privileged'>): string {
  if (!hostHasAppArmor()) return '';
  return securityOptions(hostConfig.SecurityOpt).apparmor || (hostConfig.Privileged ? UNCONFINED : DEFAULT_PROFILE);
}

/**
 * Loads Docker's default profile if it is missing: upgrades and reloads of AppArmor unload it. Does nothing for others.
 * @throws SystemFault when that fails, as the container would run unconfined
 */
export function ensureProfile(name: string): void {
  if (name !== DEFAULT_PROFILE || isDefaultLoaded()) return;
  const loaded = spawnSync(PARSER, ['-Kr'], { input: profileText(), encoding: 'utf8' });
  if (loaded.status !== 0)
    throw new SystemFault(
      `AppArmor enabled on system but the ${DEFAULT_PROFILE} profile could not be loaded: ${loaded.stderr || loaded.error?.message}`,
    );
}

const isDefaultLoaded = (): boolean =>
  readFileSync(LOADED, 'utf8')
    .split('\n')
    .some((line) => line.startsWith(`${DEFAULT_PROFILE} `));

/**
 * The rules of Docker's default profile: no mounts, no writes to kernel files, no signals to or tracing of processes
 * outside of containers.
 */
function profileText(): string {
  const tunables = existsSync('/etc/apparmor.d/tunables/global') ? '#include <tunables/global>' : '@{PROC}=/proc/';
  const base = existsSync('/etc/apparmor.d/abstractions/base') ? '#include <abstractions/base>' : '';
  return `${tunables}

profile ${DEFAULT_PROFILE} flags=(attach_disconnected,mediate_deleted) {
  ${base}
  file,
  network,
  deny network alg,
  capability,
  umount,
  deny mount,

  # Container processes may signal and trace one another; the host and the runtimes may signal them.
  signal (send,receive) peer=${DEFAULT_PROFILE},
  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  ptrace (trace,read,tracedby,readby) peer=${DEFAULT_PROFILE},

  # In /proc only the processes' directories and sys/kernel/sh* are writable.
  deny @{PROC}/[a-z]* w,
  deny @{PROC}/{acpi,asound,bus,driver,fs,irq,scsi,tty}/** w,
  deny @{PROC}/sys/{abi,crypto,debug,dev,fs,net,sunrpc,user,vm}/** w,
  deny @{PROC}/sys/kernel/{[a-r]*,s[a-g]*,s[i-z]*,[t-z]*} w,
  deny @{PROC}/sys/kernel/*/** w,
  deny @{PROC}/{sysrq-trigger,kcore,kmem,mem} rwklx,

  # In /sys only the cgroups are writable.
  deny /sys/{block,bus,class,dev,devices,hypervisor,kernel,module,power}/** wklx,
  deny /sys/fs/{bpf,btrfs,ext4,f2fs,fuse,nfs,pstore,resctrl,selinux,smackfs,xfs}/** wklx,
  deny /sys/{firmware,kernel/security,devices/virtual/powercap}/** rwklx,
}
`;
}
