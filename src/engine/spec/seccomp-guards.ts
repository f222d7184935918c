/**
 * The guards of Docker's default seccomp profile, put on top of containers-common's data.
 *
 * That data is podman's: its containers often live in a user namespace, so it lets everybody unshare, mount and clone
 * namespaces, use the kernel's keyrings and so on. Docker's profile (github.com/moby/profiles,
 * seccomp/default_linux.go) has
 * these calls behind capabilities or not at all: with them a process without privileges reaches, through a user
 * namespace of
 * its own, kernel code that only root should reach. For every call named here Docker's rule replaces the data's.
 *
 * What no rule lets through is EPERM, as in Docker's profile, and so no rule need say that: the runtime compiles the
 * filter
 * anew for every process that it starts, and each rule costs time that grows with all others. A call that is newer than
 * the
 * newest named here is ENOSYS all the same, on which C libraries fall back: runc sees to that
 * (libcontainer/seccomp/patchbpf).
 */
import { constants } from 'node:os';
import type { OciSeccomp, OciSyscall } from './oci.ts';

const ALLOW = 'SCMP_ACT_ALLOW';
const ERRNO = 'SCMP_ACT_ERRNO';
const { EPERM, ENOSYS } = constants.errno;

/** Allowed with any of these capabilities; with none listed: never. */
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
  // Keyrings know no namespaces; io_uring was taken out for its history of escapes (moby 25).
  [[], ['add_key', 'io_uring_enter', 'io_uring_register', 'io_uring_setup', 'keyctl', 'pivot_root', 'request_key']],
];

/** Docker lets everybody have these; the data is older than they are, or stricter. */
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

/** vsock(7) leads to the hypervisor, past every network namespace. */
const AF_VSOCK = 40;

const REPLACED = new Set([...GUARDS.flatMap(([, names]) => names), ...ALLOWED, 'clone', 'clone3', 'socket']);

/** The data's filter with Docker's guards in the place of its own rules. */
export function withDockersGuards(
  filter: OciSeccomp,
  capabilities: readonly string[],
  architecture: string,
): OciSeccomp {
  const kept = filter.syscalls
    .map((rule) => ({ ...rule, names: rule.names.filter((name) => !REPLACED.has(name)) }))
    .filter((rule) => rule.names.length > 0);
  const has = (caps: readonly string[]): boolean => caps.some((name) => capabilities.includes(name));
  const guards = GUARDS.map(([caps, names]) => (has(caps) ? [allow([...names])] : []));
  const rules = [
    ...kept,
    ...guards.flat(),
    allow([...ALLOWED]),
    ...cloneRules(has(['CAP_SYS_ADMIN']), architecture),
    SOCKET_RULE,
  ];
  const isDefault = ({ action, errnoRet = EPERM }: OciSyscall): boolean => action === ERRNO && errnoRet === EPERM;
  // A refusal beside a rule that says otherwise for some arguments is not idle.
  const otherwise = new Set(rules.filter((rule) => !isDefault(rule)).flatMap(({ names }) => names));
  const { defaultErrnoRet: _, ...rest } = filter;
  return {
    ...rest,
    defaultAction: ERRNO,
    syscalls: rules.filter((rule) => !isDefault(rule) || rule.names.some((name) => otherwise.has(name))),
  };
}

/**
 * New namespaces only with CAP_SYS_ADMIN. clone3's flags lie in memory that no filter can read: without it C libraries
 * take clone.
 */
function cloneRules(admin: boolean, architecture: string): OciSyscall[] {
  if (admin) return [allow(['clone', 'clone3'])];
  const index = architecture === 's390x' ? 1 : 0;
  return [
    { ...allow(['clone']), args: [{ index, value: NAMESPACE_FLAGS, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }] },
    { names: ['clone3'], action: ERRNO, errnoRet: ENOSYS },
  ];
}

const SOCKET_RULE: OciSyscall = { ...allow(['socket']), args: [{ index: 0, value: AF_VSOCK, op: 'SCMP_CMP_NE' }] };

function allow(names: string[]): OciSyscall {
  return { names, action: ALLOW };
}
