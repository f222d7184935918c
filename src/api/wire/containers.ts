/** JSON of containers. */
import type { Container, Endpoint } from '../../model/container.ts';
import { isPredefined } from '../../model/network.ts';
import { shortId } from '../../model/short-id.ts';
import { portTable } from '../../engine/containers/views/port-listing.ts';
import { describeStatus, dockerStatus, healthOf, isRunning } from '../../model/container-status.ts';
import { rfc3339, unixSeconds } from '../../engine/time.ts';
import { wire, type Schemas, type Supports } from './schemas.ts';

/** Bytes of a container's writable layer, and of its whole rootfs. */
export interface Sizes {
  rw: number;
  rootFs: number;
}

/** What a summary says about a container besides its own record. */
export interface SummaryExtra {
  /** The image as named at creation, or its id once that name refers to another image. */
  imageName: string;
  /** `/parent/alias` of each link to it. */
  linkNames: string[];
  /** Wall clock, nanoseconds. */
  now: bigint;
  supports: Supports;
  sizes: Sizes | undefined;
}

/** What inspect says about a container besides its own record. */
export interface InspectExtra {
  supports: Supports;
  execIds: string[];
  logPath: string;
  directory: string;
  graphDriver: Schemas['GraphDriver'];
  sizes: Sizes | undefined;
}

/** An item of GET /containers/json. */
export function containerSummary(
  c: Container,
  { imageName, linkNames, now, supports, sizes }: SummaryExtra,
): Schemas['ContainerSummary'] {
  return {
    Id: c.id,
    Names: [`/${c.name}`, ...linkNames].sort(),
    Image: imageName,
    ImageID: c.imageId,
    Command: [c.path, ...c.args].map((word) => (word.includes(' ') ? `'${word}'` : word)).join(' '),
    Created: unixSeconds(c.created),
    Ports: summaryPorts(c),
    ...sizeFields(sizes),
    Labels: c.config.Labels,
    State: dockerStatus(c),
    Status: describeStatus(c, now),
    HostConfig: {
      NetworkMode: c.hostConfig.NetworkMode,
      Annotations: supports('1.46') ? (c.hostConfig.Annotations ?? undefined) : undefined,
    },
    NetworkSettings: { Networks: endpoints(c) },
    Mounts: mounts(c),
  };
}

export function containerInspect(c: Container, extra: InspectExtra): Schemas['ContainerInspect'] {
  const bridge = c.endpoints.bridge;
  const file = (name: string): string => `${extra.directory}/${name}`;
  return {
    Id: c.id,
    Created: rfc3339(c.created),
    Path: c.path,
    Args: c.args,
    State: containerState(c),
    Image: c.imageId,
    ResolvConfPath: file('resolv.conf'),
    HostnamePath: file('hostname'),
    HostsPath: file('hosts'),
    LogPath: extra.logPath,
    Name: `/${c.name}`,
    RestartCount: c.state.restartCount,
    Driver: 'overlay2',
    Platform: c.platform,
    MountLabel: '',
    ProcessLabel: '',
    AppArmorProfile: c.appArmorProfile,
    ExecIDs: extra.execIds.length > 0 ? extra.execIds : null,
    HostConfig: wire(c.hostConfig),
    GraphDriver: extra.graphDriver,
    ...sizeFields(extra.sizes),
    Mounts: mounts(c),
    // Go marshals a nil slice as null.
    Config: { ...wire(c.config), Env: c.config.Env.length > 0 ? c.config.Env : null },
    NetworkSettings: {
      Bridge: '',
      SandboxID: c.netns === '' ? '' : c.id,
      HairpinMode: false,
      LinkLocalIPv6Address: '',
      LinkLocalIPv6PrefixLen: 0,
      Ports: isRunning(c) ? ports(c) : {},
      SandboxKey: c.netns,
      SecondaryIPAddresses: null,
      SecondaryIPv6Addresses: null,
      EndpointID: bridge?.endpointId ?? '',
      Gateway: bridge?.gateway ?? '',
      GlobalIPv6Address: bridge?.globalIPv6Address ?? '',
      GlobalIPv6PrefixLen: bridge?.globalIPv6PrefixLen ?? 0,
      IPAddress: bridge?.ipAddress ?? '',
      IPPrefixLen: bridge?.ipPrefixLen ?? 0,
      IPv6Gateway: bridge?.ipv6Gateway ?? '',
      MacAddress: bridge?.macAddress ?? '',
      Networks: extra.supports('1.45') ? endpoints(c) : withShortIds(endpoints(c), c),
    },
  };
}

export const containerCreated = (created: { id: string; warnings: string[] }): Schemas['ContainerCreateResponse'] => ({
  Id: created.id,
  Warnings: created.warnings,
});

