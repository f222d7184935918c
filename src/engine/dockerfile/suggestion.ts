/** The largest number of typing errors for which a word is suggested, and one more. */
const TOO_FAR = 3;

/** ` (did you mean FROM?)` if one of the options is nearly `word`, in the case in which it was written; else ''. */
export function suggestion(word: string, options: readonly string[], caseMatters = false): string {
  const fold = (text: string): string => (caseMatters ? text : text.toLowerCase());
  let best: string | undefined;
  let least = TOO_FAR;
  for (const option of options) {
    const distance = editDistance(fold(word), fold(option), least);
    if (distance === 0) return '';
    if (distance < least) [best, least] = [option, distance];
  }
  if (best === undefined) return '';
  return ` (did you mean ${caseMatters ? best : inCaseOf(word, best)}?)`;
}

function inCaseOf(pattern: string, word: string): string {
  if (pattern === pattern.toLowerCase()) return word.toLowerCase();
  return pattern === pattern.toUpperCase() ? word.toUpperCase() : word.toLowerCase();
}

/** Levenshtein's distance; `limit` for all that is not below it. */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit;
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return Math.min(row[b.length]!, limit);
}
