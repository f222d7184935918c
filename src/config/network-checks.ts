/**
 * Checks of the network settings: addresses, the bridge's name, pools, name servers. Each returns the value to use.
 * @throws ConfigError
 */
import { isIP } from 'node:net';
import { formatAddress, parseSubnet } from './addresses.ts';
import type { AddressPool } from './config.ts';
import { ConfigError } from './error.ts';

/** IFNAMSIZ less the NUL. */
const MAX_LINK_NAME = 15;

export function checkBip(bip: string): string {
  const invalid = (why: string): ConfigError => new ConfigError(`invalid bip ${JSON.stringify(bip)}: ${why}`);
  const subnet = parseSubnet(bip);
  if (!subnet) throw invalid('it must be the address and subnet of the bridge, e.g. 10.77.0.1/16');
  if (subnet.prefix > 30 || subnet.prefix < 8)
    throw invalid(`/${subnet.prefix} leaves no room for containers; use /8 to /30`);
  if (subnet.address === subnet.network)
    throw invalid(
      `${formatAddress(subnet.address)} names the subnet itself; give the bridge an address in it, e.g. ${formatAddress(subnet.network + 1)}/${subnet.prefix}`,
    );
  if (subnet.address === subnet.broadcast)
    throw invalid(`${formatAddress(subnet.address)} is the subnet's broadcast address`);
  return bip;
}

export function checkBridge(name: string): string {
  if (name === 'none')
    throw new ConfigError(
      'invalid bridge: the default network cannot be disabled yet; run containers with --network none',
    );
  if (Buffer.byteLength(name) > MAX_LINK_NAME || /[\s/:]/.test(name) || name === '.' || name === '..')
    throw new ConfigError(
      `invalid bridge ${JSON.stringify(name)}: an interface name has at most ${MAX_LINK_NAME} bytes and no white space, '/' or ':'`,
    );
  return name;
}

export function checkPools(pools: AddressPool[]): AddressPool[] {
  for (const { base, size } of pools) {
    const subnet = parseSubnet(base);
    if (!subnet)
      throw new ConfigError(
        `invalid default-address-pool: base ${JSON.stringify(base)} is not an IPv4 subnet like 10.78.0.0/15`,
      );
    if (size < subnet.prefix || size > 30)
      throw new ConfigError(
        `invalid default-address-pool: networks of size ${size} do not fit into ${base}; use ${Math.max(subnet.prefix, 8)} to 30`,
      );
  }
  return pools.map(({ base, size }) => {
    const { network, prefix } = parseSubnet(base)!;
    return { base: `${formatAddress(network)}/${prefix}`, size };
  });
}

export function checkIp(key: string, address: string): string {
  if (isIP(address) === 0) throw new ConfigError(`invalid ${key}: ${address} is not an IP address`);
  return address;
}

// Docker's default, 0.0.0.0, means all addresses, including IPv6.
export const checkPublishAddress = (address: string): string =>
  address === '' || address === '0.0.0.0' ? '' : checkIp('ip', address);

export function checkDomain(domain: string): string {
  if (domain !== '.' && !/^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$/.test(domain))
    throw new ConfigError(`invalid dns-search: ${JSON.stringify(domain)} is not a domain`);
  return domain;
}
