/** Processes: reaping, subreaper, PID file descriptors, signals. */
import { readFileSync } from 'node:fs';
import { addressOf, check, declare, Errno, errno, syscall, SYS, type Fd } from './libc.ts';

const prctlCall = declare('int prctl(int op, unsigned long a, unsigned long b, unsigned long c, unsigned long d)');
const waitpidCall = declare('int waitpid(int pid, _Out_ int *status, int options)');
const killCall = declare('int kill(int pid, int signal)');
const ioctlCall = declare('int ioctl(int fd, unsigned long request, void *argument)');
const setpriorityCall = declare('int setpriority(int which, unsigned int who, int priority)');
const schedSetschedulerCall = declare('int sched_setscheduler(int pid, int policy, void *param)');

/** signal(7) */
export const SIGKILL = 9;

const PR_SET_CHILD_SUBREAPER = 36;
const PRIO_PROCESS = 0;
const SCHED_OTHER = 0;
const SCHED_RESET_ON_FORK = 0x40000000;
const WNOHANG = 1;
const ESRCH = 3;
const ECHILD = 10;

/** Orphaned descendants become children of this process. prctl(2), PR_SET_CHILD_SUBREAPER. */
export function becomeSubreaper(): void {
  check(prctlCall(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 'prctl');
}

/**
 * Gives the calling thread a nice value below 0; its children start at 0 again. setpriority(2), SCHED_RESET_ON_FORK in
 * sched(7). Returns false without CAP_SYS_NICE.
 */
export function raisePriority(nice: number): boolean {
  const param = Buffer.alloc(4);
  if (schedSetschedulerCall(0, SCHED_OTHER | SCHED_RESET_ON_FORK, param) < 0) return false;
  return setpriorityCall(PRIO_PROCESS, 0, nice) === 0;
}

/** `code` is the exit code as Docker reports it: 128+n after death by signal n. `signal` is 0 after a normal exit. */
export interface ExitStatus {
  code: number;
  signal: number;
}

/** Decodes a wait status. wait(2). */
export function decodeStatus(status: number): ExitStatus {
  const signal = status & 0x7f;
  return signal ? { code: 128 + signal, signal } : { code: (status >> 8) & 0xff, signal: 0 };
}

/**
 * Reaps child `pid` if it is dead; undefined while it is alive, 'not-a-child' when it is not a child of this process.
 * waitpid(2), WNOHANG.
 */
export function reap(pid: number): ExitStatus | undefined | 'not-a-child' {
  const status: [number] = [0];
  const found = waitpidCall(pid, status, WNOHANG);
  if (found === pid) return decodeStatus(status[0]);
  if (found < 0 && errno() === ECHILD) return 'not-a-child';
  return undefined;
}

/** Sends a signal; false when there is no such process. kill(2). */
export function kill(pid: number, signal: number): boolean {
  if (pid <= 1) throw new Errno(22, 'kill', `refusing pid ${pid}`);
  if (killCall(pid, signal) === 0) return true;
  if (errno() === ESRCH) return false;
  throw new Errno(errno(), 'kill', `pid ${pid}`);
}

/**
 * A descriptor that refers to a process even after its PID is reused, and is readable once it is dead. pidfd_open(2),
 * Linux 5.3.
 * @throws Errno ESRCH when there is no such process
 */
export const pidfdOpen = (pid: number): Fd => check(syscall(SYS.pidfd_open, pid, 0), 'pidfd_open', `pid ${pid}`);

/**
 * Duplicates descriptor `fd` of another process, which needs ptrace rights over it. pidfd_getfd(2), Linux 5.6.
 * @throws Errno EBADF when that process has no such descriptor
 */
export const pidfdGetfd = (pidfd: Fd, fd: number): Fd => check(syscall(SYS.pidfd_getfd, pidfd, fd, 0), 'pidfd_getfd');

/** Signals the process of a pidfd; false when it is dead. pidfd_send_signal(2), Linux 5.1. */
export function pidfdKill(pidfd: Fd, signal: number): boolean {
  if (syscall(SYS.pidfd_send_signal, pidfd, signal, 0, 0) === 0) return true;
  if (errno() === ESRCH) return false;
  throw new Errno(errno(), 'pidfd_send_signal');
}

// linux/pidfd.h of Linux 6.15: _IOWR(0xFF, 11, struct pidfd_info); PIDFD_INFO_EXIT is bit 3 of its mask, and the exit
// status is at offset 60.
const PIDFD_GET_INFO = ((3 << 30) >>> 0) + (64 << 16) + (0xff << 8) + 11;
const PIDFD_INFO_EXIT = 8n;

/**
 * The exit status of the process of a pidfd, even if another process has reaped it; undefined when the kernel does not
 * know it, as before Linux 6.15 (PIDFD_GET_INFO).
 */
export function pidfdExitStatus(pidfd: Fd): ExitStatus | undefined {
  const info = Buffer.alloc(64);
  info.writeBigUInt64LE(PIDFD_INFO_EXIT, 0);
  if (ioctlCall(pidfd, PIDFD_GET_INFO, addressOf(info)) < 0) return undefined;
  return info.readBigUInt64LE(0) & PIDFD_INFO_EXIT ? decodeStatus(info.readInt32LE(60)) : undefined;
}

/** Fields of /proc/PID/stat. proc_pid_stat(5). */
export interface ProcStat {
  state: string;
  ppid: number;
  /** Field 22, in clock ticks since boot: together with the PID it identifies a process within one boot. */
  startTime: string;
  /** Field 52: the wait status of a zombie (0 without ptrace rights). */
  exitStatus: number;
}

/** undefined when there is no such process. */
export function procStat(pid: number): ProcStat | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  const fields = text
    .slice(text.lastIndexOf(')') + 2)
    .trim()
    .split(' ');
  return { state: fields[0]!, ppid: Number(fields[1]), startTime: fields[19]!, exitStatus: Number(fields[49] ?? 0) };
}

/** Whether this very process (PID and start time, within one boot) is alive and not a zombie. */
export function isAlive(pid: number, startTime: string): boolean {
  const stat = pid > 0 ? procStat(pid) : undefined;
  return stat?.startTime === startTime && stat.state !== 'Z' && stat.state !== 'X';
}

/** A process as another one has noted it in a file, which may be of an earlier boot. */
export interface NotedProcess {
  pid: number;
  startTime: string;
  /** Boot id; absent in notes of earlier releases. */
  boot?: string;
}

/** Whether this very process is alive. After a boot, pid and start time can both be those of another one. */
export const isNotedAlive = ({ pid, startTime, boot }: NotedProcess): boolean =>
  (boot === undefined || boot === bootId()) && isAlive(pid, startTime);

/** A UUID that is new with each boot of the kernel. */
export const bootId = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
