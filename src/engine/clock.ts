/** The wall clock in the form that the model stores. */
import { wallClock } from '../sys/clock.ts';

/** Nanoseconds since the epoch, as a decimal string. */
export const wallNow = (): string => String(wallClock());
