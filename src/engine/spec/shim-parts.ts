/** What a shim has to know of a container's definition. */
import type { Config } from '../../config/config.ts';
import type { RestartPolicy } from '../../protocol/records.ts';
import type { ShimSpec } from '../../protocol/spec.ts';
import type { Container } from '../../model/container.ts';
import type { HostConfig } from '../../model/container-config.ts';
import { healthSpec } from './health.ts';
import { logSpec } from './log-options.ts';
import { parseSignal } from './signals.ts';

const DEFAULT_STOP_SIGNAL = 'SIGTERM';
const DEFAULT_STOP_TIMEOUT = 10;
const NEVER = -1;

export type ShimSpecParts = Pick<
  ShimSpec,
  | 'log'
  | 'health'
  | 'stopSignal'
  | 'stopTimeout'
  | 'restart'
  | 'autoRemove'
  | 'tty'
  | 'openStdin'
  | 'stdinOnce'
  | 'consoleSize'
>;

/** `logPath`: where the container's json-file log lies. */
export function shimSpecParts(container: Container, _config: Config, logPath: string): ShimSpecParts {
  const { config, hostConfig } = container;
  return {
    log: logSpec(container, logPath),
    health: healthSpec(config),
    stopSignal: parseSignal(config.StopSignal || DEFAULT_STOP_SIGNAL),
    stopTimeout: stopTimeout(config.StopTimeout),
    restart: restartPolicy(hostConfig.RestartPolicy),
    autoRemove: hostConfig.AutoRemove,
    tty: config.Tty,
    openStdin: config.OpenStdin,
    stdinOnce: config.StdinOnce,
    consoleSize: hostConfig.ConsoleSize,
  };
}

/** Seconds a container gets to stop; -1 = for ever. */
export const stopTimeout = (seconds: number | undefined): number =>
  seconds === undefined ? DEFAULT_STOP_TIMEOUT : Math.max(NEVER, seconds);

function restartPolicy({ Name, MaximumRetryCount }: HostConfig['RestartPolicy']): RestartPolicy {
  return {
    name: (Name || 'no') as RestartPolicy['name'],
    maximumRetryCount: Name === 'on-failure' ? MaximumRetryCount : 0,
  };
}
