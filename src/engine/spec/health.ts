/** Health checks: validation, the image's values, and Docker's defaults. */
import type { HealthSpec } from '../../protocol/spec.ts';
import { InvalidParameter } from '../../model/errors.ts';
import type { ContainerConfig, Healthcheck, Int64 } from '../../model/container-config.ts';

const NS_PER_MS = 1e6;
const DEFAULT_INTERVAL_MS = 30_000;
const DEFAULT_TIMEOUT_MS = 30_000;
const DEFAULT_START_INTERVAL_MS = 5_000;
const DEFAULT_RETRIES = 3;

/** @returns warnings. @throws InvalidParameter `Interval in Healthcheck cannot be less than 1ms` */
export function checkHealthcheck(check: Healthcheck | undefined): string[] {
  if (!check) return [];
  const checkMinimum = (field: 'Interval' | 'Timeout' | 'StartPeriod' | 'StartInterval'): void => {
    if (check[field] && check[field] < NS_PER_MS)
      throw new InvalidParameter(`${field} in Healthcheck cannot be less than 1ms`);
  };
  checkMinimum('Interval');
  checkMinimum('Timeout');
  if ((check.Retries ?? 0) < 0) throw new InvalidParameter('Retries in Healthcheck cannot be negative');
  checkMinimum('StartPeriod');
  checkMinimum('StartInterval');
  const [kind] = check.Test ?? [];
  const known = kind === undefined || ['NONE', 'CMD', 'CMD-SHELL'].includes(kind);
  return known
    ? []
    : [`Healthcheck: Unknown healthcheck type '${kind}' (expected 'CMD'). The container runs without a health check.`];
}

/** Takes from the image's health check what the request does not set. */
export function mergedHealthcheck(
  own: Healthcheck | undefined,
  image: Healthcheck | null | undefined,
): Healthcheck | undefined {
  if (!image || !own) return own ?? image ?? undefined;
  return {
    ...own,
    Test: own.Test?.length ? own.Test : image.Test,
    Interval: own.Interval || image.Interval,
    Timeout: own.Timeout || image.Timeout,
    StartPeriod: own.StartPeriod || image.StartPeriod,
    StartInterval: own.StartInterval || image.StartInterval,
    Retries: own.Retries || image.Retries,
  };
}

/** The probe for the shim; null = none. */
export function healthSpec(config: Pick<ContainerConfig, 'Healthcheck' | 'Shell'>): HealthSpec | null {
  const check = config.Healthcheck;
  const argv = probeArgv(check?.Test ?? [], config.Shell);
  if (!check || argv.length === 0) return null;
  const ms = (ns: Int64 | null | undefined, fallback: number): number =>
    ns ? Math.max(1, Math.round(Number(ns) / NS_PER_MS)) : fallback;
  return {
    argv,
    interval: ms(check.Interval, DEFAULT_INTERVAL_MS),
    timeout: ms(check.Timeout, DEFAULT_TIMEOUT_MS),
    startPeriod: ms(check.StartPeriod, 0),
    startInterval: ms(check.StartInterval, DEFAULT_START_INTERVAL_MS),
    retries: check.Retries || DEFAULT_RETRIES,
  };
}

/** The command of `Test`; empty for NONE and unknown kinds. */
function probeArgv([kind, ...rest]: string[], shell: string[] | undefined): string[] {
  if (kind === 'CMD') return rest;
  // The command line is the first element; Docker ignores the rest.
  return kind === 'CMD-SHELL' ? [...(shell?.length ? shell : ['/bin/sh', '-c']), rest[0] ?? ''] : [];
}
