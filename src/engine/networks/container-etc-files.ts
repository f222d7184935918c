/** Keeps containers' /etc/hosts, /etc/resolv.conf and /etc/hostname in step with their networks. */
import { existsSync } from 'node:fs';
import type { Config } from '../../config/config.ts';
import type { Container, Endpoint } from '../../model/container.ts';
import type { Network } from '../../model/network.ts';
import type { Paths } from '../paths.ts';
import { hasDns, resolversOf } from './dns-policy.ts';
import { addOwnAddresses, removeOwnAddresses, writeEtcFiles, writeResolvConf, type EtcFileInput } from './etc-files.ts';
import { networkOfMode } from '../../model/namespace-mode.ts';

export interface ContainerEtcFilesDeps {
  paths: Paths;
  config: Pick<Config, 'bip' | 'dns' | 'dnsOptions' | 'dnsSearch'>;
  find: (reference: string) => Network | undefined;
}

type Addresses = Pick<Endpoint, 'ipAddress' | 'globalIPv6Address'>;

export class ContainerEtcFiles {
  constructor(private readonly deps: ContainerEtcFilesDeps) {}

  /** Writes all three files before a start. */
  write(container: Container): void {
    writeEtcFiles(this.#directory(container), this.#input(container));
  }

  /** Updates the files of a running container that has got an endpoint. */
  addEndpoint(container: Container, endpoint: Addresses): void {
    const { Hostname: hostname, Domainname: domainname } = container.config;
    addOwnAddresses(this.#directory(container), addressesOf(endpoint), { hostname, domainname });
    writeResolvConf(this.#directory(container), this.#input(container));
  }

  /** Updates the files of a running container that has lost an endpoint. */
  removeEndpoint(container: Container, endpoint: Addresses | undefined): void {
    removeOwnAddresses(this.#directory(container), endpoint ? addressesOf(endpoint) : []);
    writeResolvConf(this.#directory(container), this.#input(container));
  }

  #directory = ({ id }: Container): string => this.deps.paths.container(id);

  /** The container's own settings, with the daemon's as defaults. */
  #input({ config, hostConfig, endpoints }: Container): EtcFileInput {
    const daemon = this.deps.config;
    return {
      hostname: config.Hostname,
      domainname: config.Domainname,
      hostNetwork: networkOfMode(hostConfig.NetworkMode) === 'host',
      addresses: Object.values(endpoints).flatMap(addressesOf),
      extraHosts: hostConfig.ExtraHosts ?? [],
      hostGateway: daemon.bip.split('/')[0]!,
      ipv6: existsSync('/proc/sys/net/ipv6') && hostConfig.Sysctls?.['net.ipv6.conf.all.disable_ipv6'] !== '1',
      dns: {
        servers: firstNonEmpty(hostConfig.Dns, daemon.dns),
        search: firstNonEmpty(hostConfig.DnsSearch, daemon.dnsSearch),
        options: firstNonEmpty(hostConfig.DnsOptions, daemon.dnsOptions),
      },
      resolvers: this.#resolvers(Object.values(endpoints)),
    };
  }

  /**
   * One resolver is enough: the DNS server answers for all networks of the container on each of their bridges.
   * Preferably not that of an internal network, where nothing is forwarded.
   */
  #resolvers(endpoints: Endpoint[]): string[] {
    const candidates = endpoints.flatMap(({ networkId }) => this.deps.find(networkId) ?? []).filter(hasDns);
    const chosen = candidates.find(({ internal }) => !internal) ?? candidates[0];
    return chosen ? resolversOf(chosen).slice(0, 1) : [];
  }
}

const addressesOf = ({ ipAddress, globalIPv6Address }: Addresses): string[] =>
  [ipAddress, globalIPv6Address].filter(Boolean);

const firstNonEmpty = (...lists: (readonly string[] | null)[]): string[] => [
  ...(lists.find((list) => list !== null && list.length > 0) ?? []),
];
