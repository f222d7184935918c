/** Compression of archives, the only responses that Docker compresses (moby daemon/server/router/container/copy.go). */
import { Readable } from 'node:stream';
import { createDeflateRaw, createGzip } from 'node:zlib';

export type Encoding = 'gzip' | 'deflate' | 'identity';

/** The encoding that an Accept-Encoding header prefers among ours; identity when it names none. RFC 9110, 12.5.3 */
export function acceptedEncoding(header: string): Encoding {
  const offers = header.split(',').map(parseOffer);
  const quality = (name: string): number =>
    (offers.find((offer) => offer.name === name) ?? offers.find((offer) => offer.name === '*'))?.quality ?? 0;
  const [gzip, deflate] = [quality('gzip'), quality('deflate')];
  if (gzip === 0 && deflate === 0) return 'identity';
  return gzip >= deflate ? 'gzip' : 'deflate';
}

/** One item of the header: `gzip;q=0.5`. */
function parseOffer(text: string): { name: string; quality: number } {
  const [name = '', ...parameters] = text
    .trim()
    .toLowerCase()
    .split(/\s*;\s*/);
  const weight = parameters.find((parameter) => parameter.startsWith('q=')) ?? '';
  return { name, quality: Number(/^q=([\d.]+)$/.exec(weight)?.[1] ?? 1) };
}

/** Encodes `chunks`. Closes the source when the reader stops early. */
export async function* encoded(chunks: AsyncIterable<Buffer>, encoding: Encoding): AsyncGenerator<Buffer> {
  if (encoding === 'identity') {
    yield* chunks;
    return;
  }
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
