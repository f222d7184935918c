/** Comparison of API versions, and the range that the daemon supports. */
import { InvalidParameter } from '../model/errors.ts';
import { API_VERSION, MIN_API_VERSION } from '../version.ts';

/** Whether `version` is `minimum` or newer, compared numerically: 1.9 is older than 1.10. */
export function atLeast(version: string, minimum: string): boolean {
  const ours = numbers(version);
  const theirs = numbers(minimum);
  for (let i = 0; i < Math.max(ours.length, theirs.length); i++) {
    const difference = (ours[i] ?? 0) - (theirs[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return true;
}

const numbers = (version: string): number[] => version.split('.').map(Number);

/** @throws InvalidParameter for an unsupported version */
export function checkVersion(version: string): void {
  if (!atLeast(version, MIN_API_VERSION)) {
    throw new InvalidParameter(
      `client version ${version} is too old. Minimum supported API version is ${MIN_API_VERSION}, please upgrade your client to a newer version`,
    );
  }
  if (!atLeast(API_VERSION, version))
    throw new InvalidParameter(`client version ${version} is too new. Maximum supported API version is ${API_VERSION}`);
}
