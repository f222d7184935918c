/** Kernel parameters of a container's namespaces. sysctl(8) */
import { existsSync } from 'node:fs';
import { InvalidParameter } from '../../model/errors.ts';
import type { ContainerConfig, HostConfig } from '../../model/container-config.ts';
import { hasOwnNetwork } from '../../model/namespace-mode.ts';

const IPC_SYSCTLS = new Set([
  'kernel.msgmax',
  'kernel.msgmnb',
  'kernel.msgmni',
  'kernel.sem',
  'kernel.shmall',
  'kernel.shmmax',
  'kernel.shmmni',
  'kernel.shm_rmid_forced',
]);

/** Docker's defaults: every port may be bound without a capability, and ping needs no raw socket. */
const NETWORK_DEFAULTS: Readonly<Record<string, string>> = {
  'net.ipv4.ip_unprivileged_port_start': '0',
  'net.ipv4.ping_group_range': '0 2147483647',
};

type Modes = Pick<HostConfig, 'Sysctls' | 'IpcMode' | 'NetworkMode' | 'UTSMode'>;

/** Rejects, with the runtime's texts, what the runtime would reject at start. @throws InvalidParameter */
export function checkSysctls(modes: Modes): void {
  for (const key of Object.keys(modes.Sysctls ?? {})) {
    const name = key.replaceAll('/', '.');
    const quoted = JSON.stringify(key);
    if (IPC_SYSCTLS.has(name) || name.startsWith('fs.mqueue.')) {
      if (modes.IpcMode === 'host')
        throw new InvalidParameter(`sysctl ${quoted} is not allowed in the hosts ipc namespace`);
    } else if (name.startsWith('net.')) {
      if (modes.NetworkMode === 'host')
        throw new InvalidParameter(`sysctl ${quoted} not allowed in host network namespace`);
    } else if (name === 'kernel.hostname' && modes.UTSMode !== 'host') {
      throw new InvalidParameter(`sysctl ${quoted} is not allowed as it conflicts with the OCI "hostname" field`);
    } else if (name !== 'kernel.domainname' || modes.UTSMode === 'host') {
      throw new InvalidParameter(`sysctl ${quoted} is not in a separate kernel namespace`);
    }
  }
}

/** Docker's defaults that this kernel has, and the requested ones. */
export function sysctls(hostConfig: Modes, config: Pick<ContainerConfig, 'Domainname'>): Record<string, string> {
  const network = hasOwnNetwork(hostConfig.NetworkMode)
    ? Object.entries(NETWORK_DEFAULTS).filter(([name]) => existsSync(`/proc/sys/${name.replaceAll('.', '/')}`))
    : [];
  // The `domainname` field of OCI 1.1 is unknown to the runtimes of Debian 12; this parameter has the same effect.
  const domain: Record<string, string> =
    config.Domainname && hostConfig.UTSMode !== 'host' ? { 'kernel.domainname': config.Domainname } : {};
  return { ...domain, ...Object.fromEntries(network), ...hostConfig.Sysctls };
}