export const containersPruned = (pruned: {
  deleted: string[];
  reclaimed: number;
}): Schemas['ContainerPruneResponse'] => ({
  ContainersDeleted: pruned.deleted.length > 0 ? pruned.deleted : null,
  SpaceReclaimed: pruned.reclaimed,
});

export const containerUpdated = (warnings: string[]): Schemas['ContainerUpdateResponse'] => ({
  Warnings: warnings.length > 0 ? warnings : null,
});

function containerState(c: Container): Schemas['ContainerState'] {
  const { state } = c;
  const status = dockerStatus(c);
  return {
    Status: status,
    Running: isRunning(c),
    Paused: status === 'paused',
    Restarting: status === 'restarting',
    OOMKilled: state.oomKilled,
    Dead: c.phase === 'dead',
    Pid: status === 'restarting' ? 0 : state.pid,
    ExitCode: state.exitCode,
    Error: c.damaged ?? state.error,
    StartedAt: rfc3339(state.startedAt),
    FinishedAt: rfc3339(state.finishedAt),
    Health: healthState(c),
  };
}

/** Docker's State.Running, which is also true while paused or between restarts. */

function healthState(c: Container): Schemas['ContainerState']['Health'] {
  const { health } = c.state;
  if (!health) return undefined;
  const log = health.log.map(({ start, end, exitCode, output }) => ({
    Start: rfc3339(start),
    End: rfc3339(end),
    ExitCode: exitCode,
    Output: output,
  }));
  return { Status: healthOf(c), FailingStreak: health.streak, Log: log };
}

const sizeFields = (sizes: Sizes | undefined): { SizeRw?: number; SizeRootFs?: number } =>
  sizes ? { SizeRw: sizes.rw, SizeRootFs: sizes.rootFs } : {};

const endpoints = (c: Container): Record<string, Schemas['EndpointState']> =>
  Object.fromEntries(Object.entries(c.endpoints).map(([name, e]) => [name, endpoint(e)]));

/** Before API 1.45, the aliases on user-defined networks had the short id and the host name too. */
const withShortIds = (all: ReturnType<typeof endpoints>, { id, config }: Container): ReturnType<typeof endpoints> =>
  Object.fromEntries(
    Object.entries(all).map(([name, e]) => {
      const aliases = [...new Set([...(e.Aliases ?? []), shortId(id), config.Hostname])];
      return [name, isPredefined(name) ? e : { ...e, Aliases: aliases }];
    }),
  );

function endpoint(e: Endpoint): Schemas['EndpointState'] {
  return {
    IPAMConfig: e.request.IPAMConfig ?? null,
    Links: e.request.Links ?? null,
    Aliases: e.request.Aliases ?? null,
    MacAddress: e.macAddress,
    DriverOpts: e.request.DriverOpts ?? null,
    GwPriority: e.request.GwPriority ?? 0,
    NetworkID: e.networkId,
    EndpointID: e.endpointId,
    Gateway: e.gateway,
    IPAddress: e.ipAddress,
    IPPrefixLen: e.ipPrefixLen,
    IPv6Gateway: e.ipv6Gateway,
    GlobalIPv6Address: e.globalIPv6Address,
    GlobalIPv6PrefixLen: e.globalIPv6PrefixLen,
    DNSNames: e.dnsNames.length > 0 ? e.dnsNames : null,
  };
}

const mounts = (c: Container): Schemas['MountPoint'][] =>
  c.mounts.map((m) => ({
    Type: m.type,
    Name: m.type === 'volume' ? m.name : undefined,
    Source: m.source,
    Destination: m.destination,
    Driver: m.type === 'volume' ? m.driver : undefined,
    Mode: m.mode,
    RW: m.rw,
    Propagation: m.propagation,
  }));

function ports(c: Container): Schemas['ContainerInspect']['NetworkSettings']['Ports'] {
  const entries = [...portTable(c)].map(([port, bound]) => {
    const bindings = bound.map((b) => ({ HostIp: b.hostIp, HostPort: String(b.hostPort) }));
    return [port, bindings.length > 0 ? bindings : null] as const;
  });
  return Object.fromEntries(entries);
}

function summaryPorts(c: Container): Schemas['Port'][] {
  return [...portTable(c)].flatMap(([port, bound]) => {
    const [number, protocol] = port.split('/');
    const PrivatePort = Number(number);
    const Type = protocol as Schemas['Port']['Type'];
    return bound.length === 0
      ? [{ PrivatePort, Type }]
      : bound.map((b) => ({ IP: b.hostIp, PrivatePort, PublicPort: b.hostPort, Type }));
  });
}
