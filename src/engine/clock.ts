/** The wall clock, as the engine keeps it. */
import { wallClock } from '../sys/clock.ts';

/** Nanoseconds since the epoch, as a decimal string. */
export const wallNow = (): string => String(wallClock());
