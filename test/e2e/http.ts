/** Plain HTTP over a unix socket. */
import http from 'node:http';

export interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: Buffer;
  text: string;
  /** Parsed when it is JSON. */
  json: unknown;
}

/** One request, one connection. A body that is neither string nor Buffer is sent as JSON. */
export function request(socketPath: string, method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
  const payload = body === undefined ? undefined : typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
  const type = payload !== undefined && !('Content-Type' in headers) ? { 'Content-Type': 'application/json' } : {};
  return new Promise((resolve, reject) => {
    const sent = http.request({ socketPath, method, path, agent: false, headers: { ...type, ...(payload !== undefined ? { 'Content-Length': Buffer.byteLength(payload) } : {}), ...headers } }, (got) => {
      const chunks: Buffer[] = [];
      got.on('data', (chunk: Buffer) => chunks.push(chunk));
      got.on('error', reject);
      got.on('end', () => {
        const whole = Buffer.concat(chunks);
        const text = whole.toString();
        resolve({ status: got.statusCode ?? 0, headers: got.headers, body: whole, text, json: parsed(text) });
      });
    });
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
