/** The containers of a run: one of every kind, each with a fixed place in the script. */
import { PROGRAM } from './witness.ts';

export interface Role {
  name: string;
  policy?: 'always' | 'on-failure' | 'unless-stopped';
  autoRemove?: boolean;
  tty?: boolean;
  /** Its witness takes its commands from stdin. */
  stdin?: boolean;
  /** Its witness writes to stderr. */
  stderr?: boolean;
  /** Its witness does not end at SIGTERM. */
  deaf?: boolean;
  /** Its witness ends by itself after this many lines. */
  lastLine?: number;
  /** Its log is rotated, and the oldest files are gone. */
  rotated?: boolean;
  init?: boolean;
  health?: boolean;
  memory?: number;
  volume?: boolean;
  /** Port 80 is published. */
  web?: boolean;
  network?: 'user' | 'none' | 'host';
  /** Place of the container whose network and pid namespaces it joins. */
  joins?: number;
}

/** Lanes that run side by side; a container belongs to the lane `place % LANES`. */
export const LANES = 4;
export const USER_NETWORK = 'chaos';
const MIB = 1024 * 1024;

/** A joining container and its target must be in the same lane. */
export const ROLES: readonly Role[] = [
  { name: 'plain' },
  { name: 'tty', tty: true },
  { name: 'stdin', stdin: true },
  { name: 'always', policy: 'always' },
  { name: 'on-failure', policy: 'on-failure' },
  { name: 'unless-stopped', policy: 'unless-stopped', stderr: true },
  { name: 'rm', autoRemove: true },
  { name: 'alpha', network: 'user' },
  { name: 'beta', network: 'user', policy: 'unless-stopped' },
  { name: 'web', web: true },
  { name: 'volume', volume: true },
  { name: 'stderr', stderr: true, network: 'none' },
  { name: 'rotated', rotated: true },
  { name: 'init', init: true, network: 'none' },
  { name: 'memory', memory: 64 * MIB },
  { name: 'target', network: 'user' },
  { name: 'deaf', deaf: true },
  { name: 'tty-always', tty: true, policy: 'always', network: 'none' },
  { name: 'health', health: true },
  { name: 'joined', joins: 15 },
  { name: 'short', lastLine: 20 },
  { name: 'short-failing', lastLine: 15, policy: 'on-failure', network: 'none' },
  { name: 'host', network: 'host' },
  { name: 'web-user', web: true, network: 'user', policy: 'always' },
];

export const isOnBridge = ({ network, joins }: Role): boolean => network === undefined && joins === undefined;

/** Docker's body for POST /containers/create. @param targetName the container that it joins */
export function bodyOf(role: Role, directory: string, volumeName: string, targetName: string): object {
  const env = Object.entries({
    STDIN: role.stdin,
    STDERR: role.stderr,
    DEAF: role.deaf,
    WEB: role.web,
    LAST: role.lastLine,
  });
  return {
    Image: 'busybox',
    Cmd: ['sh', '-c', PROGRAM],
    Env: env.flatMap(([name, value]) => (value ? [`${name}=${value === true ? 1 : value}`] : [])),
    Tty: role.tty ?? false,
    OpenStdin: role.stdin ?? false,
    Labels: { role: role.name },
    ...(role.web ? { ExposedPorts: { '80/tcp': {} } } : {}),
    ...(role.health
      ? { Healthcheck: { Test: ['CMD', 'true'], Interval: 1_000_000_000, Timeout: 5_000_000_000, Retries: 3 } }
      : {}),
    HostConfig: {
      Binds: [`${directory}:/w`, ...(role.volume ? [`${volumeName}:/data`] : [])],
      RestartPolicy: { Name: role.policy ?? 'no' },
      AutoRemove: role.autoRemove ?? false,
      ...(role.init ? { Init: true } : {}),
      ...(role.memory === undefined ? {} : { Memory: role.memory }),
      ...(role.web ? { PortBindings: { '80/tcp': [{ HostPort: '' }] } } : {}),
      ...(role.rotated ? { LogConfig: { Type: 'json-file', Config: { 'max-size': '8k', 'max-file': '3' } } } : {}),
      NetworkMode:
        role.joins !== undefined
          ? `container:${targetName}`
          : role.network === 'user'
            ? USER_NETWORK
            : (role.network ?? 'bridge'),
      ...(role.joins === undefined ? {} : { PidMode: `container:${targetName}` }),
    },
  };
}
