/** Progress reports of pull and push; the API converts them to Docker's lines. */

/** A line about one layer, or, if `id` is a tag, about the image. */
export interface Progress {
  id?: string;
  status?: string;
  /** Shown as a progress bar if it has `current`; {} marks an update of the layer's line. */
  detail?: { current?: number; total?: number };
  aux?: unknown;
}

export type Report = (progress: Progress) => void;

const INTERVAL_MS = 100;

/** Reports about one layer. Limits the rate of byte counts. */
export class LayerProgress {
  #last = 0;
  #status = '';

  constructor(
    private readonly report: Report,
    private readonly id: string,
  ) {}

  /** Reports a status unless it is the current one. */
  status(status: string): void {
    if (this.#status === status) return;
    this.#status = status;
    this.report({ id: this.id, status, detail: {} });
  }

  /** Reports a byte count, at most every 100 ms except for a new status and the last count. */
  bytes(status: string, current: number, total: number): void {
    const now = Date.now();
    if (this.#status === status && now - this.#last < INTERVAL_MS && current < total) return;
    this.#status = status;
    this.#last = now;
    this.report({ id: this.id, status, detail: { current: Math.min(current, total), total } });
  }
}
