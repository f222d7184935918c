/** Wall clock in nanoseconds, as a decimal string; two calls never give the same, so that order is kept. */
let last = 0n;

export function wallNow(): string {
  const now = BigInt(Date.now()) * 1_000_000n;
  last = now > last ? now : last + 1n;
  return String(last);
}
