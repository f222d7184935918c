/** Delta debugging: the short script that still fails (Zeller and Hildebrandt, ddmin). */

/**
 * @param fails whether a subset, in order, still fails; it is asked once per subset
 * @returns a list without whose chunks it does not fail any more, as far as `isTimeUp` allows
 */
export async function shrink<T>(
  all: readonly T[],
  fails: (subset: readonly T[]) => Promise<boolean>,
  isTimeUp: () => boolean = () => false,
): Promise<readonly T[]> {
  let rest = all;
  let chunks = 2;
  while (rest.length >= 2 && !isTimeUp()) {
    const size = Math.ceil(rest.length / chunks);
    let smaller: readonly T[] | undefined;
    for (let at = 0; at < rest.length && !isTimeUp(); at += size) {
      const without = [...rest.slice(0, at), ...rest.slice(at + size)];
      if (without.length > 0 && (await fails(without))) {
        smaller = without;
        break;
      }
    }
    if (smaller) {
      rest = smaller;
      chunks = Math.max(chunks - 1, 2);
    } else if (size === 1) break;
    else chunks = Math.min(chunks * 2, rest.length);
  }
  return rest;
}
