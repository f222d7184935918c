/** Published ports: the requested bindings, and the host ports they get. */
import { isIPv6 } from 'node:net';
import type { HeldPort } from '../../protocol/spec.ts';
import type { BoundPort } from '../../model/container.ts';
import type { ContainerConfig, HostConfig } from '../../model/container-config.ts';

export type Protocol = 'tcp' | 'udp' | 'sctp';

/** One requested binding: a container's port on one host address, at a host port from a range. */
export interface PortRequest {
  protocol: Protocol;
  containerPort: number;
  /** '' = all addresses of the host. */
  hostIp: string;
  /** First and last; 0 = any. */
  start: number;
  end: number;
}

/** Bindings that differ in their host address only; they get the same host port. */
export interface PortGroup {
  protocol: Protocol;
  containerPort: number;
  hostIps: string[];
  start: number;
  end: number;
}

/** A host port cannot be had. The text is Docker's. */
export class PortTaken extends Error {}

const PROTOCOLS: readonly string[] = ['tcp', 'udp', 'sctp'];
const MAX_PORT = 65535;
/** How many ports of the ephemeral range are probed before giving up. */
const MAX_PROBES = 100;

/** The bindings a container publishes. */
export function portRequests(
  config: Pick<ContainerConfig, 'ExposedPorts'>,
  hostConfig: Pick<HostConfig, 'PortBindings' | 'PublishAllPorts'>,
): PortRequest[] {
  const bindings = new Map(
    Object.entries(hostConfig.PortBindings).flatMap(([key, list]) =>
      containerPorts(key).map((port) => [port, list ?? []] as const),
    ),
  );
  const exposed = Object.keys(config.ExposedPorts ?? {}).flatMap(containerPorts);
  return [...new Set([...exposed, ...bindings.keys()])].flatMap((key) => {
    const { port, protocol } = splitPort(key);
    const base = { protocol: protocol as Protocol, containerPort: Number(port) };
    const requested = bindings.get(key) ?? [];
    if (requested.length === 0) return hostConfig.PublishAllPorts ? [{ ...base, hostIp: '', start: 0, end: 0 }] : [];
    return requested.map(({ HostIp, HostPort }) => {
      const [start, end] = parseRange(splitPort(HostPort).port) ?? [0, 0];
      return { ...base, hostIp: HostIp.replace(/^\[(.*)\]$/, '$1'), start, end };
    });
  });
}

/**
 * Groups requests that need the same host port, in the order of allocation: exact ports first, so that no range takes
 * them.
 */
export function groupRequests(requests: PortRequest[], defaults: { hostIp: string; ipv6: boolean }): PortGroup[] {
  const groups: PortGroup[] = [];
  for (const { hostIp, ...request } of [...requests].sort(compareRequests)) {
    // Neither the kernel nor the proxy forwards SCTP from IPv6 to IPv4.
    const hostIps = hostAddresses(hostIp, { ...defaults, ipv6: defaults.ipv6 && request.protocol !== 'sctp' });
    const last = groups.at(-1);
    const overlaps = hostIps.some((ip) => last?.hostIps.includes(ip));
    if (last && !overlaps && samePorts(last, request)) last.hostIps.push(...hostIps);
    else groups.push({ ...request, hostIps });
  }
  return groups
    .filter((group) => group.hostIps.length > 0)
    .map((group) => ({ ...group, hostIps: group.hostIps.sort((a, b) => Number(isIPv6(a)) - Number(isIPv6(b))) }));
}

type Ports = Omit<PortRequest, 'hostIp'>;

const samePorts = (a: Ports, b: Ports): boolean =>
  a.protocol === b.protocol && a.containerPort === b.containerPort && a.start === b.start && a.end === b.end;

/** '' means the default address, and :: too when that is 0.0.0.0. */
function hostAddresses(hostIp: string, { hostIp: fallback, ipv6 }: { hostIp: string; ipv6: boolean }): string[] {
  if (hostIp !== '') return [plainAddress(hostIp)];
  const address = fallback || '0.0.0.0';
  return address === '0.0.0.0' && ipv6 ? ['0.0.0.0', '::'] : [address];
}

/** IPv6 in its shortest form; an IPv4-mapped IPv6 address as IPv4. */
function plainAddress(address: string): string {
  if (!isIPv6(address)) return address;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  return mapped ? mapped[1]! : new URL(`http://[${address}]`).hostname.slice(1, -1);
}

function compareRequests(a: PortRequest, b: PortRequest): number {
  const isRange = ({ start, end }: PortRequest): number => Number(start === 0 || start !== end);
  return (
    isRange(a) - isRange(b) ||
    a.containerPort - b.containerPort ||
    PROTOCOLS.indexOf(a.protocol) - PROTOCOLS.indexOf(b.protocol) ||
    a.start - b.start ||
    a.end - b.end ||
    (a.hostIp < b.hostIp ? -1 : Number(a.hostIp > b.hostIp))
  );
}

/** `80/tcp` → port and protocol; tcp is the default. */
function splitPort(text: string): { port: string; protocol: string } {
  const [port, protocol] = text.split('/');
  return { port: port!, protocol: (protocol || 'tcp').toLowerCase() };
}

function parseRange(text: string): [start: number, end: number] | undefined {
  if (text === '') return [0, 0];
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text);
  if (!match) return undefined;
  const start = Number(match[1]);
  const end = Number(match[2] ?? match[1]);
  return start <= end && end <= MAX_PORT ? [start, end] : undefined;
}

