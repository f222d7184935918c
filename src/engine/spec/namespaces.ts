/** Which namespaces a container gets, and which it shares with the host or another container. namespaces(7) */
import { InvalidParameter } from '../../model/errors.ts';
import type { HostConfig } from '../../model/container-config.ts';
import { joinedContainer, joinsContainer } from '../../model/namespace-mode.ts';
import type { OciNamespace } from './oci.ts';

type Modes = Pick<HostConfig, 'NetworkMode' | 'PidMode' | 'IpcMode' | 'UTSMode' | 'UsernsMode' | 'CgroupnsMode'>;

/** Valid modes by field, and whether `container:x` is valid: with a name, without one too, or never. */
const VALID: readonly [keyof Modes, modes: readonly string[], error: string, joins: 'named' | 'any' | 'none'][] = [
  ['IpcMode', ['', 'none', 'private', 'host', 'shareable'], 'invalid IPC mode', 'any'],
  ['PidMode', ['', 'host'], 'invalid PID mode', 'named'],
  ['UTSMode', ['', 'host'], 'invalid UTS mode', 'none'],
  ['UsernsMode', ['', 'host'], 'invalid USER mode', 'none'],
  ['CgroupnsMode', ['', 'private', 'host'], 'invalid cgroup namespace mode', 'none'],
];

/** @throws InvalidParameter `invalid PID mode: x` */
export function checkModes(modes: Modes): void {
  for (const [field, valid, error, joins] of VALID) {
    const mode = modes[field];
    const namesContainer = joinedContainer(mode) !== '';
    const mayJoin = joins === 'any' || (joins === 'named' && namesContainer);
    const isValid = valid.includes(mode) || (joinsContainer(mode) && mayJoin);
    if (!isValid) throw new InvalidParameter(`${error}: ${mode}`);
  }
}

/**
 * The container's entries of OCI's `linux.namespaces`. `netns` is the path of the network namespace to join, '' = the
 * host's; `pidOf` returns the PID of a container to join.
 */
export function namespaces(modes: Modes, netns: string, pidOf: (containerId: string) => number): OciNamespace[] {
  const list: OciNamespace[] = [{ type: 'mount' }];
  if (netns !== '') list.push({ type: 'network', path: netns });
  if (modes.UTSMode !== 'host') list.push({ type: 'uts' });
  if (modes.PidMode !== 'host') list.push(ownOrShared('pid', modes.PidMode, pidOf));
  if (modes.IpcMode !== 'host') list.push(ownOrShared('ipc', modes.IpcMode, pidOf));
  if (modes.CgroupnsMode === 'private') list.push({ type: 'cgroup' });
  return list;
}

function ownOrShared(type: 'pid' | 'ipc', mode: string, pidOf: (containerId: string) => number): OciNamespace {
  const joined = joinedContainer(mode);
  return joined ? { type, path: `/proc/${pidOf(joined)}/ns/${type}` } : { type };
}
