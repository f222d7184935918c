/** Runs tasks one after the other, in the order they came. A task that fails does not stop the next. */
export class Serial {
  #last: Promise<unknown> = Promise.resolve();
  #pending = 0;

  /** Tasks that run or wait. */
  get pending(): number {
    return this.#pending;
  }

  run<T>(task: () => Promise<T>): Promise<T> {
    this.#pending++;
    const turn = this.#last.then(task, task).finally(() => this.#pending--);
    this.#last = turn.catch(() => undefined);
    return turn;
  }
}
