/** What the kernel must give: privileges, cgroups, overlayfs. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { dirname, join } from 'node:path';
import { findProgram } from '../../config/program.ts';
import { cgroupHierarchies } from '../../sys/cgroupfs.ts';
import type { Probe } from '../check.ts';
import { installCommand } from '../packages.ts';

/** Bits of CapEff: CHOWN, NET_ADMIN, SYS_CHROOT, SYS_PTRACE, SYS_ADMIN. capabilities(7). */
const needed = { CAP_CHOWN: 0, CAP_NET_ADMIN: 12, CAP_SYS_CHROOT: 18, CAP_SYS_PTRACE: 19, CAP_SYS_ADMIN: 21 } as const;
const CAP_SYS_RESOURCE = 24;

const root: Probe = {
  subject: 'privileges',
  look: () => {
    if (process.geteuid?.() !== 0)
      return {
        verdict: 'lacking',
        text: 'this is not root',
        remedy: 'run holdfastd as root (sudo ./bin/holdfastd check)',
      };
    const effective = BigInt(`0x${/^CapEff:\s*(\w+)/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '0'}`);
    const has = (bit: number): boolean => ((effective >> BigInt(bit)) & 1n) === 1n;
    const lacking = Object.entries(needed)
      .filter(([, bit]) => !has(bit))
      .map(([name]) => name);
    if (lacking.length > 0)
      return {
        verdict: 'lacking',
        text: `root without ${lacking.join(', ')}`,
        remedy: 'inside a container, run it privileged',
      };
    if (!has(CAP_SYS_RESOURCE))
      return {
        verdict: 'advice',
        text: "root without CAP_SYS_RESOURCE: containers cannot get limits above the daemon's own (docker run --ulimit)",
      };
    return { verdict: 'ok', text: 'root' };
  },
};

/** pidfd_getfd and close_range came with 5.6 to 5.9, mount_setattr with 5.12. */
const LEAST_KERNEL = [5, 12] as const;

const kernel: Probe = {
  subject: 'kernel',
  look: () => {
    const [major = 0, minor = 0] = release().split('.').map(Number);
    const ok = major > LEAST_KERNEL[0] || (major === LEAST_KERNEL[0] && minor >= LEAST_KERNEL[1]);
    return ok
      ? { verdict: 'ok', text: `Linux ${release()}` }
      : {
          verdict: 'lacking',
          text: `Linux ${release()} is too old`,
          remedy: `a kernel from ${LEAST_KERNEL.join('.')} on`,
        };
  },
};

const cgroups: Probe = {
  subject: 'cgroups',
  look: ({ cgroupDriver }) => {
    const unified = existsSync('/sys/fs/cgroup/cgroup.controllers');
    if (cgroupDriver === 'systemd' && !existsSync('/run/systemd/system'))
      return {
        verdict: 'lacking',
        text: 'the systemd driver is configured, and systemd does not run here',
        remedy: '--exec-opt native.cgroupdriver=cgroupfs',
      };
    const present = unified ? controllersOfV2() : controllersOfV1();
    if (present.length === 0)
      return {
        verdict: 'lacking',
        text: 'no cgroup file system is mounted below /sys/fs/cgroup',
        remedy: 'mount -t cgroup2 none /sys/fs/cgroup',
      };
    const wanted = unified ? ['memory', 'cpu', 'pids'] : ['memory', 'cpu', 'pids', 'devices', 'freezer'];
    const absent = wanted.filter((controller) => !present.includes(controller));
    const layout = unified ? 'version 2' : existsSync('/sys/fs/cgroup/unified') ? 'version 1, hybrid' : 'version 1';
    if (absent.length > 0)
      return {
        verdict: absent.includes('devices') ? 'lacking' : 'advice',
        text: `${layout}, without ${absent.join(', ')}: these limits will not work`,
        remedy: 'kernel parameters, e.g. cgroup_enable=memory',
      };
    return { verdict: 'ok', text: `${layout}, by ${cgroupDriver}` };
  },
};

const controllersOfV2 = (): string[] =>
  readFileSync('/sys/fs/cgroup/cgroup.controllers', 'latin1').trim().split(/\s+/).filter(Boolean);

const controllersOfV1 = (): string[] => cgroupHierarchies().flatMap(({ controllers }) => controllers);

const overlay: Probe = {
  subject: 'overlayfs',
  look: async ({ dataRoot }) => {
    const parent = nearestExisting(dataRoot);
    const OVERLAYFS_MAGIC = 0x794c7630;
    if (statfsSync(parent).type === OVERLAYFS_MAGIC)
      return {
        verdict: 'lacking',
        text: `${parent} is itself on an overlayfs, which cannot carry another one`,
        remedy: 'put --data-root on a file system of its own, e.g. a volume',
      };
    if (process.geteuid?.() !== 0) return { verdict: 'advice', text: 'can only be tried as root' };
    try {
      await tryOverlay(parent);
      return { verdict: 'ok', text: `mounts on ${parent}` };
    } catch (error) {
      return {
        verdict: 'lacking',
        text: `cannot be mounted on ${parent}: ${(error as Error).message}`,
        remedy: 'modprobe overlay; the data-root on ext4, xfs (ftype=1) or btrfs',
      };
    }
  },
};

async function tryOverlay(parent: string): Promise<void> {
  const { mount, unmount } = await import('../../sys/mount.ts');
  const trial = mkdtempSync(join(parent, '.holdfast-check-'));
  try {
    for (const name of ['lower', 'upper', 'work', 'merged']) mkdirSync(join(trial, name));
    writeFileSync(join(trial, 'lower', 'file'), '');
    mount(
      'overlay',
      join(trial, 'merged'),
      'overlay',
      0,
      `lowerdir=${trial}/lower,upperdir=${trial}/upper,workdir=${trial}/work`,
    );
    try {
      rmSync(join(trial, 'merged', 'file')); // makes a whiteout, which some file systems cannot hold
    } finally {
      unmount(join(trial, 'merged'));
    }
  } finally {
    rmSync(trial, { recursive: true, force: true });
  }
}

/** The directory itself, or the one that it would be made in. */
export const nearestExisting = (path: string): string =>
  existsSync(path) || path === '/' ? path : nearestExisting(dirname(path));

const appArmor: Probe = {
  subject: 'AppArmor',
  look: () => {
    if (!existsSync('/sys/kernel/security/apparmor') && !existsSync('/sys/module/apparmor'))
      return { verdict: 'ok', text: 'not on this host; containers run without it' };
    if (findProgram('apparmor_parser', process.env))
      return { verdict: 'ok', text: 'containers run under docker-default' };
    return {
      verdict: 'advice',
      text: 'the kernel has it, but apparmor_parser is not installed: containers run without a profile',
      remedy: installCommand('apparmor'),
    };
  },
};

export const isolationProbes: readonly Probe[] = [root, kernel, cgroups, overlay, appArmor];
