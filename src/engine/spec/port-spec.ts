/** The ports of a create request: exposed (`ExposedPorts`) and published (`PortBindings`). */
import { isIP } from 'node:net';
import { InvalidParameter } from '../../model/errors.ts';
import type { ContainerConfig, HostConfig, PortBinding } from '../../model/container-config.ts';
import { asSent } from './as-sent.ts';

const PROTOCOLS = new Set(['tcp', 'udp', 'sctp']);
const MAX_PORT = 65535;

/** `80`, `80/tcp`, `53/UDP` → `80/tcp`, `53/udp`. @throws InvalidParameter */
export function portKey(text: string): string {
  const { first, last, protocol } = portRange(text);
  if (first !== last) throw new InvalidParameter(`invalid port specification: ${JSON.stringify(text.split('/')[0])}`);
  return `${first}/${protocol}`;
}

/** `90-92/tcp` → `90/tcp`, `91/tcp`, `92/tcp`; a range has one port at least. @throws InvalidParameter */
function portKeys(text: string): string[] {
  const { first, last, protocol } = portRange(text);
  return Array.from({ length: last - first + 1 }, (_, i) => `${first + i}/${protocol}`);
}

function portRange(text: string): { first: number; last: number; protocol: string } {
  const [range = '', protocol = 'tcp', ...more] = text.split('/');
  const [first = '', last = first, ...rest] = range.split('-');
  const isRange =
    rest.length === 0 && isPort(first) && isPort(last) && 0 < Number(first) && Number(first) <= Number(last);
  if (more.length > 0 || !isRange) throw new InvalidParameter(`invalid port specification: ${JSON.stringify(range)}`);
  const known = protocol.toLowerCase() || 'tcp';
  if (!PROTOCOLS.has(known)) throw new InvalidParameter(`invalid proto: ${protocol}`);
  return { first: Number(first), last: Number(last), protocol: known };
}

/**
 * The ports with normalized keys; undefined if there are none. A range, which builders write for `EXPOSE 90-92`,
 * becomes its ports. @throws InvalidParameter
 */
export function exposedPorts(ports: ContainerConfig['ExposedPorts']): ContainerConfig['ExposedPorts'] {
  const keys = Object.keys(ports ?? {});
  return keys.length ? Object.fromEntries(keys.flatMap(portKeys).map((key) => [key, {}])) : undefined;
}

/** Normalizes the keys and completes the entries. @throws InvalidParameter `invalid port specification: "x"` */
export function portBindings(bindings: HostConfig['PortBindings'] | null | undefined): HostConfig['PortBindings'] {
  return Object.fromEntries(
    Object.entries(bindings ?? {}).map(([key, list]) => {
      const checked = list?.map(checkedBinding) ?? null;
      return [portKey(key), checked];
    }),
  );
}

function checkedBinding(binding: PortBinding): PortBinding {
  const HostIp = asSent(binding).HostIp ?? '';
  const HostPort = asSent(binding).HostPort ?? '';
  if (HostIp && isIP(HostIp.replace(/^\[(.*)\]$/, '$1')) === 0)
    throw new InvalidParameter(`invalid IP address: ${HostIp}`);
  if (!isHostPort(HostPort)) throw new InvalidParameter(`invalid port specification: ${JSON.stringify(HostPort)}`);
  return { HostIp, HostPort };
}

const isPort = (text: string): boolean => /^\d{1,5}$/.test(text) && Number(text) <= MAX_PORT;

/** A port, a range to pick one from, or '' and 0 for any. */
function isHostPort(text: string): boolean {
  if (text === '') return true;
  const [first = '', last = first, ...more] = text.split('-');
  return more.length === 0 && isPort(first) && isPort(last) && Number(first) <= Number(last);
}
