/** One engine under measurement: its socket, and the few calls that the measurements are made of. */
import http from 'node:http';
import type { Socket } from 'node:net';

/** What it is labelled with, so that it can be found and removed again. */
export const LABEL = 'holdfast.bench';
export const IMAGE = 'holdfast-bench:latest';

export class Engine {
  readonly #agent = new http.Agent({ keepAlive: true, maxSockets: 32 });

  constructor(
    readonly name: string,
    readonly socket: string,
  ) {}

  /** The answer's body. @throws for a status of 400 and more */
  async call(method: string, path: string, body?: unknown): Promise<string> {
    const chunks: Buffer[] = [];
    await this.stream(method, path, body, (chunk) => void chunks.push(chunk));
    return Buffer.concat(chunks).toString();
  }

  /** Sends one request and gives the answer's body on as it comes; resolves at its end. */
  stream(
    method: string,
    path: string,
    body: unknown,
    take: (chunk: Buffer) => void,
    opened: () => void = () => undefined,
  ): Promise<void> {
    const payload = body === undefined || Buffer.isBuffer(body) ? body : JSON.stringify(body);
    const headers =
      payload === undefined
        ? {}
        : {
            'Content-Type': Buffer.isBuffer(payload) ? 'application/x-tar' : 'application/json',
            'Content-Length': Buffer.byteLength(payload),
          };
    return new Promise((resolve, reject) => {
      const request = http.request({ socketPath: this.socket, agent: this.#agent, method, path, headers }, (answer) => {
        opened();
        const failed = (answer.statusCode ?? 0) >= 400;
        let refusal = '';
        answer.on('data', (chunk: Buffer) => (failed ? (refusal += chunk.toString()) : take(chunk)));
        answer.on('error', reject);
        answer.on('end', () =>
          failed
            ? reject(new Error(`${this.name}: ${method} ${path}: ${answer.statusCode} ${refusal.trim()}`))
            : resolve(),
        );
      });
      request.on('error', reject);
      request.end(payload);
    });
  }

  /** Starts an exec and counts what it writes until its end. */
  async execStream(container: string, command: string[]): Promise<number> {
    const { Id } = JSON.parse(
      await this.call('POST', `/containers/${container}/exec`, {
        Cmd: command,
        AttachStdout: true,
        AttachStderr: true,
      }),
    ) as { Id: string };
    const payload = JSON.stringify({ Detach: false, Tty: false });
    return new Promise((resolve, reject) => {
      const headers = {
        'Content-Type': 'application/json',
        'Content-Length': Buffer.byteLength(payload),
        Connection: 'Upgrade',
        Upgrade: 'tcp',
      };
      const request = http.request({
        socketPath: this.socket,
        agent: false,
        method: 'POST',
        path: `/exec/${Id}/start`,
        headers,
      });
      request.on('upgrade', (_answer, connection: Socket, head: Buffer) => {
        let bytes = head.length;
        connection.on('data', (chunk: Buffer) => (bytes += chunk.length));
        connection.on('end', () => (connection.end(), resolve(bytes)));
        connection.on('error', reject);
      });
      request.on('response', (answer) =>
        reject(new Error(`${this.name}: exec was not upgraded: ${answer.statusCode}`)),
      );
      request.on('error', reject);
      request.end(payload);
    });
  }

  async create(command: string[], host: Record<string, unknown> = { NetworkMode: 'none' }): Promise<string> {
    return (
      JSON.parse(
        await this.call('POST', '/containers/create', {
          Image: IMAGE,
          Cmd: command,
          Labels: { [LABEL]: '1' },
          HostConfig: host,
        }),
      ) as { Id: string }
    ).Id;
  }

  start = (id: string): Promise<string> => this.call('POST', `/containers/${id}/start`);
  remove = (id: string): Promise<string> => this.call('DELETE', `/containers/${id}?force=1&v=1`);

  async run(command: string[], host?: Record<string, unknown>): Promise<string> {
    const id = await this.create(command, host);
    await this.start(id);
    return id;
  }

  /** Resolves with the waiting answer once the engine has taken the wait. */
  waiting(id: string): Promise<{ ended: Promise<void> }> {
    return new Promise((resolve, reject) => {
      const ended: Promise<void> = this.stream(
        'POST',
        `/containers/${id}/wait?condition=next-exit`,
        undefined,
        () => undefined,
        () => resolve({ ended }),
      );
      ended.catch(reject);
    });
  }

  /** Takes away every container that a measurement made, also one of a run that was broken off. */
  async clear(): Promise<void> {
    const filters = encodeURIComponent(JSON.stringify({ label: [LABEL] }));
    const mine = JSON.parse(await this.call('GET', `/containers/json?all=1&filters=${filters}`)) as { Id: string }[];
    await Promise.all(mine.map(({ Id }) => this.remove(Id)));
  }

  close = (): void => this.#agent.destroy();
}
