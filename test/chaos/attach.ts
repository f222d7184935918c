/** Attached clients of a run: the docker CLI's request, on a connection of its own. */
import http from 'node:http';
import type { Duplex } from 'node:stream';
import { unframe } from '../support/frames.ts';

const OPEN_MS = 30_000;

interface Opened {
  /** 0 when the connection was lost. */
  status: number;
  text: string;
  stream: Duplex | undefined;
}

function open(socketPath: string, id: string, query: string): Promise<Opened> {
  return new Promise((resolve) => {
    const request = http.request({
      socketPath,
      method: 'POST',
      path: `/containers/${id}/attach?${query}`,
      agent: false,
      headers: { Connection: 'Upgrade', Upgrade: 'tcp' },
    });
    const timer = setTimeout(() => request.destroy(new Error('not within the deadline')), OPEN_MS);
    request.on('upgrade', (_answer, stream, head) => {
      clearTimeout(timer);
      if (head.length > 0) stream.unshift(head);
      stream.on('error', () => undefined);
      resolve({ status: 101, text: '', stream });
    });
    request.on('response', (answer) => {
      clearTimeout(timer);
      let text = '';
      answer.on('data', (chunk: Buffer) => (text += chunk.toString()));
      answer.on('error', () => resolve({ status: 0, text, stream: undefined }));
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text, stream: undefined }));
    });
    request.on('error', (error) => {
      clearTimeout(timer);
      resolve({ status: 0, text: error.message, stream: undefined });
    });
    request.end();
  });
}

/** Reads a container's output for a while. */
export async function attachFor(
  socketPath: string,
  id: string,
  tty: boolean,
  ms: number,
): Promise<{ status: number; text: string }> {
  const { status, text, stream } = await open(socketPath, id, 'stream=1&stdout=1&stderr=1');
  if (stream === undefined) return { status, text };
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    stream.on('close', () => {
      clearTimeout(timer);
      resolve();
    });
  });
  stream.destroy();
  const bytes = Buffer.concat(chunks);
  const parts = tty ? undefined : unframe(bytes);
  return { status, text: parts === undefined ? bytes.toString() : parts[1] + parts[2] };
}

/** Writes to a container's stdin. @returns whether it was sent */
export async function send(socketPath: string, id: string, text: string): Promise<boolean> {
  const { stream } = await open(socketPath, id, 'stream=1&stdin=1');
  if (stream === undefined) return false;
  stream.resume();
  await new Promise<void>((resolve) => stream.write(text, () => resolve()));
  await new Promise((resolve) => setTimeout(resolve, 50));
  stream.destroy();
  return true;
}
