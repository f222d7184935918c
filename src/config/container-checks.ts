/** Checks of container settings: cgroups, limits, profiles. Each returns the value to use. @throws ConfigError */
import { existsSync } from 'node:fs';
import { normalize } from 'node:path';
import type { Ulimit } from '../model/container-config.ts';
import { DEFAULT_SECCOMP_PROFILE, type Config } from './config.ts';
import { ConfigError } from './error.ts';
import type { Names } from './names.ts';
import { absolute } from './path-checks.ts';

/** The driver that `exec-opts` name; else systemd if systemd runs (sd_booted(3)) and owns cgroup v2. */
export function cgroupDriverOf(execOpts: string[]): Config['cgroupDriver'] {
  const systemdOwnsCgroups = existsSync('/run/systemd/system') && existsSync('/sys/fs/cgroup/cgroup.controllers');
  let driver = systemdOwnsCgroups ? 'systemd' : 'cgroupfs';
  for (const option of execOpts) {
    const [, name = '', value = ''] = /^\s*([^=]*?)\s*=\s*(.*?)\s*$/.exec(option) ?? [];
    if (name === '' || value === '')
      throw new ConfigError(`invalid exec-opt (${option}): must be formatted 'opt=value'`);
    if (name.toLowerCase() !== 'native.cgroupdriver')
      throw new ConfigError(`invalid exec-opt (${option}): unknown option: '${name}'`);
    driver = value;
  }
  if (driver !== 'cgroupfs' && driver !== 'systemd')
    throw new ConfigError(
      `invalid exec-opt: native.cgroupdriver is cgroupfs or systemd, not ${JSON.stringify(driver)}`,
    );
  return driver;
}

export function checkCgroupParent(parent: string, driver: Config['cgroupDriver'], names: Names): string {
  if (parent === '') return names.cgroupParent[driver];
  if (driver === 'systemd') {
    if (parent.includes('/') || !parent.endsWith('.slice'))
      throw new ConfigError(`cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"`);
    return parent;
  }
  const path = normalize(`/${parent}`).replace(/\/$/, '');
  if (path === '') throw new ConfigError('invalid cgroup-parent: containers need a cgroup of their own below /');
  return path;
}

export function checkUlimits(limits: Record<string, Ulimit>): Record<string, Ulimit> {
  return Object.fromEntries(
    Object.entries(limits).map(([name, { Soft, Hard }]) => {
      if (Hard !== -1 && (Soft === -1 || Soft > Hard))
        throw new ConfigError(
          `invalid default-ulimit ${name}: the soft limit (${Soft}) is above the hard limit (${Hard})`,
        );
      return [name, { Name: name, Soft, Hard }];
    }),
  );
}

/** Bytes of a size like `64M`, in binary units. */
export function checkBytes(key: string, size: string | number): number {
  const [, digits = '', unit = ''] = /^(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?$/i.exec(String(size)) ?? [];
  if (digits === '')
    throw new ConfigError(`invalid ${key}: ${JSON.stringify(size)} is not a size like 64M or 67108864`);
  return Math.floor(Number(digits) * 1024 ** ' kmgtp'.indexOf(unit.toLowerCase() || ' '));
}

export function checkSeccompProfile(profile: string): string {
  if (profile === 'builtin') return DEFAULT_SECCOMP_PROFILE;
  return profile === 'unconfined' ? profile : absolute('seccomp-profile', profile);
}
