/** A request whose connection is read to its end, to see whether it was answered, and how often. */
import { connect } from 'node:net';

const DEADLINE_MS = 90_000;

export interface Answered {
  /** 0 = the connection ended without an answer. */
  status: number;
  /** How many answers came on the connection. */
  answers: number;
  text: string;
}

/** Never rejects. A body that is no Buffer is sent as JSON. */
export function ask(socketPath: string, method: string, path: string, body?: unknown): Promise<Answered> {
  const payload = Buffer.isBuffer(body) ? body : Buffer.from(body === undefined ? '' : JSON.stringify(body));
  const type = Buffer.isBuffer(body) ? 'application/x-tar' : 'application/json';
  const head = [
    `${method} ${path} HTTP/1.1`,
    'Host: docker',
    'Connection: close',
    ...(payload.length > 0 ? [`Content-Type: ${type}`] : []),
    `Content-Length: ${payload.length}`,
  ];
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    let text = '';
    socket.setTimeout(DEADLINE_MS, () => socket.destroy());
    socket.on('data', (chunk) => (text += chunk.toString('latin1')));
    socket.on('error', () => undefined);
    socket.on('close', () => {
      const statuses = [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, code]) => Number(code));
      resolve({ status: statuses[0] ?? 0, answers: statuses.length, text });
    });
    socket.write(Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`), payload]));
  });
}
