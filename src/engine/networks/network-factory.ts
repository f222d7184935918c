/** Makes networks from their definitions: chooses subnets and a bridge that are not in use on this host. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIPv4 } from 'node:net';
import type { AddressPool, Config } from '../../config/config.ts';
import { wallNow } from '../clock.ts';
import { Forbidden, InvalidParameter, SystemFault } from '../../model/errors.ts';
import type { Definition } from './definition.ts';
import { newId } from './endpoints.ts';
import { HOST_FILES } from './etc-files.ts';
import { parseResolvConf } from './resolv-conf.ts';
import type { AddressSpace, IpamConfig, Network } from '../../model/network.ts';
import { shortId } from '../../model/short-id.ts';
import { cidr, freeSubnet, masked, overlap, rangeOf, textOf, type Cidr } from './subnets.ts';

/** As in Docker: br- and the first 12 digits of the id. */
const BRIDGE_PREFIX = 'br-';
const IPV6_SUBNET_SIZE = 64;

export interface NetworkFactoryDeps {
  others: Network[];
  pools: readonly AddressPool[];
  /** The pool of IPv6 subnets, in CIDR notation. */
  localPrefix: string;
  /** The destinations in this host's routing tables. */
  routes: () => string[];
  hasLink: (name: string) => boolean;
  /** Wall-clock nanoseconds. */
  now: string;
}

/** @throws Forbidden when another network has the subnet or bridge, SystemFault when the pools are used up */
export function networkFrom(
  definition: Definition,
  { others, pools, localPrefix: ipv6Pool, routes, hasLink, now }: NetworkFactoryDeps,
): Network {
  const { subnets, bridge: requestedBridge, ...rest } = definition;
  const used = others.flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6].flatMap((space) => (space ? [cidr(space.subnet)] : [])));
  for (const config of Object.values(subnets)) {
    if (used.some((other) => overlap(other, cidr(config.Subnet!))))
      throw new Forbidden('invalid pool request: Pool overlaps with other one on this address space');
  }
  const { id, bridge } = newIdentity(requestedBridge, hasLink);
  const conflict = others.find((other) => other.bridge === bridge);
  if (conflict)
    throw new Forbidden(
      `cannot create network ${id} (${bridge}): conflicts with network ${conflict.id} (${bridge}): networks have same bridge name`,
    );
  const space = (config: IpamConfig | undefined, pool: readonly AddressPool[]): AddressSpace => {
    const subnet = config?.Subnet ?? freeSubnet(pool, [...used, ...routes().map(cidr), ...hostResolvers()]);
    if (subnet === undefined) throw new SystemFault('all predefined address pools have been fully subnetted');
    return spaceOf(cidr(subnet), config);
  };
  const ipv4Pools = pools.filter(({ base }) => cidr(base).family === 4);
  const ipv4 = definition.enableIPv4 ? space(subnets[4], ipv4Pools) : undefined;
  const ipv6 = definition.enableIPv6 ? space(subnets[6], [{ base: ipv6Pool, size: IPV6_SUBNET_SIZE }]) : undefined;
  return {
    ...rest,
    id,
    created: now,
    driver: 'bridge',
    bridge,
    ingress: false,
    ...(ipv4 && { ipv4 }),
    ...(ipv6 && { ipv6 }),
    ipam: { ...definition.ipam, config: [...shownConfig(subnets[4], ipv4), ...shownConfig(subnets[6], ipv6)] },
  };
}

/** The id, and the bridge named after it unless one is requested. Only a requested bridge may exist already. */
function newIdentity(requestedBridge: string, hasLink: (name: string) => boolean): { id: string; bridge: string } {
  for (;;) {
    const id = newId();
    if (requestedBridge !== '') return { id, bridge: requestedBridge };
    const bridge = `${BRIDGE_PREFIX}${shortId(id)}`;
    if (!hasLink(bridge)) return { id, bridge };
  }
}

