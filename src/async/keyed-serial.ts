/** Runs the tasks of one key one after the other, in the order they came; tasks of different keys run side by side. */
export class KeyedSerial {
  readonly #tails = new Map<string, Promise<void>>();

  run<T>(key: string, task: () => T | Promise<T>): Promise<T> {
    const turn = (this.#tails.get(key) ?? Promise.resolve()).then(task);
    const forget = (): void => {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    };
    const tail: Promise<void> = turn.then(forget, forget);
    this.#tails.set(key, tail);
    return turn;
  }

  /** Resolves when every task that is queued now has ended. */
  async idle(): Promise<void> {
    await Promise.all(this.#tails.values());
  }
}
