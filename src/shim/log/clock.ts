/** The time of a log entry: wall clock, nanoseconds since the epoch. */

const NS_PER_MS = 1_000_000n;
/** Largest difference between the interpolated time and the wall clock before it is set again. */
const DRIFT_NS = 2n * NS_PER_MS;
/** A step back of up to this is hidden; after a larger one, the clock was set, and the log follows. */
const SMOOTHED_STEP_NS = 10_000n * NS_PER_MS;

export interface Clocks {
  /** Wall clock, ms. */
  wall(): number;
  /** Monotonic, ns. */
  monotonic(): bigint;
}

const system: Clocks = { wall: () => Date.now(), monotonic: () => process.hrtime.bigint() };

/** Date.now() has millisecond resolution; the monotonic clock interpolates. */
export class LogClock {
  #wallAtAnchor: bigint;
  #monotonicAtAnchor: bigint;
  #last = 0n;

  constructor(private readonly clocks: Clocks = system) {
    this.#wallAtAnchor = BigInt(clocks.wall()) * NS_PER_MS;
    this.#monotonicAtAnchor = clocks.monotonic();
  }

  /** Never earlier than a previous result, unless the clock was set back by more than ten seconds. */
  now(): bigint {
    const wall = BigInt(this.clocks.wall()) * NS_PER_MS;
    const monotonic = this.clocks.monotonic();
    let now = this.#wallAtAnchor + (monotonic - this.#monotonicAtAnchor);
    if (now < wall - DRIFT_NS || now > wall + NS_PER_MS + DRIFT_NS) {
      this.#wallAtAnchor = wall;
      this.#monotonicAtAnchor = monotonic;
      now = wall;
    }
    if (now < this.#last && this.#last - now <= SMOOTHED_STEP_NS) return this.#last;
    this.#last = now;
    return now;
  }
}
