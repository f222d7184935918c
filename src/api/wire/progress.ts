/** Progress lines of pull and push: streamformatter's JSON, with the bar that clients before API 1.29 print. */
import type { Progress } from '../../engine/images/progress.ts';

const BAR_WIDTH = 50;

/** One line; its keys in the order in which dockerd writes them. */
export function progressLine({ id, status, detail, aux }: Progress): string {
  if (aux !== undefined) return `${JSON.stringify({ progressDetail: {}, aux })}\r\n`;
  return `${JSON.stringify({ status, ...progressFields(detail), id })}\r\n`;
}

/** Zero is omitted, as Go does. */
function progressFields(detail: Progress['detail']): object | undefined {
  if (!detail) return undefined;
  const { current = 0, total = 0 } = detail;
  const progressDetail = { current: current > 0 ? current : undefined, total: total > 0 ? total : undefined };
  if (current <= 0 && total <= 0) return { progressDetail };
  return { progressDetail, progress: progressBar(current, total) };
}

/** Reports an error in a response whose head has been sent. */
export const errorLine = (message: string): string =>
  `${JSON.stringify({ errorDetail: { message }, error: message })}\r\n`;

/** moby pkg/jsonmessage: `[=====>    ]    1.2MB/3.4MB`. */
export function progressBar(current: number, total: number): string {
  if (total <= 0) return humanSize(current).padStart(8);
  const done = Math.min(Math.floor(Math.trunc((current / total) * 100) / 2), BAR_WIDTH);
  const numbers = humanSize(current).padStart(8) + (current > total ? '' : `/${humanSize(total)}`);
  return `[${'='.repeat(done)}>${' '.repeat(BAR_WIDTH - done)}] ${numbers}`;
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

/** docker/go-units: decimal units, four significant digits (`%.4g`). */
function humanSize(bytes: number): string {
  let [size, unit] = [bytes, 0];
  while (size >= 1000 && unit < UNITS.length - 1) {
    size /= 1000;
    unit++;
  }
  return `${Number(size.toPrecision(4))}${UNITS[unit]}`;
}
