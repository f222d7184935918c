/** Limits how many tasks run at once; a slow task gives up its slot, so that it does not hold up the others. */
export class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  /** A task that runs longer than `slowMs` no longer counts. */
  constructor(
    size: number,
    private readonly slowMs: number,
  ) {
    this.#free = size;
  }

  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    let holdsSlot = true;
    const giveUp = (): void => {
      if (holdsSlot) this.#release();
      holdsSlot = false;
    };
    const timer = setTimeout(giveUp, this.slowMs);
    try {
      return await task();
    } finally {
      clearTimeout(timer);
      giveUp();
    }
  }

  #release(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#free++;
  }
}
