/** The settings of a container that its shim needs. */
import type { RestartPolicy } from '../../protocol/records.ts';
import type { ShimSpec } from '../../protocol/spec.ts';
import type { Container } from '../../model/container.ts';
import type { HostConfig, Int64 } from '../../model/container-config.ts';
import { healthSpec } from './health.ts';
import { logSpec } from './log-options.ts';
import { parseSignal } from './signals.ts';

const DEFAULT_STOP_SIGNAL = 'SIGTERM';
const DEFAULT_STOP_TIMEOUT = 10;
const WITHOUT_LIMIT = -1;

export type ShimSettings = Pick<
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

/** `logPath` is the path of the container's json-file log. */
export function shimSettings(container: Container, logPath: string): ShimSettings {
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

/** Seconds from the stop signal to SIGKILL; -1 = no limit. */
export const stopTimeout = (seconds: Int64 | undefined): number =>
  seconds === undefined ? DEFAULT_STOP_TIMEOUT : Math.max(WITHOUT_LIMIT, Number(seconds));

function restartPolicy({ Name, MaximumRetryCount }: HostConfig['RestartPolicy']): RestartPolicy {
  return {
    name: (Name || 'no') as RestartPolicy['name'],
    maximumRetryCount: Name === 'on-failure' ? MaximumRetryCount : 0,
  };
}
