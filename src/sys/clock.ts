/** Clocks with nanosecond resolution. clock_gettime(2). */
import { check, declare } from './libc.ts';

const gettimeCall = declare('int clock_gettime(int clock, void *time)');
const CLOCK_REALTIME = 0;
const NS = 1_000_000_000n;

/** CLOCK_REALTIME: nanoseconds since the epoch. */
export function wallClock(): bigint {
  const time = Buffer.alloc(16);
  check(gettimeCall(CLOCK_REALTIME, time), 'clock_gettime');
  return time.readBigInt64LE(0) * NS + time.readBigInt64LE(8);
}

/** CLOCK_MONOTONIC in nanoseconds. */
export const monotonicClock = (): bigint => process.hrtime.bigint();

/** Node.js fires a timer at once that is longer than this. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;
