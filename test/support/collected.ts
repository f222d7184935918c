/** Collects a stream's text: `text()` is what has arrived so far, `ended` resolves at its end. */
export function collected(stream: NodeJS.ReadableStream): { text(): string; ended: Promise<void> } {
  let text = '';
  stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
  return { text: () => text, ended: new Promise((resolve) => stream.on('end', resolve)) };
}
