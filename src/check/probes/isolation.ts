/** Probes of privileges and kernel features: cgroups, overlayfs, AppArmor. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { findProgram } from '../../config/program.ts';
import { nearestExisting } from '../nearest.ts';
import { installCommand } from '../packages.ts';
import { cgroupHierarchies } from '../../sys/cgroupfs.ts';
import type { Probe } from '../probe.ts';

/** Required capabilities by bit of CapEff. capabilities(7) */
const REQUIRED = {
  CAP_CHOWN: 0,
  CAP_NET_ADMIN: 12,
  CAP_SYS_CHROOT: 18,
  CAP_SYS_PTRACE: 19,
  CAP_SYS_ADMIN: 21,
} as const;
const CAP_SYS_RESOURCE = 24;

const privileges: Probe = {
  subject: 'privileges',
  look: () => {
    if (process.geteuid?.() !== 0)
      return {
        verdict: 'lacking',
        text: 'not running as root',
        remedy: 'run holdfastd as root (sudo ./bin/holdfastd check)',
      };
    const effective = BigInt(`0x${/^CapEff:\s*(\w+)/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '0'}`);
    const has = (bit: number): boolean => ((effective >> BigInt(bit)) & 1n) === 1n;
    const lacking = Object.entries(REQUIRED)
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

/** pidfd_getfd needs 5.6, close_range 5.9, mount_setattr 5.12. */
const MIN_KERNEL = [5, 12] as const;

const kernel: Probe = {
  subject: 'kernel',
  look: () => {
    const [major = 0, minor = 0] = release().split('.').map(Number);
    const ok = major > MIN_KERNEL[0] || (major === MIN_KERNEL[0] && minor >= MIN_KERNEL[1]);
    return ok
      ? { verdict: 'ok', text: `Linux ${release()}` }
      : {
          verdict: 'lacking',
          text: `Linux ${release()} is too old`,
          remedy: `install kernel ${MIN_KERNEL.join('.')} or later`,
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
        text: 'the systemd driver is configured, but systemd is not running',
        remedy: 'use --exec-opt native.cgroupdriver=cgroupfs',
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
    const layout = unified ? 'version 2' : layoutOfV1();
    if (absent.length > 0)
      return {
        verdict: absent.includes('devices') ? 'lacking' : 'advice',
        text: `${layout}, without ${absent.join(', ')}: these limits do not work`,
        remedy: 'set kernel parameters, e.g. cgroup_enable=memory',
      };
    return { verdict: 'ok', text: `${layout}, driver ${cgroupDriver}` };
  },
};

const layoutOfV1 = (): string => (existsSync('/sys/fs/cgroup/unified') ? 'version 1, hybrid' : 'version 1');

const controllersOfV2 = (): string[] =>
  readFileSync('/sys/fs/cgroup/cgroup.controllers', 'latin1').trim().split(/\s+/).filter(Boolean);

const controllersOfV1 = (): string[] => cgroupHierarchies().flatMap(({ controllers }) => controllers);

/** statfs(2) */
const OVERLAYFS_MAGIC = 0x794c7630;

const overlay: Probe = {
  subject: 'overlayfs',
  look: async ({ dataRoot }) => {
    const parent = nearestExisting(dataRoot);
    if (statfsSync(parent).type === OVERLAYFS_MAGIC)
      return {
        verdict: 'lacking',
        text: `${parent} is on an overlayfs, which cannot be the upper layer of another one`,
        remedy: 'set --data-root to another file system, e.g. a volume',
      };
    if (process.geteuid?.() !== 0) return { verdict: 'advice', text: 'not tested: that needs root' };
    try {
      await tryOverlay(parent);
      return { verdict: 'ok', text: `mounts on ${parent}` };
    } catch (error) {
      return {
        verdict: 'lacking',
        text: `cannot be mounted on ${parent}: ${(error as Error).message}`,
        remedy: 'modprobe overlay; put the data-root on ext4, xfs (ftype=1) or btrfs',
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
      rmSync(join(trial, 'merged', 'file')); // Creates a whiteout, which some file systems do not support.
    } finally {
      unmount(join(trial, 'merged'));
    }
  } finally {
    rmSync(trial, { recursive: true, force: true });
  }
}

const appArmor: Probe = {
  subject: 'AppArmor',
  look: () => {
    if (!existsSync('/sys/kernel/security/apparmor') && !existsSync('/sys/module/apparmor'))
      return { verdict: 'ok', text: 'not enabled in this kernel; containers run without it' };
    if (findProgram('apparmor_parser', process.env))
      return { verdict: 'ok', text: 'containers run under docker-default' };
    return {
      verdict: 'advice',
      text: 'enabled in the kernel, but apparmor_parser is not installed: containers run without a profile',
      remedy: installCommand('apparmor'),
    };
  },
};

export const isolationProbes: readonly Probe[] = [privileges, kernel, cgroups, overlay, appArmor];
