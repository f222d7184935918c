/** Which namespaces a container has of its own, and which it shares. namespaces(7) */
import { InvalidParameter } from '../../model/errors.ts';
import type { HostConfig } from '../../model/container-config.ts';
import type { OciNamespace } from './oci.ts';

const PREFIX = 'container:';

type Modes = Pick<HostConfig, 'NetworkMode' | 'PidMode' | 'IpcMode' | 'UTSMode' | 'UsernsMode' | 'CgroupnsMode'>;

/** The container named by `container:x`; '' for every other mode. */
export const donorOf = (mode: string): string => (mode.startsWith(PREFIX) ? mode.slice(PREFIX.length) : '');

export const sharesContainer = (mode: string): boolean => mode.startsWith(PREFIX);

/** A network namespace of its own: neither the host's nor another container's. */
export const hasOwnNetwork = (networkMode: string): boolean => networkMode !== 'host' && !sharesContainer(networkMode);

/** Process 1 is the container's own. */
export const hasOwnPids = (pidMode: string): boolean => pidMode !== 'host' && !sharesContainer(pidMode);

const VALID: readonly [keyof Modes, words: readonly string[], what: string, donor: 'named' | 'any' | 'none'][] = [
  ['IpcMode', ['', 'none', 'private', 'host', 'shareable'], 'invalid IPC mode', 'any'],
  ['PidMode', ['', 'host'], 'invalid PID mode', 'named'],
  ['UTSMode', ['', 'host'], 'invalid UTS mode', 'none'],
  ['UsernsMode', ['', 'host'], 'invalid USER mode', 'none'],
  ['CgroupnsMode', ['', 'private', 'host'], 'invalid cgroup namespace mode', 'none'],
];

/** @throws InvalidParameter `invalid PID mode: x` */
export function checkModes(modes: Modes): void {
  for (const [field, words, what, donor] of VALID) {
    const mode = modes[field];
    const shares = sharesContainer(mode) && (donor === 'any' || (donor === 'named' && donorOf(mode) !== ''));
    if (!words.includes(mode) && !shares) throw new InvalidParameter(`${what}: ${mode}`);
  }
}

/** `netns`: path of the one to join, '' = the host's. */
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
  const donor = donorOf(mode);
  return donor ? { type, path: `/proc/${pidOf(donor)}/ns/${type}` } : { type };
}
