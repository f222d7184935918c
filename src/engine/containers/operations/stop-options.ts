/** How a container is stopped: the request's signal and timeout, else the container's own, else Docker's. */
import type { Container } from '../../../model/container.ts';
import { SystemFault } from '../../../model/errors.ts';
import { parseSignal } from '../../spec/signals.ts';

export interface StopOptions {
  /** Seconds until SIGKILL; negative = never. */
  timeout?: number;
  signal?: string;
}

const DEFAULT_TIMEOUT_S = 10;

/** @throws SystemFault `<prefix>Invalid signal: …`: a 500 in moby too (daemon/stop.go, restart.go) */
export function resolveStop(
  { config }: Container,
  options: StopOptions,
  prefix: string,
): { signal: number; timeout: number } {
  try {
    return {
      signal: parseSignal(options.signal || config.StopSignal || 'SIGTERM'),
      timeout: options.timeout ?? Number(config.StopTimeout ?? DEFAULT_TIMEOUT_S),
    };
  } catch (error) {
    throw new SystemFault(`${prefix}${(error as Error).message}`, { cause: error });
  }
}