/** What inspect shows of one IP family. */
function shownConfig(config: IpamConfig | undefined, space: AddressSpace | undefined): IpamConfig[] {
  if (!space) return [];
  return [config ? withoutEmpty(config) : { Subnet: space.subnet, Gateway: space.gateway }];
}

/** The predefined networks. They keep their id and creation time; everything else follows the configuration. */
export function defaultNetworks(
  { bridge, bip, mtu, ip }: Pick<Config, 'bridge' | 'bip' | 'mtu' | 'ip'>,
  present: readonly Network[],
): Network[] {
  const known = new Map(present.map((network) => [network.name, network]));
  const base = (name: string): Pick<Network, 'id' | 'name' | 'created'> => ({
    id: known.get(name)?.id ?? newId(),
    name,
    created: known.get(name)?.created ?? wallNow(),
  });
  const plain = {
    bridge: '',
    enableIPv4: true,
    enableIPv6: false,
    internal: false,
    attachable: false,
    ingress: false,
    ipam: { driver: 'default', options: null, config: [] },
    options: {},
    labels: {},
    settings: { icc: true, masquerade: true, mtu, hostIp: ip, linkPrefix: 'eth' },
  };
  const subnet = masked(cidr(bip));
  const gateway = bip.split('/')[0]!;
  return [
    {
      ...plain,
      ...base('bridge'),
      driver: 'bridge',
      bridge,
      ipv4: { subnet, gateway, range: '', reserved: [], static: false },
      ipam: { driver: 'default', options: null, config: [{ Subnet: subnet, Gateway: gateway }] },
      options: {
        'com.docker.network.bridge.default_bridge': 'true',
        'com.docker.network.bridge.enable_icc': 'true',
        'com.docker.network.bridge.enable_ip_masquerade': 'true',
        'com.docker.network.bridge.host_binding_ipv4': ip || '0.0.0.0',
        'com.docker.network.bridge.name': bridge,
        'com.docker.network.driver.mtu': String(mtu),
      },
    },
    { ...plain, ...base('host'), driver: 'host' },
    { ...plain, ...base('none'), driver: 'null' },
  ];
}

/** As in Docker, the default gateway is the first address of the ip-range, or the subnet, that is not reserved. */
function spaceOf(subnet: Cidr, config: IpamConfig | undefined): AddressSpace {
  const reserved = Object.values(config?.AuxiliaryAddresses ?? {});
  const { lowest, highest } = rangeOf(subnet, config?.IPRange ? cidr(config.IPRange) : undefined);
  let gateway = config?.Gateway ?? '';
  for (let value = lowest; gateway === '' && value <= highest; value++)
    if (!reserved.includes(textOf(value, subnet.family))) gateway = textOf(value, subnet.family);
  if (gateway === '') throw new InvalidParameter(`no address for a gateway in ${masked(subnet)}`);
  return { subnet: masked(subnet), gateway, range: config?.IPRange ?? '', reserved, static: config !== undefined };
}

const withoutEmpty = (config: IpamConfig): IpamConfig =>
  Object.fromEntries(
    Object.entries(config).filter(([, value]) =>
      typeof value === 'string' ? value !== '' : value && Object.keys(value as object).length > 0,
    ),
  );

/** This daemon's prefix of unique local IPv6 addresses: 40 bits derived from the data root (RFC 4193). */
export const localPrefix = (dataRoot: string): string => {
  const hash = createHash('sha256').update(dataRoot).digest('hex');
  return `fd${hash.slice(0, 2)}:${hash.slice(2, 6)}:${hash.slice(6, 10)}::/48`;
};

/** The host's DNS servers: a network whose subnet contains them would hide them. */
function hostResolvers(): Cidr[] {
  try {
    return parseResolvConf(readFileSync(HOST_FILES.resolvConf, 'utf8'))
      .servers.filter(isIPv4)
      .map((server) => cidr(`${server}/32`));
  } catch {
    return [];
  }
}
