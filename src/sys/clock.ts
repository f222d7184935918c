/** The wall clock to the nanosecond. clock_gettime(2). */
import { check, declare } from './libc.ts';

const clockGettime = declare('int clock_gettime(int clock, void *time)');
const CLOCK_REALTIME = 0;

const time = Buffer.alloc(16);

/** Nanoseconds since the epoch. Date.now() would sort a `destroy` before the `die` of the same millisecond. */
export function wallClock(): bigint {
  check(clockGettime(CLOCK_REALTIME, time), 'clock_gettime');
  return time.readBigInt64LE(0) * 1_000_000_000n + time.readBigInt64LE(8);
}