/** `8000-8002/tcp` → `8000/tcp`, `8001/tcp`, `8002/tcp`. */
function containerPorts(key: string): string[] {
  const { port, protocol } = splitPort(key);
  const range = parseRange(port);
  if (!range || range[0] === 0 || !PROTOCOLS.includes(protocol)) return [];
  return Array.from({ length: range[1] - range[0] + 1 }, (_, i) => `${range[0] + i}/${protocol}`);
}

export interface PortTableOptions {
  /** The host ports from which one is chosen when the request names none. */
  ephemeral: readonly [first: number, last: number];
  /** Where in this range the search begins. */
  offset?: number;
  /** Why another process keeps the port from being bound, worded like Go; undefined when it is free. */
  probe: (protocol: Protocol, address: string, port: number) => string | undefined;
}

interface HostPort {
  protocol: Protocol;
  address: string;
  port: number;
}

/** The host ports of this daemon's containers. */
export class PortTable {
  /** By owner: the container's id. */
  readonly #claims = new Map<string, HostPort[]>();
  /** The addresses on which a port is taken, by protocol and port. */
  readonly #taken = new Map<string, Set<string>>();
  /** The port allocated last, by range: the next search begins behind it. */
  readonly #last = new Map<string, number>();

  constructor(private readonly options: PortTableOptions) {}

  /** Records ports that `owner` uses. */
  claim(owner: string, ports: HostPort[]): void {
    this.#claims.set(owner, [...(this.#claims.get(owner) ?? []), ...ports]);
    for (const { protocol, port, address } of ports) {
      const addresses = this.#addresses(protocol, port);
      addresses.add(address);
      this.#taken.set(`${protocol} ${port}`, addresses);
    }
  }

  /** Frees all ports of `owner`. */
  release(owner: string): void {
    for (const { protocol, port, address } of this.#claims.get(owner) ?? []) {
      const addresses = this.#addresses(protocol, port);
      addresses.delete(address);
      if (addresses.size === 0) this.#taken.delete(`${protocol} ${port}`);
    }
    this.#claims.delete(owner);
  }

  /**
   * Claims a host port that is free on all addresses of the group.
   * @param target the container's address, for the error text
   * @throws PortTaken
   */
  allocate(owner: string, group: PortGroup, target: string): number {
    const exact = group.start !== 0 && group.start === group.end;
    let reason = 'all ports are allocated';
    for (const port of this.#candidates(group)) {
      const conflict = this.#conflict(group, port);
      if (conflict !== undefined) {
        if (exact) throw new PortTaken(`Bind for ${conflict}:${port} failed: port is already allocated`);
        continue;
      }
      const refusal = group.hostIps
        .map((address) => ({ address, why: this.options.probe(group.protocol, address, port) }))
        .find(({ why }) => why !== undefined);
      if (refusal === undefined) {
        this.claim(
          owner,
          group.hostIps.map((address) => ({ protocol: group.protocol, address, port })),
        );
        this.#last.set(rangeKey(group), port);
        return port;
      }
      const binding = describe(group, refusal.address, target);
      reason = `failed to bind host port ${exact ? '' : `${port} `}for ${binding}: ${refusal.why}`;
    }
    throw new PortTaken(reason);
  }

  /** The ports to try, round-robin. Of the ephemeral range at most MAX_PROBES that no container has. */
  *#candidates(group: PortGroup): Generator<number> {
    const isEphemeral = group.start === 0;
    const [first, last] = isEphemeral ? this.options.ephemeral : [group.start, group.end];
    const count = last - first + 1;
    const previous = this.#last.get(rangeKey(group));
    const initial = isEphemeral ? (this.options.offset ?? 0) : 0;
    const from = previous === undefined ? initial : previous + 1 - first;
    let probes = 0;
    for (let i = 0; i < count; i++) {
      const port = first + ((from + i) % count);
      yield port;
      if (isEphemeral && this.#conflict(group, port) === undefined) probes++;
      if (probes >= MAX_PROBES) return;
    }
  }

  /** The address on which a container has the port already. */
  #conflict({ protocol, hostIps }: PortGroup, port: number): string | undefined {
    const taken = [...this.#addresses(protocol, port)];
    return hostIps
      .map((address) => taken.find((other) => collide(address, other)))
      .find((other) => other !== undefined);
  }

  #addresses(protocol: Protocol, port: number): Set<string> {
    return this.#taken.get(`${protocol} ${port}`) ?? new Set<string>();
  }
}

/** An unspecified address (0.0.0.0, ::) collides with every address of its family. */
function collide(a: string, b: string): boolean {
  const unspecified = isIPv6(a) ? '::' : '0.0.0.0';
  return a === b || (isIPv6(a) === isIPv6(b) && (a === unspecified || b === unspecified));
}

/** As Docker writes a range: '' for any port. */
function rangeText(start: number, end: number): string {
  if (start === 0) return '';
  return start === end ? `${start}` : `${start}-${end}`;
}

const rangeKey = ({ protocol, hostIps, start, end }: PortGroup): string => `${protocol} ${hostIps[0]} ${start}-${end}`;

function describe({ protocol, containerPort, start, end }: PortGroup, address: string, target: string): string {
  const host = isIPv6(address) ? `[${address}]` : address;
  return `${host}:${rangeText(start, end)}:${target}:${containerPort}/${protocol}`;
}

/** A published port; `proxied` when the port proxy listens on it. */
export type PublishedPort = BoundPort & { proxied?: boolean };

/**
 * The host ports that the shim's keeper binds. The kernel's rules redirect packets before they reach a socket, so they
 * do not keep another process from binding the port.
 */
export const heldPorts = (bound: PublishedPort[]): HeldPort[] =>
  bound.flatMap(({ protocol, hostIp, hostPort, proxied }) =>
    proxied || protocol === 'sctp' ? [] : [{ protocol, address: hostIp, port: hostPort }],
  );
