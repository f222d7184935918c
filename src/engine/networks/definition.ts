/** Validates the request to create a network. Pure functions. */
import { isIP } from 'node:net';
import { Forbidden, InvalidParameter, NotFound, NotImplemented } from '../../model/errors.ts';
import type { BridgeSettings, IpamConfig } from '../../model/network.ts';
import { isPredefined } from '../../model/network.ts';
import { contains, masked, parseCidr, type Cidr } from './subnets.ts';

/** The body of POST /networks/create. */
export interface NetworkRequest {
  Name?: string;
  Driver?: string;
  Scope?: string;
  EnableIPv4?: boolean | null;
  EnableIPv6?: boolean | null;
  IPAM?: { Driver?: string; Options?: Record<string, string> | null; Config?: IpamConfig[] | null } | null;
  Internal?: boolean;
  Attachable?: boolean;
  Ingress?: boolean;
  ConfigOnly?: boolean;
  ConfigFrom?: { Network?: string } | null;
  Options?: Record<string, string> | null;
  Labels?: Record<string, string> | null;
}

export interface Definition {
  name: string;
  enableIPv4: boolean;
  enableIPv6: boolean;
  internal: boolean;
  attachable: boolean;
  ipam: { driver: string; options: Record<string, string> | null };
  /** At most one per IP family. */
  subnets: { 4?: IpamConfig; 6?: IpamConfig };
  options: Record<string, string>;
  labels: Record<string, string>;
  settings: BridgeSettings;
  /** Name of the bridge link; '' = to be chosen. */
  bridge: string;
}

export const OPTION = {
  name: 'com.docker.network.bridge.name',
  icc: 'com.docker.network.bridge.enable_icc',
  masquerade: 'com.docker.network.bridge.enable_ip_masquerade',
  hostIp: 'com.docker.network.bridge.host_binding_ipv4',
  mtu: 'com.docker.network.driver.mtu',
  prefix: 'com.docker.network.container_iface_prefix',
  enableIPv4: 'com.docker.network.enable_ipv4',
  enableIPv6: 'com.docker.network.enable_ipv6',
  mode4: 'com.docker.network.bridge.gateway_mode_ipv4',
  mode6: 'com.docker.network.bridge.gateway_mode_ipv6',
} as const;

/** Docker's answer to what needs a swarm. */
export const NO_MANAGER =
  'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.';
/** What the kernel accepts as a link's name: dev_valid_name() in net/core/dev.c. */
export const LINK_NAME = /^(?!\.\.?$)[^\s/:]{1,15}$/;

/** @throws InvalidParameter, Forbidden, NotFound, NotImplemented with Docker's texts */
export function define(request: NetworkRequest, defaults: { mtu: number; hostIp: string }): Definition {
  const name = request.Name ?? '';
  if (isPredefined(name)) throw new Forbidden(`operation is not permitted on predefined ${name} network `);
  if (name.trim() === '') throw new InvalidParameter('invalid name: name is empty');
  checkDriver(request);
  const given = request.Options ?? {};
  const enableIPv4 = enabled(request.EnableIPv4, given, OPTION.enableIPv4, true);
  const enableIPv6 = enabled(request.EnableIPv6, given, OPTION.enableIPv6, false);
  // The request's own fields override these options.
  const overridden = new Set<string>([
    ...(isSet(request.EnableIPv4) ? [OPTION.enableIPv4] : []),
    ...(isSet(request.EnableIPv6) ? [OPTION.enableIPv6] : []),
  ]);
  const options = Object.fromEntries(Object.entries(given).filter(([key]) => !overridden.has(key)));
  const configs = request.IPAM?.Config ?? [];
  checkIpam(configs, enableIPv6);
  if (!enableIPv4 && !enableIPv6) throw new InvalidParameter('IPv4 or IPv6 must be enabled');
  const ipamDriver = request.IPAM?.Driver || 'default';
  if (ipamDriver !== 'default') throw new NotFound(`plugin ${JSON.stringify(ipamDriver)} not found`);
  const [subnet4, subnet6] = [onlyConfig(configs, 4), onlyConfig(configs, 6)];
  return {
    name,
    enableIPv4,
    enableIPv6,
    internal: request.Internal ?? false,
    attachable: request.Attachable ?? false,
    ipam: { driver: ipamDriver, options: request.IPAM ? (request.IPAM.Options ?? null) : {} },
    subnets: {
      ...(enableIPv4 && subnet4 ? { 4: subnet4 } : {}),
      ...(enableIPv6 && subnet6 ? { 6: subnet6 } : {}),
    },
    options,
    labels: request.Labels ?? {},
    settings: settingsOf(options, defaults),
    bridge: linkName(options[OPTION.name] ?? ''),
  };
}

function checkDriver({
  Driver: driver = '',
  Scope: scope = '',
  Ingress,
  ConfigOnly,
  ConfigFrom,
}: NetworkRequest): void {
  if (Ingress) throw new Forbidden('Ingress network can only be global scope network');
  if (driver === 'overlay') throw new Forbidden(NO_MANAGER);
  if (scope === 'swarm') throw new Forbidden('cannot create a swarm scoped network when swarm is not active');
  if (driver === 'host' || driver === 'null')
    throw new Forbidden(`only one instance of "${driver}" network is allowed`);
  if (driver !== '' && driver !== 'bridge') throw new NotFound(`plugin "${driver}" not found`);
  if (ConfigOnly) throw new NotImplemented('configuration-only networks are not supported');
  if (ConfigFrom?.Network)
    throw new NotFound(`configuration network ${JSON.stringify(ConfigFrom.Network)} does not exist`);
}

const isSet = (value: boolean | null | undefined): value is boolean => value !== null && value !== undefined;

