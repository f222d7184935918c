/** Published ports: what was asked for, and which host ports it becomes. */
import { isIPv6 } from 'node:net';
import type { HeldPort } from '../../protocol/spec.ts';
import type { BoundPort } from '../../model/container.ts';
import type { ContainerConfig, HostConfig } from '../../model/container-config.ts';

export type Protocol = 'tcp' | 'udp' | 'sctp';

/** One binding as asked for: a container's port on one host address, at a host port of a range. */
export interface PortRequest {
  protocol: Protocol;
  containerPort: number;
  /** '' = every address of the host. */
  hostIp: string;
  /** First and last; 0 = any. */
  start: number;
  end: number;
}

/** Bindings that differ in their host address only: they get the same host port. */
export interface PortGroup {
  protocol: Protocol;
  containerPort: number;
  hostIps: string[];
  start: number;
  end: number;
}

/** A port that is taken. The text is Docker's. */
export class PortTaken extends Error {}

const PROTOCOLS: readonly string[] = ['tcp', 'udp', 'sctp'];
const MAX_PORT = 65535;
// How many host ports of the ephemeral range are tried, when other processes keep taking them.
const ATTEMPTS = 100;

/** What a container publishes. */
export function portRequests(
  config: Pick<ContainerConfig, 'ExposedPorts'>,
  hostConfig: Pick<HostConfig, 'PortBindings' | 'PublishAllPorts'>,
): PortRequest[] {
  const bindings = new Map(
    Object.entries(hostConfig.PortBindings ?? {}).flatMap(([key, list]) =>
      containerPorts(key).map((port) => [port, list ?? []] as const),
    ),
  );
  const exposed = Object.keys(config.ExposedPorts ?? {}).flatMap(containerPorts);
  return [...new Set([...exposed, ...bindings.keys()])].flatMap((key) => {
    const { port, protocol } = splitPort(key);
    const base = { protocol: protocol as Protocol, containerPort: Number(port) };
    const asked = bindings.get(key) ?? [];
    if (asked.length === 0) return hostConfig.PublishAllPorts ? [{ ...base, hostIp: '', start: 0, end: 0 }] : [];
    return asked.map(({ HostIp, HostPort }) => {
      const [start, end] = parseRange(splitPort(HostPort ?? '').port) ?? [0, 0];
      return { ...base, hostIp: (HostIp ?? '').replace(/^\[(.*)\]$/, '$1'), start, end };
    });
  });
}

/**
 * Requests in the order in which ports are given (exact ones first, so that no range takes them), those that need the
 * same port together.
 */
export function groupRequests(requests: PortRequest[], defaults: { hostIp: string; ipv6: boolean }): PortGroup[] {
  const groups: PortGroup[] = [];
  for (const request of [...requests].sort(compareRequests)) {
    // Nobody forwards SCTP from IPv6 to IPv4.
    const hostIps = hostAddresses(request.hostIp, { ...defaults, ipv6: defaults.ipv6 && request.protocol !== 'sctp' });
    const last = groups.at(-1);
    if (
      last &&
      last.protocol === request.protocol &&
      last.containerPort === request.containerPort &&
      last.start === request.start &&
      last.end === request.end &&
      !hostIps.some((ip) => last.hostIps.includes(ip))
    )
      last.hostIps.push(...hostIps);
    else
      groups.push({
        protocol: request.protocol,
        containerPort: request.containerPort,
        hostIps,
        start: request.start,
        end: request.end,
      });
  }
  return groups
    .filter((group) => group.hostIps.length > 0)
    .map((group) => ({ ...group, hostIps: group.hostIps.sort((a, b) => Number(isIPv6(a)) - Number(isIPv6(b))) }));
}

/** '' means the default address; where that is 0.0.0.0, :: as well. */
function hostAddresses(hostIp: string, { hostIp: fallback, ipv6 }: { hostIp: string; ipv6: boolean }): string[] {
  if (hostIp !== '') return [plainAddress(hostIp)];
  const address = fallback || '0.0.0.0';
  return address === '0.0.0.0' && ipv6 ? ['0.0.0.0', '::'] : [address];
}

/** IPv6 in its shortest form, IPv4 out of its IPv6 disguise. */
function plainAddress(address: string): string {
  if (!isIPv6(address)) return address;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  return mapped ? mapped[1]! : new URL(`http://[${address}]`).hostname.slice(1, -1);
}

