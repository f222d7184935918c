/** Kernel parameters that belong to a container's own namespaces. sysctl(8) */
import { existsSync } from 'node:fs';
import { InvalidParameter } from '../../model/errors.ts';
import type { ContainerConfig, HostConfig } from '../../model/container-config.ts';
import { hasOwnNetwork } from './namespaces.ts';

const OF_IPC = new Set([
  'kernel.msgmax',
  'kernel.msgmnb',
  'kernel.msgmni',
  'kernel.sem',
  'kernel.shmall',
  'kernel.shmmax',
  'kernel.shmmni',
  'kernel.shm_rmid_forced',
]);

/** Docker's: any port without a capability, ping without raw sockets. */
const OWN_NETWORK: Readonly<Record<string, string>> = {
  'net.ipv4.ip_unprivileged_port_start': '0',
  'net.ipv4.ping_group_range': '0 2147483647',
};

type Modes = Pick<HostConfig, 'Sysctls' | 'IpcMode' | 'NetworkMode' | 'UTSMode'>;

/** Refuses in the runtime's words what the runtime would refuse at start. @throws InvalidParameter */
export function checkSysctls(modes: Modes): void {
  for (const key of Object.keys(modes.Sysctls ?? {})) {
    const name = key.replaceAll('/', '.');
    const quoted = JSON.stringify(key);
    if (OF_IPC.has(name) || name.startsWith('fs.mqueue.')) {
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

export function sysctls(hostConfig: Modes, config: Pick<ContainerConfig, 'Domainname'>): Record<string, string> {
  const network = hasOwnNetwork(hostConfig.NetworkMode)
    ? Object.entries(OWN_NETWORK).filter(([name]) => existsSync(`/proc/sys/${name.replaceAll('.', '/')}`))
    : [];
  // The specification has no field for it that the runtimes of Debian 12 know; this parameter is the same thing.
  const domain: Record<string, string> =
    config.Domainname && hostConfig.UTSMode !== 'host' ? { 'kernel.domainname': config.Domainname } : {};
  return { ...domain, ...Object.fromEntries(network), ...hostConfig.Sysctls };
}
