/** Which networks a container will be on: decided at create, without touching anything. */
import { isIPv4, isIPv6 } from 'node:net';
import type { EndpointRequest } from '../containers/config.ts';
import type { Endpoint } from '../containers/container.ts';
import { InvalidParameter } from '../errors.ts';

export interface Planned {
  id: string;
  name: string;
  hostname: string;
}

const MAC = /^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i;
const SHORT_ID = 12;

/** Networks that are always there; what users make behaves otherwise (own addresses, names). */
export const isPredefined = (name: string): boolean => ['bridge', 'host', 'none', 'default'].includes(name);

/** The network that a mode names; undefined when the container shares another's. */
export function networkOf(mode: string): string | undefined {
  if (mode.startsWith('container:')) return undefined;
  return mode === '' || mode === 'default' ? 'bridge' : mode;
}

/** Endpoints without addresses. A network that does not exist is no fault before the start, as in Docker. @throws InvalidParameter with Docker's texts */
export function planEndpoints(mode: string, requests: Record<string, EndpointRequest | null>, container: Planned): Record<string, Endpoint> {
  const faults = Object.entries(requests).flatMap(([name, request]) => {
    const fault = request === null ? 'EndpointsConfig is nil' : faultOf(name, request);
    return fault === undefined ? [] : [`invalid config for network ${name}: ${fault}`];
  });
  if (faults.length > 0) throw new InvalidParameter(joined(faults));
  const network = networkOf(mode);
  if (network === undefined) return {};
  const names = Object.keys(requests);
  const wanted = names.length > 0 ? names.map((name) => [name === 'default' ? 'bridge' : name, requests[name]!] as const) : [[network, {}] as const];
  return Object.fromEntries(wanted.map(([name, request]) => [name, endpoint(name, request, container)]));
}

function endpoint(network: string, request: EndpointRequest, { id, name, hostname }: Planned): Endpoint {
  const dnsNames = isPredefined(network) ? [] : [...new Set([name, ...(request.Aliases ?? []), id.slice(0, SHORT_ID), hostname].filter(Boolean))];
  return {
    network, networkId: request.NetworkID ?? '', request, endpointId: '', gateway: '', ipAddress: '', ipPrefixLen: 0,
    ipv6Gateway: '', globalIPv6Address: '', globalIPv6PrefixLen: 0, macAddress: '', dnsNames,
  };
}

function faultOf(network: string, { IPAMConfig, Aliases, MacAddress }: EndpointRequest): string | undefined {
  const faults: string[] = [];
  const ipv4 = IPAMConfig?.IPv4Address ?? '';
  const ipv6 = IPAMConfig?.IPv6Address ?? '';
  if (isPredefined(network)) {
    if (ipv4 !== '' || ipv6 !== '') faults.push('user-specified IP address is supported on user-defined networks only');
    if ((Aliases ?? []).length > 0) faults.push('network-scoped aliases are only supported for user-defined networks');
  }
  if (ipv4 !== '' && (!isIPv4(ipv4) || ipv4 === '0.0.0.0')) faults.push(`invalid IPv4 address: ${ipv4}`);
  if (ipv6 !== '' && (!isIPv6(ipv6) || ipv6 === '::')) faults.push(`invalid IPv6 address: ${ipv6}`);
  for (const address of IPAMConfig?.LinkLocalIPs ?? []) if (!isIPv4(address) && !isIPv6(address)) faults.push(`invalid link-local IP address: ${address}`);
  if (MacAddress && !MAC.test(MacAddress)) return `invalid MAC address ${MacAddress}`;
  return faults.length > 0 ? `invalid endpoint settings:\n${joined(faults)}` : undefined;
}

/** Several faults as moby lists them. */
const joined = (faults: string[]): string => (faults.length === 1 ? faults[0]! : faults.map((fault) => `* ${fault.replaceAll('\n', '\n\t')}`).join('\n'));
