/** The real HTTP layer on its own socket, in front of a stub engine with the few methods that a test needs. */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import supertest from 'supertest';
import { createServer } from '../../src/api/server.ts';
import type { Engine } from '../../src/engine/engine.ts';
import { listenUnix } from '../../src/sys/socket.ts';

export interface Api {
  /** For ordinary requests. */
  http: ReturnType<typeof supertest>;
  /**
   * For tests of exact bytes: sends them and returns what arrives until the server closes or is silent for a moment.
   */
  raw(request: string | string[], options?: { halfClose?: boolean }): Promise<string>;
  open(): Promise<Socket>;
  close(): Promise<void>;
}

const SILENCE_MS = 150;

/** @param logLines receives the lines of the server's log */
export async function serve(engine: unknown, logLines: string[] = []): Promise<Api> {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-api-'));
  const path = join(directory, 'api.sock');
  const api = await createServer(
    { config: { slowClientMs: 60_000 }, ...(engine as object) } as unknown as Engine,
    pino({ level: 'error' }, { write: (line) => void logLines.push(line) }),
    { checkResponses: true },
  );
  await api.listen([listenUnix(path, 128)]);
  const open = (): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const socket = connect({ path, allowHalfOpen: true });
      socket.once('error', reject).once('connect', () => resolve(socket));
    });
  return {
    http: supertest(`http+unix://${encodeURIComponent(path)}`),
    open,
    async raw(request, { halfClose = false } = {}) {
      const socket = await open();
      let text = '';
      const over = new Promise<void>((resolve) => {
        let timer = setTimeout(resolve, 2_000);
        socket.on('data', (chunk: Buffer) => {
          text += chunk.toString('latin1');
          clearTimeout(timer);
          timer = setTimeout(resolve, SILENCE_MS);
        });
        socket.on('end', resolve).on('error', () => resolve());
      });
      for (const part of [request].flat()) {
        socket.write(part);
        await sleep(20);
      }
      if (halfClose) socket.end();
      await over;
      socket.destroy();
      return text;
    },
    async close() {
      await api.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
