/** Containers as Docker's JSON. */
import type { Container, Endpoint } from '../../engine/containers/container.ts';
import { portTable } from '../../engine/containers/ports.ts';
import { describeStatus, statusOf } from '../../engine/containers/status.ts';
import { rfc3339, unixSeconds } from '../../engine/time.ts';

/** What is not the container's own. */
export interface InspectExtra {
  execIds: string[];
  logPath: string;
  directory: string;
  graphDriver: { Name: string; Data: Record<string, string> };
  sizes?: { rw: number; rootFs: number };
}

/** An item of GET /containers/json. `imageName` is the name as created, or the id once that name is another's. */
export function containerSummary(c: Container, imageName: string, now: bigint): Record<string, unknown> {
  return {
    Id: c.id, Names: [`/${c.name}`], Image: imageName, ImageID: c.imageId, Command: [c.path, ...c.args].map((word) => (word.includes(' ') ? `'${word}'` : word)).join(' '),
    Created: unixSeconds(c.created), Ports: summaryPorts(c), Labels: c.config.Labels, State: statusOf(c), Status: describeStatus(c, now),
    HostConfig: { NetworkMode: c.hostConfig.NetworkMode },
    NetworkSettings: { Networks: Object.fromEntries(Object.entries(c.endpoints).map(([name, e]) => [name, endpoint(e)])) },
    Mounts: mounts(c),
  };
}

export function containerInspect(c: Container, extra: InspectExtra): Record<string, unknown> {
  const { state } = c;
  const status = statusOf(c);
  const running = status === 'running' || status === 'paused' || status === 'restarting';
  const bridge = c.endpoints['bridge'];
  const file = (name: string): string => `${extra.directory}/${name}`;
  return {
    Id: c.id, Created: rfc3339(c.created), Path: c.path, Args: c.args,
    State: {
      Status: status, Running: running, Paused: status === 'paused', Restarting: status === 'restarting', OOMKilled: state.oomKilled, Dead: c.phase === 'dead',
      Pid: status === 'restarting' ? 0 : state.pid, ExitCode: state.exitCode, Error: state.error, StartedAt: rfc3339(state.startedAt), FinishedAt: rfc3339(state.finishedAt),
      ...(state.health ? { Health: { Status: state.health.status, FailingStreak: state.health.streak, Log: state.health.log.map((p) => ({ Start: rfc3339(p.start), End: rfc3339(p.end), ExitCode: p.exitCode, Output: p.output })) } } : {}),
    },
    Image: c.imageId, ResolvConfPath: file('resolv.conf'), HostnamePath: file('hostname'), HostsPath: file('hosts'), LogPath: extra.logPath, Name: `/${c.name}`,
    RestartCount: state.restartCount, Driver: 'overlay2', Platform: c.platform, MountLabel: '', ProcessLabel: '', AppArmorProfile: c.appArmorProfile,
    ExecIDs: extra.execIds.length > 0 ? extra.execIds : null, HostConfig: c.hostConfig, GraphDriver: extra.graphDriver,
    ...(extra.sizes ? { SizeRw: extra.sizes.rw, SizeRootFs: extra.sizes.rootFs } : {}),
    Mounts: mounts(c), Config: c.config,
    NetworkSettings: {
      Bridge: '', SandboxID: '', HairpinMode: false, LinkLocalIPv6Address: '', LinkLocalIPv6PrefixLen: 0, Ports: running ? ports(c) : {}, SandboxKey: c.netns,
      SecondaryIPAddresses: null, SecondaryIPv6Addresses: null, EndpointID: bridge?.endpointId ?? '', Gateway: bridge?.gateway ?? '', GlobalIPv6Address: bridge?.globalIPv6Address ?? '', GlobalIPv6PrefixLen: bridge?.globalIPv6PrefixLen ?? 0,
      IPAddress: bridge?.ipAddress ?? '', IPPrefixLen: bridge?.ipPrefixLen ?? 0, IPv6Gateway: '', MacAddress: bridge?.macAddress ?? '',
      Networks: Object.fromEntries(Object.entries(c.endpoints).map(([name, e]) => [name, endpoint(e)])),
    },
  };
}

function endpoint(e: Endpoint): Record<string, unknown> {
  return {
    IPAMConfig: e.request.IPAMConfig ?? null, Links: e.request.Links ?? null, Aliases: e.request.Aliases ?? null, MacAddress: e.macAddress, DriverOpts: e.request.DriverOpts ?? null,
    GwPriority: e.request.GwPriority ?? 0, NetworkID: e.networkId, EndpointID: e.endpointId, Gateway: e.gateway, IPAddress: e.ipAddress, IPPrefixLen: e.ipPrefixLen,
    IPv6Gateway: e.ipv6Gateway, GlobalIPv6Address: e.globalIPv6Address, GlobalIPv6PrefixLen: e.globalIPv6PrefixLen, DNSNames: e.dnsNames.length > 0 ? e.dnsNames : null,
  };
}

const mounts = (c: Container): Record<string, unknown>[] => c.mounts.map((m) => ({
  Type: m.type, ...(m.type === 'volume' ? { Name: m.name } : {}), Source: m.source, Destination: m.destination, ...(m.type === 'volume' ? { Driver: m.driver } : {}), Mode: m.mode, RW: m.rw, Propagation: m.propagation,
}));

function ports(c: Container): Record<string, unknown> {
  return Object.fromEntries([...portTable(c)].map(([port, bound]) => [port, bound.length > 0 ? bound.map((b) => ({ HostIp: b.hostIp, HostPort: String(b.hostPort) })) : null]));
}

function summaryPorts(c: Container): Record<string, unknown>[] {
  return [...portTable(c)].flatMap(([port, bound]) => {
    const [number, Type] = port.split('/');
    const PrivatePort = Number(number);
    return bound.length === 0 ? [{ PrivatePort, Type }] : bound.map((b) => ({ IP: b.hostIp, PrivatePort, PublicPort: b.hostPort, Type }));
  });
}
