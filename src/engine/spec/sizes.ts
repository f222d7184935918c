/** Sizes as people write them. */

const EXPONENTS: Readonly<Record<string, number>> = { '': 0, k: 1, m: 2, g: 3, t: 4, p: 5 };

/**
 * `10m`, `1.5 GB`, `512KiB`; `base` is 1000 or 1024, whatever the letters say (as in go-units). undefined when it is no
 * size.
 */
export function parseSize(text: string, base: 1000 | 1024): number | undefined {
  const [, number, unit] = /^(\d+(?:\.\d+)?) ?([kmgtp]?)i?b?$/i.exec(text) ?? [];
  return number === undefined ? undefined : Math.floor(Number(number) * base ** EXPONENTS[unit!.toLowerCase()]!);
}
