/** Client of one engine under test, with the calls that the measurements need. */
import http from 'node:http';
import type { Socket } from 'node:net';

/** Label of the containers that the benchmark creates, by which `clear` finds them. */
export const LABEL = 'holdfast.bench';
export const IMAGE = 'holdfast-bench:latest';

export class Engine {
  readonly #agent = new http.Agent({ keepAlive: true, maxSockets: 32 });

  constructor(
    readonly name: string,
    readonly socket: string,
  ) {}

  /** The response's body. @throws for a status of 400 or more */
  async call(method: string, path: string, body?: unknown): Promise<string> {
    const chunks: Buffer[] = [];
    await this.stream(method, path, body, (chunk) => void chunks.push(chunk));
    return Buffer.concat(chunks).toString();
  }

  /**
   * Sends a request and passes on the response's body as it arrives; resolves at its end.
   * @param opened called when the response's head has arrived
   * @throws for a status of 400 or more
   */
  stream(
    method: string,
    path: string,
    body: unknown,
    take: (chunk: Buffer) => void,
    opened: () => void = () => undefined,
  ): Promise<void> {
    const { headers, payload } = encode(body);
    const options = { socketPath: this.socket, agent: this.#agent, method, path, headers };
    return new Promise((resolve, reject) => {
      const request = http.request(options, (response) => {
        opened();
        const failed = (response.statusCode ?? 0) >= 400;
        let error = '';
        response.on('data', (chunk: Buffer) => {
          if (failed) error += chunk.toString();
          else take(chunk);
        });
        response.on('error', reject);
        response.on('end', () => {
          if (failed) reject(new Error(`${this.name}: ${method} ${path}: ${response.statusCode} ${error.trim()}`));
          else resolve();
        });
      });
      request.on('error', reject);
      request.end(payload);
    });
  }

  /** Runs a command in the container, and returns how many bytes its stream had. */
  async execStream(container: string, command: string[]): Promise<number> {
    const config = { Cmd: command, AttachStdout: true, AttachStderr: true };
    const { Id } = JSON.parse(await this.call('POST', `/containers/${container}/exec`, config)) as { Id: string };
    const { headers, payload } = encode({ Detach: false, Tty: false });
    const request = http.request({
      socketPath: this.socket,
      agent: false,
      method: 'POST',
      path: `/exec/${Id}/start`,
      headers: { ...headers, Connection: 'Upgrade', Upgrade: 'tcp' },
    });
    return new Promise((resolve, reject) => {
      request.on('upgrade', (_response, connection: Socket, head: Buffer) => {
        let bytes = head.length;
        connection.on('data', (chunk: Buffer) => (bytes += chunk.length));
        connection.on('end', () => {
          connection.end();
          resolve(bytes);
        });
        connection.on('error', reject);
      });
      request.on('response', ({ statusCode }) =>
        reject(new Error(`${this.name}: exec was not upgraded: ${statusCode}`)),
      );
      request.on('error', reject);
      request.end(payload);
    });
  }

  async create(command: string[], host: Record<string, unknown> = { NetworkMode: 'none' }): Promise<string> {
    const config = { Image: IMAGE, Cmd: command, Labels: { [LABEL]: '1' }, HostConfig: host };
    const { Id } = JSON.parse(await this.call('POST', '/containers/create', config)) as { Id: string };
    return Id;
  }

  start = (id: string): Promise<string> => this.call('POST', `/containers/${id}/start`);
  remove = (id: string): Promise<string> => this.call('DELETE', `/containers/${id}?force=1&v=1`);

  async run(command: string[], host?: Record<string, unknown>): Promise<string> {
    const id = await this.create(command, host);
    await this.start(id);
    return id;
  }

  /** Waits for the container's next exit; resolves once the engine has accepted the wait. */
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

  /** Removes all containers of the benchmark, including those of an interrupted run. */
  async clear(): Promise<void> {
    const filters = encodeURIComponent(JSON.stringify({ label: [LABEL] }));
    const mine = JSON.parse(await this.call('GET', `/containers/json?all=1&filters=${filters}`)) as { Id: string }[];
    await Promise.all(mine.map(({ Id }) => this.remove(Id)));
  }

  close = (): void => this.#agent.destroy();
}

/** A Buffer is a tar archive, anything else is sent as JSON. */
function encode(body: unknown): { headers: http.OutgoingHttpHeaders; payload?: string | Buffer } {
  if (body === undefined) return { headers: {} };
  const payload = Buffer.isBuffer(body) ? body : JSON.stringify(body);
  const type = Buffer.isBuffer(body) ? 'application/x-tar' : 'application/json';
  return { headers: { 'Content-Type': type, 'Content-Length': Buffer.byteLength(payload) }, payload };
}
