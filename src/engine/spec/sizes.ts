const EXPONENTS: Readonly<Record<string, number>> = { '': 0, k: 1, m: 2, g: 3, t: 4, p: 5 };

/**
 * Parses `10m`, `1.5 GB`, `512KiB` to bytes. As in go-units, the caller chooses the base and the `i` is ignored.
 * undefined for invalid sizes.
 */
export function parseSize(text: string, base: 1000 | 1024): number | undefined {
  const [, number, unit] = /^(\d+(?:\.\d+)?) ?([kmgtp]?)i?b?$/i.exec(text) ?? [];
  return number === undefined ? undefined : Math.floor(Number(number) * base ** EXPONENTS[unit!.toLowerCase()]!);
}
