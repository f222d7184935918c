/** What a definition becomes: subnets and a bridge that nobody else has. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIPv4 } from 'node:net';
import type { AddressPool, Config } from '../../config/config.ts';
import { wallNow } from '../clock.ts';
import { Forbidden, InvalidParameter, SystemFault } from '../../model/errors.ts';
import type { Definition } from './definition.ts';
import { newId } from './endpoints.ts';
import { HOST_FILES, parseResolvConf } from './files.ts';
import type { AddressSpace, IpamConfig, Network } from '../../model/network.ts';
import { cidr, freeSubnet, masked, overlap, rangeOf, textOf, type Cidr } from './subnets.ts';

/** br- and the first 12 digits of the id, as Docker's. */
const BRIDGE_PREFIX = 'br-';
const SHORT_ID = 12;
const IPV6_SIZE = 64;

export interface Surroundings {
  others: Network[];
  pools: readonly AddressPool[];
  /** Where IPv6 subnets come from. */
  localPrefix: string;
  /** What this host has routes to. */
  routes: () => string[];
  hasLink: (name: string) => boolean;
  /** Wall ns. */
  now: string;
}

/** @throws Forbidden when subnet or bridge are another network's, SystemFault when the pools are used up */
export function networkFrom(
  definition: Definition,
  { others, pools, localPrefix: base, routes, hasLink, now }: Surroundings,
): Network {
  const { subnets, bridge: asked, ...rest } = definition;
  const taken = others.flatMap(({ ipv4, ipv6 }) =>
    [ipv4, ipv6].flatMap((space) => (space ? [cidr(space.subnet)] : [])),
  );
  for (const config of Object.values(subnets)) {
    if (taken.some((other) => overlap(other, cidr(config.Subnet!))))
      throw new Forbidden('invalid pool request: Pool overlaps with other one on this address space');
  }
  let id = newId();
  // Never a link that is somebody else's: its name may be chosen, but not met by chance.
  while (asked === '' && hasLink(`${BRIDGE_PREFIX}${id.slice(0, SHORT_ID)}`)) id = newId();
  const bridge = asked || `${BRIDGE_PREFIX}${id.slice(0, SHORT_ID)}`;
  const same = others.find((other) => other.bridge === bridge);
  if (same)
    throw new Forbidden(
      `cannot create network ${id} (${bridge}): conflicts with network ${same.id} (${bridge}): networks have same bridge name`,
    );
  const avoided = (): Cidr[] => [...taken, ...routes().map(cidr), ...hostResolvers()];
  const space = (config: IpamConfig | undefined, from: readonly AddressPool[]): AddressSpace => {
    const subnet = config?.Subnet ?? freeSubnet(from, avoided());
    if (subnet === undefined) throw new SystemFault('all predefined address pools have been fully subnetted');
    return spaceOf(cidr(subnet), config);
  };
  const ipv4 = definition.enableIPv4
    ? space(
        subnets[4],
        pools.filter((pool) => cidr(pool.base).family === 4),
      )
    : undefined;
  const ipv6 = definition.enableIPv6 ? space(subnets[6], [{ base, size: IPV6_SIZE }]) : undefined;
  const shown = (config: IpamConfig | undefined, made: AddressSpace | undefined): IpamConfig[] =>
    made ? [config ? compact(config) : { Subnet: made.subnet, Gateway: made.gateway }] : [];
  return {
    ...rest,
    id,
    created: now,
    driver: 'bridge',
    bridge,
    ingress: false,
    ...(ipv4 && { ipv4 }),
    ...(ipv6 && { ipv6 }),
    ipam: { ...definition.ipam, config: [...shown(subnets[4], ipv4), ...shown(subnets[6], ipv6)] },
  };
}

/** The predefined ones. Their rows keep id and time of creation; the rest follows the configuration. */
export function defaultNetworks(
  { bridge, bip, mtu, ip }: Pick<Config, 'bridge' | 'bip' | 'mtu' | 'ip'>,
  present: Network[],
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

/**
 * Without a gateway of one's choice it is the first address that is not reserved; out of the ip-range, where there is
 * one, as in Docker.
 */
function spaceOf(subnet: Cidr, config: IpamConfig | undefined): AddressSpace {
  const reserved = Object.values(config?.AuxiliaryAddresses ?? {});
  const { lowest, highest } = rangeOf(subnet, config?.IPRange ? cidr(config.IPRange) : undefined);
  let gateway = config?.Gateway ?? '';
  for (let value = lowest; gateway === '' && value <= highest; value++)
    if (!reserved.includes(textOf(value, subnet.family))) gateway = textOf(value, subnet.family);
  if (gateway === '') throw new InvalidParameter(`no address for a gateway in ${masked(subnet)}`);
  return { subnet: masked(subnet), gateway, range: config?.IPRange ?? '', reserved, static: config !== undefined };
}

const compact = (config: IpamConfig): IpamConfig =>
  Object.fromEntries(
    Object.entries(config).filter(([, value]) =>
      typeof value === 'string' ? value !== '' : value && Object.keys(value as object).length > 0,
    ),
  );

/** A daemon's own part of the unique local addresses: RFC 4193, 40 bits that are nobody else's. */
export const localPrefix = (dataRoot: string): string => {
  const hash = createHash('sha256').update(dataRoot).digest('hex');
  return `fd${hash.slice(0, 2)}:${hash.slice(2, 6)}:${hash.slice(6, 10)}::/48`;
};

/** A subnet that holds the host's own name servers would hide them. */
function hostResolvers(): Cidr[] {
  try {
    return parseResolvConf(readFileSync(HOST_FILES.resolvConf, 'utf8'))
      .servers.filter(isIPv4)
      .map((server) => cidr(`${server}/32`));
  } catch {
    return [];
  }
}
