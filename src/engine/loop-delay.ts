/** How long the event loop was blocked. */
import { monitorEventLoopDelay } from 'node:perf_hooks';

/** ms since the dump before. */
export interface LoopDelays {
  mean: number;
  p99: number;
  max: number;
}

const RESOLUTION_MS = 10;
/** Measuring wakes the process: not for longer than this after a start or a dump. */
const MEASURED_MS = 60_000;

export class LoopDelay {
  readonly #histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  #timer: NodeJS.Timeout | undefined;

  constructor() {
    this.#measure();
  }

  /** What was measured since the last call; measures on. */
  take(): LoopDelays {
    const { mean, max } = this.#histogram;
    const p99 = this.#histogram.percentile(99);
    this.#histogram.reset();
    this.#measure();
    return { mean: delay(mean), p99: delay(p99), max: delay(max) };
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#histogram.disable();
  }

  #measure(): void {
    clearTimeout(this.#timer);
    this.#histogram.enable();
    this.#timer = setTimeout(() => this.#histogram.disable(), MEASURED_MS).unref();
  }
}

// The histogram has the time between two timers of RESOLUTION_MS, in ns.
const delay = (ns: number): number => Math.max(0, Math.round(ns / 1e5 - RESOLUTION_MS * 10) / 10) || 0;
