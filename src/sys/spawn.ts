/**
 * New processes by posix_spawn(3). The child borrows this process's memory until its exec, so that none of it is
 * copied: a
 * fork of Node takes a millisecond, and each page that it writes afterwards faults. Nobody but the caller waits for the
 * child.
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

/** More than any C library needs for the two opaque structures. */
const OPAQUE_BYTES = 512;
const SIGNAL_SET_BYTES = 128;
const SETSIGDEF = 0x04;
const SETSIGMASK = 0x08;
const SETSID = 0x80;

export interface NewProcess {
  /** A path, or a name that is looked for in PATH. */
  file: string;
  args: string[];
  env: Record<string, string>;
  /** What its descriptors are, from 0 on; all others are closed if they are marked so. */
  descriptors: readonly (Fd | 'ignore')[];
  /** It leads a session of its own. */
  session?: boolean;
  /** Its working directory, if not ours. */
  directory?: string;
}

/** Starts a process and returns its pid. Its signals are as in a fresh process. @throws Errno */
export function spawn({ file, args, env, descriptors, session = false, directory }: NewProcess): number {
  const actions = Buffer.alloc(OPAQUE_BYTES);
  const attributes = Buffer.alloc(OPAQUE_BYTES);
  const none = Buffer.alloc(SIGNAL_SET_BYTES);
  // Also those that sigfillset(3) leaves out: the C library has handlers for them, and would have the child ignore
  // them, and its children.
  const all = Buffer.alloc(SIGNAL_SET_BYTES, 0xff);
  const borrowed: Fd[] = [];
  initAttributes(attributes);
  setFlags(attributes, SETSIGDEF | SETSIGMASK | (session ? SETSID : 0));
  setMask(attributes, none);
  setDefault(attributes, all);
  initActions(actions);
  try {
    descriptors.forEach((fd, as) => {
      if (fd === 'ignore') addOpen(actions, as, '/dev/null', constants.O_RDWR, 0);
      else addDup(actions, fd >= descriptors.length ? fd : borrow(fd, descriptors.length, borrowed), as);
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
    for (const fd of borrowed) closeSync(fd);
  }
}

/** A low number could be overwritten before its turn: what is dealt out lies beyond all of them. */
function borrow(fd: Fd, beyond: number, borrowed: Fd[]): Fd {
  const copy = duplicate(fd, beyond);
  borrowed.push(copy);
  return copy;
}
