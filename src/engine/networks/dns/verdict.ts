/** What becomes of a question: answered from the tables, refused, or forwarded. As moby's resolver.go decides. */
import { lookUp, pointerOf, type Audience } from './directory.ts';
import { RCODE, reply, type Query } from './message.ts';

/** An answer, or the upstream servers to ask (none = the host's). */
export type Verdict = { answer: Buffer } | { servers: readonly string[] };

/** @param size the longest answer that is possible */
export function verdict(query: Query, { asker, forwards }: Audience, size: number): Verdict {
  const { name, type } = query;
  const records = query.class === 'IN' ? recordsOf(query, asker) : undefined;
  if (records) return { answer: reply(query, RCODE.noError, shuffled(records), size) };
  // The client tries its search domains then.
  if (asker.ndots && (type === 'A' || type === 'AAAA') && !name.includes('.'))
    return { answer: reply(query, RCODE.noError, [], size) };
  if (!forwards) return { answer: reply(query, RCODE.serverFailure, [], size) };
  return { servers: asker.servers };
}

/** Empty for a name that has no records of this type; undefined for a name that is not in the tables. */
function recordsOf({ name, type }: Query, asker: Audience['asker']): readonly Buffer[] | undefined {
  switch (type) {
    case 'A':
      return lookUp(asker, name)?.a;
    case 'AAAA':
      return lookUp(asker, name)?.aaaa;
    case 'MX':
      // Mail is delivered to the host itself then. RFC 5321 section 5.1.
      return lookUp(asker, name) && [];
    case 'PTR': {
      const pointer = pointerOf(asker, name);
      return pointer && [pointer];
    }
    default:
      return undefined;
  }
}

/** Spreads clients that take the first address over all of them. Fisher-Yates. */
function shuffled(records: readonly Buffer[]): readonly Buffer[] {
  if (records.length < 2) return records;
  const all = [...records];
  for (let i = all.length - 1; i > 0; i--) {
    const other = Math.floor(Math.random() * (i + 1));
    [all[i], all[other]] = [all[other]!, all[i]!];
  }
  return all;
}
