/** Plain HTTP over a unix socket. */
import http from 'node:http';

export interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: Buffer;
  text: string;
  /** The parsed body, undefined when it is not JSON. */
  json: unknown;
}

/** Sends one request on its own connection. A body that is neither string nor Buffer is sent as JSON. */
export const request = (
  socketPath: string,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> => exchange(socketPath, method, path, body, headers, () => undefined);

/**
 * Sends a request with a delayed answer: resolves when the head has arrived (a `/wait` is registered by then), with a
 * promise of the whole answer.
 */
export function opened(socketPath: string, method: string, path: string): Promise<{ answer: Promise<Answer> }> {
  return new Promise((resolve, reject) => {
    const answer = exchange(socketPath, method, path, undefined, {}, () => resolve({ answer }));
    answer.catch(reject);
  });
}

function exchange(
  socketPath: string,
  method: string,
  path: string,
  body: unknown,
  headers: Record<string, string>,
  onHead: () => void,
): Promise<Answer> {
  const payload =
    body === undefined ? undefined : typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
  const type = payload !== undefined && !('Content-Type' in headers) ? { 'Content-Type': 'application/json' } : {};
  return new Promise((resolve, reject) => {
    const sent = http.request(
      {
        socketPath,
        method,
        path,
        agent: false,
        headers: {
          ...type,
          ...(payload !== undefined ? { 'Content-Length': Buffer.byteLength(payload) } : {}),
          ...headers,
        },
      },
      (got) => {
        onHead();
        const chunks: Buffer[] = [];
        got.on('data', (chunk: Buffer) => chunks.push(chunk));
        got.on('error', reject);
        got.on('end', () => {
          const whole = Buffer.concat(chunks);
          const text = whole.toString();
          resolve({ status: got.statusCode ?? 0, headers: got.headers, body: whole, text, json: parsed(text) });
        });
      },
    );
    sent.on('error', reject);
    sent.end(payload);
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
