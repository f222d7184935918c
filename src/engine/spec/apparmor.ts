/** AppArmor profiles, on hosts that have AppArmor. apparmor(7) */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { SystemFault } from '../../model/errors.ts';
import type { HostConfig } from '../../model/container-config.ts';
import { securityOptions } from './security-options.ts';

/** Docker's name: tools look for it, and a dockerd beside us has the same rules under it. */
export const DEFAULT_PROFILE = 'docker-default';
export const UNCONFINED = 'unconfined';

const PARSER = '/sbin/apparmor_parser';
const LOADED = '/sys/kernel/security/apparmor/profiles';

/** Docker's condition: enabled in the kernel, and a parser to load profiles with. */
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

/** The profile a container runs under; '' where the host has no AppArmor. */
export function profileOf(hostConfig: Pick<HostConfig, 'SecurityOpt' | 'Privileged'>): string {
  if (!hostHasAppArmor()) return '';
  return securityOptions(hostConfig.SecurityOpt).apparmor || (hostConfig.Privileged ? UNCONFINED : DEFAULT_PROFILE);
}

/** Profiles get unloaded by package upgrades and reloads: Docker's default one is put back when it is missing.
 *  @throws SystemFault when that fails: nobody runs less confined than was said */
export function ensureProfile(name: string): void {
  if (
    name !== DEFAULT_PROFILE ||
    readFileSync(LOADED, 'utf8')
      .split('\n')
      .some((line) => line.startsWith(`${DEFAULT_PROFILE} `))
  )
    return;
  const loaded = spawnSync(PARSER, ['-Kr'], { input: profileText(), encoding: 'utf8' });
  if (loaded.status !== 0)
    throw new SystemFault(
      `AppArmor enabled on system but the ${DEFAULT_PROFILE} profile could not be loaded: ${loaded.stderr || loaded.error?.message}`,
    );
}

/**
 * Docker's rules in our words: everything but mounts, writes to the kernel's own files, and signals or tracing across
 * the border.
 */
function profileText(): string {
  const tunables = existsSync('/etc/apparmor.d/tunables/global') ? '#include <tunables/global>' : '@{PROC}=/proc/';
  const base = existsSync('/etc/apparmor.d/abstractions/base') ? '#include <abstractions/base>' : '';
  return `${tunables}

profile ${DEFAULT_PROFILE} flags=(attach_disconnected,mediate_deleted) {
  ${base}
  file,
  network,
  capability,
  umount,
  deny mount,

  # Processes of containers may signal and trace one another; the host and the runtimes may signal them.
  signal (send,receive) peer=${DEFAULT_PROFILE},
  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  ptrace (trace,read,tracedby,readby) peer=${DEFAULT_PROFILE},

  # Of /proc only the processes' own directories, and kernel.sh* below sys.
  deny @{PROC}/[a-z]* w,
  deny @{PROC}/{acpi,asound,bus,driver,fs,irq,scsi,tty}/** w,
  deny @{PROC}/sys/{abi,crypto,debug,dev,fs,net,sunrpc,user,vm}/** w,
  deny @{PROC}/sys/kernel/{[a-r]*,s[a-g]*,s[i-z]*,[t-z]*} w,
  deny @{PROC}/sys/kernel/*/** w,
  deny @{PROC}/{sysrq-trigger,kcore,kmem,mem} rwklx,

  # Of /sys only the cgroups.
  deny /sys/{block,bus,class,dev,devices,hypervisor,kernel,module,power}/** wklx,
  deny /sys/fs/{bpf,btrfs,ext4,f2fs,fuse,nfs,pstore,resctrl,selinux,smackfs,xfs}/** wklx,
  deny /sys/{firmware,kernel/security,devices/virtual/powercap}/** rwklx,
}
`;
}
