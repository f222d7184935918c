/**
 * A pull's or a push's progress as Docker's lines: streamformatter's JSON, with the bar that API clients up to 28 print
 * as it is.
 */
import type { Progress } from '../../engine/images/progress.ts';

const BAR = 50;

/** One line, in the order of Docker's fields. */
export function progressLine({ id, status, detail, aux }: Progress): string {
  if (aux !== undefined) return `${JSON.stringify({ progressDetail: {}, aux })}\r\n`;
  const { current = 0, total = 0 } = detail ?? {};
  const bar =
    detail && (current > 0 || total > 0)
      ? {
          progressDetail: { ...(current > 0 && { current }), ...(total > 0 && { total }) },
          progress: progressBar(current, total),
        }
      : detail && { progressDetail: {} };
  return `${JSON.stringify({ status, ...bar, ...(id !== undefined && { id }) })}\r\n`;
}

/** An error that came after the first line. */
export const errorLine = (message: string): string =>
  `${JSON.stringify({ errorDetail: { message }, error: message })}\r\n`;

/** moby pkg/jsonmessage: `[=====>    ]    1.2MB/3.4MB`. */
export function progressBar(current: number, total: number): string {
  if (total <= 0) return humanSize(current).padStart(8);
  const done = Math.min(Math.floor(Math.trunc((current / total) * 100) / 2), BAR);
  const numbers = humanSize(current).padStart(8) + (current > total ? '' : `/${humanSize(total)}`);
  return `[${'='.repeat(done)}>${' '.repeat(BAR - done)}] ${numbers}`;
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

/** docker/go-units: decimal, four digits (`%.4g`). */
function humanSize(bytes: number): string {
  let [size, unit] = [bytes, 0];
  while (size >= 1000 && unit < UNITS.length - 1) {
    size /= 1000;
    unit++;
  }
  return `${Number(size.toPrecision(4))}${UNITS[unit]}`;
}
