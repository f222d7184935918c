/** So many tasks at once; but one that takes long does not keep others from beginning. */
export class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  /** After `patienceMs` a task that still runs gives up its slot. */
  constructor(
    size: number,
    private readonly patienceMs: number,
  ) {
    this.#free = size;
  }

  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    let holds = true;
    const giveUp = (): void => {
      if (holds) this.#release();
      holds = false;
    };
    const impatience = setTimeout(giveUp, this.patienceMs);
    try {
      return await task();
    } finally {
      clearTimeout(impatience);
      giveUp();
    }
  }

  #release(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#free++;
  }
}
