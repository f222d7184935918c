/** Formats samples as a table of medians and ratios. */
import type { Measure } from './measures.ts';

export interface Row {
  measure: Measure;
  /** By engine, in the order of the command line. */
  samples: number[][];
}

export function median(samples: number[]): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/**
 * Rows of cells, the header first. Ratios are the first engine's median over the other's. The arrow shows which is
 * better: less for times and memory, more for rates.
 */
export function table(names: string[], rows: Row[]): string[][] {
  const head = ['', 'unit', ...names, ...names.slice(1).map((name) => `${names[0]} / ${name}`)];
  const better = (unit: Measure['unit']): string => (unit === 'ms' || unit === 'MiB' ? '↓' : '↑');
  return [
    head,
    ...rows.map(({ measure, samples }) => {
      const medians = samples.map(median);
      return [
        measure.title,
        `${measure.unit} ${better(measure.unit)}`,
        ...medians.map(figure),
        ...medians.slice(1).map((other) => (medians[0]! / other).toFixed(2)),
      ];
    }),
  ];
}

function figure(n: number): string {
  if (Number.isNaN(n)) return '-';
  return n.toFixed(n >= 100 ? 0 : 1);
}

export function aligned(lines: string[][]): string {
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  return lines
    .map((line) =>
      line.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join('  '),
    )
    .join('\n');
}

export function markdown([head, ...lines]: string[][]): string {
  const row = (cells: string[]): string => `| ${cells.join(' | ')} |`;
  return [row(head!), row(head!.map((_, column) => (column === 0 ? '---' : '---:'))), ...lines.map(row)].join('\n');
}
