/**
 * Docker's guards on top of the seccomp profile of containers-common.
 *
 * That profile is made for podman, whose containers often run in a user namespace, so it allows unshare, mount, clone
 * with namespaces, keyrings and more to every process. Docker's profile (github.com/moby/profiles,
 * seccomp/default_linux.go) allows these only with capabilities, or never: they give an unprivileged process, through a
 * user namespace of its own, access to kernel code that only root should reach. For each system call named here,
 * Docker's rule replaces those of the profile.
 *
 * Calls without a rule get EPERM, as in Docker's profile, so rules that only say that are dropped: the runtime compiles
 * the filter for every process it starts, in time that grows with the number of rules. Calls newer than the newest one
 * named in the filter get ENOSYS all the same, for the fallbacks of C libraries (runc, libcontainer/seccomp/patchbpf).
 */
import { constants } from 'node:os';
import type { OciSeccomp, OciSyscall } from './oci.ts';

const ALLOW = 'SCMP_ACT_ALLOW';
const ERRNO = 'SCMP_ACT_ERRNO';
const { EPERM, ENOSYS } = constants.errno;

/** System calls that need one of the capabilities; without capabilities they are never allowed. */
const GUARDS: readonly [caps: readonly string[], names: readonly string[]][] = [
  [
    ['CAP_SYS_ADMIN'],
    [
      'fanotify_init',
      'fsconfig',
      'fsmount',
      'fsopen',
      'fspick',
      'lookup_dcookie',
      'lsm_get_self_attr',
      'lsm_list_modules',
      'lsm_set_self_attr',
      'mount',
      'mount_setattr',
      'move_mount',
      'open_tree',
      'quotactl',
      'quotactl_fd',
      'setdomainname',
      'sethostname',
      'setns',
      'umount',
      'umount2',
      'unshare',
    ],
  ],
  [['CAP_SYS_ADMIN', 'CAP_BPF'], ['bpf']],
  [['CAP_SYS_ADMIN', 'CAP_PERFMON'], ['perf_event_open']],
  [['CAP_SYS_ADMIN', 'CAP_SYSLOG'], ['syslog']],
  [['CAP_SYS_BOOT'], ['reboot']],
  [['CAP_SYS_NICE'], ['get_mempolicy', 'mbind', 'set_mempolicy', 'set_mempolicy_home_node']],
  [['CAP_SYS_PTRACE'], ['kcmp', 'pidfd_getfd', 'process_madvise']],
  // Keyrings are not namespaced; moby 25 removed io_uring because of its history of container escapes.
  [[], ['add_key', 'io_uring_enter', 'io_uring_register', 'io_uring_setup', 'keyctl', 'pivot_root', 'request_key']],
];

/** Allowed by Docker to every process; missing in the older profile, or restricted there. */
const ALLOWED: readonly string[] = [
  'cachestat',
  'fchmodat2',
  'futex_requeue',
  'futex_wait',
  'futex_waitv',
  'futex_wake',
  'getxattrat',
  'io_pgetevents',
  'io_pgetevents_time64',
  'listmount',
  'listxattrat',
  'map_shadow_stack',
  'mseal',
  'removexattrat',
  'setxattrat',
  'statmount',
  'uretprobe',
  'vmsplice',
];

/** clone(2): CLONE_NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET and NEWNS. */
const NAMESPACE_FLAGS = 0x0200_0000 + 0x0400_0000 + 0x0800_0000 + 0x1000_0000 + 0x2000_0000 + 0x4000_0000 + 0x0002_0000;

/** The kernel's crypto API: needed by no container, and the way into CVE-2026-31431 (moby #52494). */
const AF_ALG = 38;
/** vsock(7) reaches the hypervisor from any network namespace. */
const AF_VSOCK = 40;

const REPLACED = new Set([...GUARDS.flatMap(([, names]) => names), ...ALLOWED, 'clone', 'clone3', 'socket']);

/** The filter with Docker's guards in place of its own rules for the same system calls. */
export function withDockersGuards(
  filter: OciSeccomp,
  capabilities: readonly string[],
  architecture: string,
): OciSeccomp {
  const otherRules = filter.syscalls
    .map((rule) => ({ ...rule, names: rule.names.filter((name) => !REPLACED.has(name)) }))
    .filter((rule) => rule.names.length > 0);
  const has = (caps: readonly string[]): boolean => caps.some((name) => capabilities.includes(name));
  const guards = GUARDS.filter(([caps]) => has(caps)).map(([, names]) => allow([...names]));
  const rules = [
    ...otherRules,
    ...guards,
    allow([...ALLOWED]),
    ...cloneRules(has(['CAP_SYS_ADMIN']), architecture),
    ...SOCKET_RULES,
  ];
  const isDefault = ({ action, errnoRet = EPERM }: OciSyscall): boolean => action === ERRNO && errnoRet === EPERM;
  // A default refusal still matters for a call that another rule allows for some arguments.
  const conditional = new Set(rules.filter((rule) => !isDefault(rule)).flatMap(({ names }) => names));
  const { defaultErrnoRet: _, ...rest } = filter;
  return {
    ...rest,
    defaultAction: ERRNO,
    syscalls: rules.filter((rule) => !isDefault(rule) || rule.names.some((name) => conditional.has(name))),
  };
}

/**
 * New namespaces need CAP_SYS_ADMIN. A filter cannot read clone3's flags, which are in memory, so it gets ENOSYS and C
 * libraries fall back to clone.
 */
function cloneRules(mayUnshare: boolean, architecture: string): OciSyscall[] {
  if (mayUnshare) return [allow(['clone', 'clone3'])];
  const index = architecture === 's390x' ? 1 : 0;
  return [
    { ...allow(['clone']), args: [{ index, value: NAMESPACE_FLAGS, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }] },
    { names: ['clone3'], action: ERRNO, errnoRet: ENOSYS },
  ];
}

/** All address families but AF_ALG and AF_VSOCK: rules of one call are alternatives, so each names a range. */
const SOCKET_RULES: OciSyscall[] = [
  { ...allow(['socket']), args: [{ index: 0, value: AF_ALG, op: 'SCMP_CMP_LT' }] },
  { ...allow(['socket']), args: [{ index: 0, value: AF_ALG + 1, op: 'SCMP_CMP_EQ' }] },
  { ...allow(['socket']), args: [{ index: 0, value: AF_VSOCK, op: 'SCMP_CMP_GT' }] },
];

function allow(names: string[]): OciSyscall {
  return { names, action: ALLOW };
}
