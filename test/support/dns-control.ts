/** The control socket of a DNS server. */
import { connect, type Socket } from 'node:net';
import { until } from './until.ts';

const ANSWER_MS = 30_000;

/** A connection to a DNS server's control socket, as a daemon has it. */
export interface DnsControl extends Disposable {
  /** The next message. */
  read(): Promise<Record<string, unknown>>;
  /** Sends a request and reads its answer. */
  reload(): Promise<Record<string, unknown>>;
  isClosed(): boolean;
}

/** Connects when a server with this hash is there. */
export async function connectTo(path: string, hash: string): Promise<DnsControl> {
  const found: DnsControl[] = [];
  await until(async () => {
    const made = await tryToConnect(path);
    if (made?.hello.bundle === hash) found.push(made.control);
    else made?.control[Symbol.dispose]();
    return found.length > 0;
  }, 60_000);
  return found[0]!;
}

async function tryToConnect(
  path: string,
): Promise<{ hello: Record<string, unknown>; control: DnsControl } | undefined> {
  const socket: Socket = connect(path);
  const lines: string[] = [];
  let rest = '';
  let closed = false;
  socket.on('error', () => undefined).on('close', () => (closed = true));
  socket.on('data', (chunk) => {
    const parts = (rest + chunk.toString()).split('\n');
    rest = parts.pop()!;
    lines.push(...parts);
  });
  const read = async (): Promise<Record<string, unknown>> => {
    await until(() => lines.length > 0 || closed, ANSWER_MS);
    if (lines.length === 0) throw new Error('the connection was closed');
    return JSON.parse(lines.shift()!) as Record<string, unknown>;
  };
  const hello = await read().catch(() => undefined);
  const made: DnsControl = {
    read,
    reload: () => {
      socket.write('{"op":"reload"}\n');
      return read();
    },
    isClosed: () => closed,
    [Symbol.dispose]: () => void socket.destroy(),
  };
  return hello && { hello, control: made };
}
