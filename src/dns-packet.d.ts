/** The codecs of dns-packet that its type declarations leave out. */
import type { Answer, Question } from 'dns-packet';

interface Decode<T> {
  (buffer: Buffer, offset?: number): T;
  /** Length of what was decoded last. */
  bytes: number;
}

declare module 'dns-packet' {
  export const name: { decode: Decode<string> };
  export const question: { decode: Decode<Question> };
  export const answer: { encode(answer: Answer): Buffer };
}
