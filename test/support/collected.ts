/** What a stream has brought so far, and its end. */
export function collected(stream: NodeJS.ReadableStream): { text(): string; ended: Promise<void> } {
  let text = '';
  stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
  return { text: () => text, ended: new Promise((resolve) => stream.on('end', resolve)) };
}
