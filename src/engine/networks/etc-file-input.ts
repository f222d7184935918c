/** What a container's /etc/hosts, /etc/resolv.conf and /etc/hostname are made from. */
import { existsSync } from 'node:fs';
import type { Config } from '../../config/config.ts';
import type { Container } from '../../model/container.ts';
import type { Network } from '../../model/network.ts';
import { hasDns, resolversOf } from './dns-policy.ts';
import type { EtcFileInput } from './etc-files.ts';
import { networkOf } from './plan.ts';

export interface EtcFileDeps {
  config: Pick<Config, 'bip' | 'dns' | 'dnsOptions' | 'dnsSearch'>;
  find: (reference: string) => Network | undefined;
  /** Whether a DNS server runs on networks that have DNS. */
  dnsAvailable: boolean;
}

/** The container's own settings, with the daemon's as defaults. */
export function etcFileInput(
  { config, hostConfig, endpoints }: Container,
  { config: daemon, find, dnsAvailable }: EtcFileDeps,
): EtcFileInput {
  return {
    hostname: config.Hostname,
    domainname: config.Domainname,
    hostNetwork: networkOf(hostConfig.NetworkMode) === 'host',
    addresses: Object.values(endpoints)
      .flatMap(({ ipAddress, globalIPv6Address }) => [ipAddress, globalIPv6Address])
      .filter(Boolean),
    extraHosts: hostConfig.ExtraHosts ?? [],
    hostGateway: daemon.bip.split('/')[0]!,
    ipv6: existsSync('/proc/sys/net/ipv6') && hostConfig.Sysctls?.['net.ipv6.conf.all.disable_ipv6'] !== '1',
    dns: {
      servers: firstNonEmpty(hostConfig.Dns, daemon.dns),
      search: firstNonEmpty(hostConfig.DnsSearch, daemon.dnsSearch),
      options: firstNonEmpty(hostConfig.DnsOptions, daemon.dnsOptions),
    },
    resolvers: dnsAvailable
      ? resolverFor(Object.values(endpoints).flatMap(({ networkId }) => find(networkId) ?? []))
      : [],
  };
}

/**
 * One resolver is enough: aardvark-dns answers for all networks of the container on each of their bridges. Preferably
 * not that of an internal network.
 */
function resolverFor(networks: Network[]): string[] {
  const candidates = networks.filter(hasDns);
  const chosen = candidates.find(({ internal }) => !internal) ?? candidates[0];
  return chosen ? resolversOf(chosen).slice(0, 1) : [];
}

const firstNonEmpty = (...lists: (readonly string[] | null)[]): string[] => [
  ...(lists.find((list) => list !== null && list.length > 0) ?? []),
];