function compareRequests(a: PortRequest, b: PortRequest): number {
  const isRange = (r: PortRequest): number => Number(r.start === 0 || r.start !== r.end);
  return (
    isRange(a) - isRange(b) ||
    a.containerPort - b.containerPort ||
    PROTOCOLS.indexOf(a.protocol) - PROTOCOLS.indexOf(b.protocol) ||
    a.start - b.start ||
    a.end - b.end ||
    (a.hostIp < b.hostIp ? -1 : Number(a.hostIp > b.hostIp))
  );
}

/** `80/tcp` → port and protocol; the protocol is tcp when none is named. */
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
  /** Host ports given where none was named. */
  ephemeral: readonly [first: number, last: number];
  /** How far into them the first one is looked for. */
  offset?: number;
  /** Whether another process has it: undefined = free, else why not, in Go's words. */
  probe: (protocol: Protocol, address: string, port: number) => string | undefined;
}

interface Taken {
  protocol: Protocol;
  address: string;
  port: number;
}

/** Which host ports this daemon's containers have. */
export class PortTable {
  readonly #held = new Map<string, Taken[]>();
  readonly #taken = new Map<string, Set<string>>();
  readonly #last = new Map<string, number>();

  constructor(private readonly options: PortTableOptions) {}

  /** Notes ports that `holder` already has. */
  hold(holder: string, ports: Taken[]): void {
    this.#held.set(holder, [...(this.#held.get(holder) ?? []), ...ports]);
    for (const { protocol, port, address } of ports) {
      const addresses = this.#addresses(protocol, port);
      addresses.add(address);
      this.#taken.set(`${protocol} ${port}`, addresses);
    }
  }

  release(holder: string): void {
    for (const { protocol, port, address } of this.#held.get(holder) ?? []) {
      const addresses = this.#addresses(protocol, port);
      addresses.delete(address);
      if (addresses.size === 0) this.#taken.delete(`${protocol} ${port}`);
    }
    this.#held.delete(holder);
  }

  /** A host port for the group, free on all its addresses; it is `holder`'s from now on.
   *  @param target the container's address, for the error's text. @throws PortTaken */
  allocate(holder: string, group: PortGroup, target: string): number {
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
        this.hold(
          holder,
          group.hostIps.map((address) => ({ protocol: group.protocol, address, port })),
        );
        this.#last.set(rangeKey(group), port);
        return port;
      }
      reason = `failed to bind host port ${exact ? '' : `${port} `}for ${describe(group, refusal.address, target)}: ${refusal.why}`;
    }
    throw new PortTaken(reason);
  }

  *#candidates(group: PortGroup): Generator<number> {
    const [first, last] = group.start === 0 ? this.options.ephemeral : [group.start, group.end];
    const count = last - first + 1;
    const previous = this.#last.get(rangeKey(group));
    const from = previous !== undefined ? previous + 1 - first : group.start === 0 ? (this.options.offset ?? 0) : 0;
    let tries = 0;
    for (let i = 0; i < count; i++) {
      const port = first + ((from + i) % count);
      yield port;
      if (group.start === 0 && this.#conflict(group, port) === undefined && ++tries >= ATTEMPTS) return;
    }
  }

  // An unspecified address collides with every one of its family, and they with it.
  #conflict({ protocol, hostIps }: PortGroup, port: number): string | undefined {
    const taken = this.#addresses(protocol, port);
    for (const address of hostIps) {
      const any = isIPv6(address) ? '::' : '0.0.0.0';
      for (const other of taken) {
        if (other === address || other === any || (address === any && isIPv6(other) === isIPv6(address))) return other;
      }
    }
    return undefined;
  }

  #addresses(protocol: Protocol, port: number): Set<string> {
    return this.#taken.get(`${protocol} ${port}`) ?? new Set<string>();
  }
}

const rangeKey = ({ protocol, hostIps, start, end }: PortGroup): string => `${protocol} ${hostIps[0]} ${start}-${end}`;

function describe({ protocol, containerPort, start, end }: PortGroup, address: string, target: string): string {
  const host = isIPv6(address) ? `[${address}]` : address;
  const range = start === 0 ? '' : start === end ? `${start}` : `${start}-${end}`;
  return `${host}:${range}:${target}:${containerPort}/${protocol}`;
}

/** A published port; `proxied` when the proxy process listens on it, and so holds it itself. */
export type PublishedPort = BoundPort & { proxied?: boolean };

/**
 * The host ports that a container's keeper holds, so that nobody else takes them: rules of the kernel alone would not
 * keep another process from listening there.
 */
export const heldPorts = (bound: PublishedPort[]): HeldPort[] =>
  bound.flatMap(({ protocol, hostIp, hostPort, proxied }) =>
    proxied || protocol === 'sctp' ? [] : [{ protocol, address: hostIp, port: hostPort }],
  );
