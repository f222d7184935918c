/** The command that installs a program on this distribution. */
import { readFileSync } from 'node:fs';

interface Manager {
  command: string;
  names: Record<string, string>;
}

/** By ID or ID_LIKE of /etc/os-release. The package of a program that is not listed has the program's name. */
const managers: Record<string, Manager> = {
  debian: {
    command: 'apt-get install',
    names: {
      ip: 'iproute2',
      busybox: 'busybox-static',
      'seccomp.json': 'golang-github-containers-common',
      modprobe: 'kmod',
      xz: 'xz-utils',
    },
  },
  fedora: {
    command: 'dnf install',
    names: { ip: 'iproute', 'seccomp.json': 'containers-common', modprobe: 'kmod' },
  },
};

/** `apt-get install nftables`, or a sentence if the distribution is unknown. */
export function installCommand(program: string, osRelease = readOsRelease()): string {
  const [, own = ''] = /^ID="?([^"\n]*)/m.exec(osRelease) ?? [];
  const [, like = ''] = /^ID_LIKE="?([^"\n]*)/m.exec(osRelease) ?? [];
  const manager = [own, ...like.split(' ')].map((id) => managers[id]).find(Boolean);
  return manager
    ? `${manager.command} ${manager.names[program] ?? program}`
    : `install the package that provides ${program}`;
}

function readOsRelease(): string {
  try {
    return readFileSync('/etc/os-release', 'utf8');
  } catch {
    return '';
  }
}
