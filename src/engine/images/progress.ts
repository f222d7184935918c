/** What becomes of a pull or a push, step by step; the API turns it into Docker's lines. */

/** A line about one layer (or, with `id` of a tag, about the image). */
export interface Progress {
  id?: string;
  status?: string;
  /** Shown as a bar where there is a `current`; an update without one still is one. */
  detail?: { current?: number; total?: number };
  aux?: unknown;
}

export type Report = (progress: Progress) => void;

const INTERVAL_MS = 100;

/** Lines about one layer; of those that only count bytes not more than a terminal can follow. */
export class LayerProgress {
  #last = 0;
  #status = '';

  constructor(
    private readonly report: Report,
    private readonly id: string,
  ) {}

  /** Repeated words are told once. */
  status(status: string): void {
    if (this.#status === status) return;
    this.#status = status;
    this.report({ id: this.id, status, detail: {} });
  }

  bytes(status: string, current: number, total: number): void {
    const now = Date.now();
    if (this.#status === status && now - this.#last < INTERVAL_MS && current < total) return;
    this.#status = status;
    this.#last = now;
    this.report({ id: this.id, status, detail: { current: Math.min(current, total), total } });
  }
}
