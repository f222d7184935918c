/**
 * Starts processes with posix_spawn(3). The child shares this process's memory until its exec: forking Node takes a
 * millisecond, and afterwards each page it writes faults. The caller must reap the child.
 */
import { closeSync, constants } from 'node:fs';
import { duplicate } from './file.ts';
import { declare, Errno, type Fd } from './libc.ts';

const spawnCall = declare(
  'int posix_spawnp(_Out_ int *pid, const char *file, void *actions, void *attributes, const char **argv, const char **envp)',
);
const initActions = declare('int posix_spawn_file_actions_init(void *actions)');
const addDup = declare('int posix_spawn_file_actions_adddup2(void *actions, int fd, int as)');
const addOpen = declare(
  'int posix_spawn_file_actions_addopen(void *actions, int fd, const char *path, int flags, unsigned int mode)',
);
const addChdir = declare('int posix_spawn_file_actions_addchdir_np(void *actions, const char *path)');
const destroyActions = declare('int posix_spawn_file_actions_destroy(void *actions)');
const initAttributes = declare('int posix_spawnattr_init(void *attributes)');
const setFlags = declare('int posix_spawnattr_setflags(void *attributes, short flags)');
const setMask = declare('int posix_spawnattr_setsigmask(void *attributes, const void *signals)');
const setDefault = declare('int posix_spawnattr_setsigdefault(void *attributes, const void *signals)');

/** More than glibc and musl need for the two opaque structures. */
const OPAQUE_BYTES = 512;
const SIGNAL_SET_BYTES = 128;
const SETSIGDEF = 0x04;
const SETSIGMASK = 0x08;
const SETSID = 0x80;

export interface NewProcess {
  /** A path, or a name that is searched in PATH. */
  file: string;
  args: string[];
  env: Record<string, string>;
  /** The child's descriptors from 0 on; others are inherited unless they are close-on-exec. */
  descriptors: readonly (Fd | 'ignore')[];
  /** Starts a new session. setsid(2). */
  session?: boolean;
  /** Working directory; this process's by default. */
  directory?: string;
}

/** Starts a process with default signal handling and returns its PID. @throws Errno */
export function spawn({ file, args, env, descriptors, session = false, directory }: NewProcess): number {
  const actions = Buffer.alloc(OPAQUE_BYTES);
  const attributes = Buffer.alloc(OPAQUE_BYTES);
  const none = Buffer.alloc(SIGNAL_SET_BYTES);
  // Includes the signals that sigfillset(3) omits because the C library handles them itself: posix_spawn would leave
  // them ignored in the child and its children.
  const all = Buffer.alloc(SIGNAL_SET_BYTES, 0xff);
  const duplicates: Fd[] = [];
  // A low descriptor could be overwritten in the child before it is duplicated itself.
  const duplicateAbove = (fd: Fd, lowest: number): Fd => {
    const copy = duplicate(fd, lowest);
    duplicates.push(copy);
    return copy;
  };
  initAttributes(attributes);
  setFlags(attributes, SETSIGDEF | SETSIGMASK | (session ? SETSID : 0));
  setMask(attributes, none);
  setDefault(attributes, all);
  initActions(actions);
  try {
    descriptors.forEach((fd, as) => {
      if (fd === 'ignore') addOpen(actions, as, '/dev/null', constants.O_RDWR, 0);
      else addDup(actions, fd >= descriptors.length ? fd : duplicateAbove(fd, descriptors.length), as);
    });
    if (directory !== undefined) addChdir(actions, directory);
    const pid: [number] = [0];
    const failure = spawnCall(
      pid,
      file,
      actions,
      attributes,
      [file, ...args, null],
      [...Object.entries(env).map(([name, value]) => `${name}=${value}`), null],
    );
    if (failure !== 0) throw new Errno(failure, 'spawn', file);
    return pid[0];
  } finally {
    destroyActions(actions);
    for (const fd of duplicates) closeSync(fd);
  }
}