function enabled(
  requested: boolean | null | undefined,
  options: Record<string, string>,
  key: string,
  fallback: boolean,
): boolean {
  if (isSet(requested)) return requested;
  const given = options[key];
  if (given === undefined) return fallback;
  const value = goBoolean(given);
  if (value === undefined) throw new InvalidParameter(`driver-opt "${key}" is not a valid bool`);
  return value;
}

/** As Go's strconv.ParseBool; undefined when it is no boolean. */
export function goBoolean(text: string): boolean | undefined {
  if (['1', 't', 'T', 'TRUE', 'true', 'True'].includes(text)) return true;
  return ['0', 'f', 'F', 'FALSE', 'false', 'False'].includes(text) ? false : undefined;
}

function settingsOf(options: Record<string, string>, defaults: { mtu: number; hostIp: string }): BridgeSettings {
  const refuse = (key: string, why: string): never => {
    throw new InvalidParameter(`failed to parse ${key} value: ${options[key]} (${why})`);
  };
  const flag = (key: string, fallback: boolean): boolean => {
    const text = options[key];
    if (text === undefined) return fallback;
    return goBoolean(text) ?? refuse(key, `strconv.ParseBool: parsing ${JSON.stringify(text)}: invalid syntax`);
  };
  for (const key of [OPTION.mode4, OPTION.mode6])
    if (!['', 'nat'].includes(options[key] ?? ''))
      throw new NotImplemented(`${key}=${options[key]} is not supported: only nat is`);
  const mtu = options[OPTION.mtu] ?? '';
  if (mtu !== '' && !/^[+-]?\d+$/.test(mtu))
    refuse(OPTION.mtu, `strconv.Atoi: parsing ${JSON.stringify(mtu)}: invalid syntax`);
  if (Number(mtu) < 0) throw new InvalidParameter(`invalid MTU number: ${Number(mtu)}`);
  const hostIp = options[OPTION.hostIp] ?? '';
  if (hostIp !== '' && isIP(hostIp) === 0) refuse(OPTION.hostIp, 'nil ip');
  const explicitHostIp = hostIp === '0.0.0.0' ? '' : hostIp;
  return {
    icc: flag(OPTION.icc, true),
    masquerade: flag(OPTION.masquerade, true),
    mtu: Number(mtu) || defaults.mtu,
    hostIp: hostIp === '' ? defaults.hostIp : explicitHostIp,
    linkPrefix: options[OPTION.prefix] || 'eth',
  };
}

function linkName(name: string): string {
  if (name !== '' && !LINK_NAME.test(name))
    throw new InvalidParameter(
      `invalid bridge name ${JSON.stringify(name)}: a link's name has 1 to 15 characters, without spaces, slashes and colons`,
    );
  return name;
}

/** The one config of the family, if any. @throws InvalidParameter when there are several */
function onlyConfig(configs: IpamConfig[], family: 4 | 6): IpamConfig | undefined {
  const found = configs.filter(({ Subnet }) => parseCidr(Subnet ?? '')?.family === family);
  if (found.length > 1) throw new InvalidParameter("bridge driver doesn't support multiple subnets");
  return found[0];
}

/** Reports all faults at once, as moby's api/types/network/ipam.go. */
function checkIpam(configs: IpamConfig[], enableIPv6: boolean): void {
  const faults = configs.flatMap(({ Subnet: text = '', IPRange, Gateway, AuxiliaryAddresses }) => {
    const subnet = parseCidr(text);
    if (!subnet) return [`invalid subnet ${text}: invalid CIDR block notation`];
    if (subnet.family === 6 && !enableIPv6) return [];
    const address = (what: string, value: string | undefined): string[] => {
      const fault = value ? addressFault(value, subnet) : undefined;
      return fault ? [`${what}: ${fault}`] : [];
    };
    return [
      ...(subnet.address === subnet.first ? [] : [`invalid subnet ${text}: it should be ${masked(subnet)}`]),
      ...rangeFaults(IPRange ?? '', subnet),
      ...address(`invalid gateway ${Gateway}`, Gateway),
      ...Object.entries(AuxiliaryAddresses ?? {}).flatMap(([name, value]) =>
        address(`invalid auxiliary address ${name}`, value),
      ),
    ];
  });
  if (faults.length > 0) throw new InvalidParameter(`invalid network config:\n${listed(faults)}`);
}

function rangeFaults(text: string, subnet: Cidr): string[] {
  if (text === '') return [];
  const range = parseCidr(text);
  if (!range) return [`invalid ip-range ${text}: invalid CIDR block notation`];
  if (range.family !== subnet.family)
    return [`invalid ip-range ${text}: parent subnet is an IPv${subnet.family} block`];
  return [
    ...(range.prefix < subnet.prefix
      ? [`invalid ip-range ${text}: CIDR block is bigger than its parent subnet ${masked(subnet)}`]
      : []),
    ...(range.address === range.first ? [] : [`invalid ip-range ${text}: it should be ${masked(range)}`]),
    ...(range.first <= subnet.last && subnet.first <= range.last
      ? []
      : [`invalid ip-range ${text}: parent subnet ${masked(subnet)} doesn't contain ip-range`]),
  ];
}

function addressFault(address: string, subnet: Cidr): string | undefined {
  if (isIP(address) === 0) return 'invalid address';
  if (isIP(address) !== subnet.family) return `parent subnet is an IPv${subnet.family} block`;
  return contains(subnet, address) ? undefined : `parent subnet ${masked(subnet)} doesn't contain this address`;
}

/** Several faults in the layout of Go's multierror in moby. */
export const listed = (faults: string[]): string =>
  faults.length === 1 ? faults[0]! : faults.map((fault) => `* ${fault.replaceAll('\n', '\n\t')}`).join('\n');
