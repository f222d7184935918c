/**
 * Compressed answers, where a client asks for them: only those of archives are (moby
 * daemon/server/router/container/copy.go).
 */
import { Readable } from 'node:stream';
import { createDeflateRaw, createGzip } from 'node:zlib';

export type Encoding = 'gzip' | 'deflate' | 'identity';

/** What Accept-Encoding prefers of ours; without a word of it, nothing. RFC 9110, 12.5.3 */
export function acceptedEncoding(header: string): Encoding {
  const offers = header.split(',').map((offer) => {
    const [name = '', ...parameters] = offer
      .trim()
      .toLowerCase()
      .split(/\s*;\s*/);
    const q = Number(/^q=([\d.]+)$/.exec(parameters.find((each) => each.startsWith('q=')) ?? '')?.[1] ?? 1);
    return { name, q };
  });
  const weigh = (name: string): number =>
    (offers.find((each) => each.name === name) ?? offers.find((each) => each.name === '*'))?.q ?? 0;
  const [gzip, deflate] = [weigh('gzip'), weigh('deflate')];
  if (gzip === 0 && deflate === 0) return 'identity';
  return gzip >= deflate ? 'gzip' : 'deflate';
}

/** `chunks`, encoded. A reader that stops ends their source too. */
export async function* encoded(chunks: AsyncGenerator<Buffer>, encoding: Encoding): AsyncGenerator<Buffer> {
  if (encoding === 'identity') return yield* chunks;
  const source = Readable.from(chunks);
  const encoder = encoding === 'gzip' ? createGzip() : createDeflateRaw();
  source.on('error', (error) => encoder.destroy(error));
  source.pipe(encoder);
  try {
    for await (const chunk of encoder) yield chunk as Buffer;
  } finally {
    source.destroy();
  }
}
