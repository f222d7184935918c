/** How this distribution installs a program. */
import { readFileSync } from 'node:fs';

interface Manager {
  command: string;
  names: Record<string, string>;
}

/** By ID or ID_LIKE of /etc/os-release. A program that is not listed has a package of its own name. */
const managers: Record<string, Manager> = {
  debian: {
    command: 'apt-get install',
    names: {
      nft: 'nftables',
      ip: 'iproute2',
      busybox: 'busybox-static',
      'seccomp.json': 'golang-github-containers-common',
      modprobe: 'kmod',
      xz: 'xz-utils',
    },
  },
  fedora: {
    command: 'dnf install',
    names: { nft: 'nftables', ip: 'iproute', 'seccomp.json': 'containers-common', modprobe: 'kmod' },
  },
};

/** `apt-get install nftables`, or a plain sentence where the distribution is not known. */
export function installCommand(program: string, osRelease = readOsRelease()): string {
  const [, own = ''] = /^ID="?([^"\n]*)/m.exec(osRelease) ?? [];
  const [, like = ''] = /^ID_LIKE="?([^"\n]*)/m.exec(osRelease) ?? [];
  const manager = [own, ...like.split(' ')].map((id) => managers[id]).find(Boolean);
  return manager
    ? `${manager.command} ${manager.names[program] ?? program}`
    : `install the package that brings ${program}`;
}

function readOsRelease(): string {
  try {
    return readFileSync('/etc/os-release', 'utf8');
  } catch {
    return '';
  }
}
