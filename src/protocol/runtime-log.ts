/** What an OCI runtime writes with `--log-format json`: one JSON object per line. */

/** The message of the last error in the log; undefined without one. */
export function lastErrorIn(text: string): string | undefined {
  for (const line of text.trim().split('\n').reverse()) {
    try {
      const { level, msg } = JSON.parse(line) as { level?: string; msg?: string };
      if (level === 'error' && msg) return msg;
    } catch {
      continue;
    }
  }
  return undefined;
}
