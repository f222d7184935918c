/**
 * The port proxy: a process of its own, one per daemon, that forwards what the kernel cannot translate (IPv6 clients to
 * IPv4 containers), and refuses
 * names where nobody may be asked for them.
 * It needs no daemon: it keeps forwarding while none is there, and ends by itself when nothing is left to forward.
 *
 * On its socket it takes lines of JSON, `{"version":1,"ports":[…]}`: the whole table each time. It answers each with
 * `{"failed":[…]}` once it listens.
 * Descriptors 3 and up, if it is started with any, are sockets that are bound already, in the order of the table in
 * argv.
 */
import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { chmodSync, rmSync } from 'node:fs';
import { connect, createServer, isIPv6, type Server, type Socket } from 'node:net';

interface ProxiedPort {
  protocol: 'tcp' | 'udp';
  hostIp: string;
  hostPort: number;
  /** '' = nobody: names that are asked for there are refused. */
  address: string;
  port: number;
}

interface Listener {
  close(): void;
}

const FIRST_INHERITED = 3;
/** How long the process stays with nothing to do. */
const IDLE_MS = 1_000;
/** As docker-proxy: a client that was silent for so long is forgotten. */
const UDP_SILENCE_MS = 90_000;

const [path, table] = process.argv.slice(2) as [string, string];
const listeners = new Map<string, Listener>();
let idle: NodeJS.Timeout | undefined;

process.title = `holdfast-ports ${path}`;
for (const signal of ['SIGHUP', 'SIGINT', 'SIGPIPE'] as const) process.on(signal, () => undefined);
let queue: Promise<unknown> = apply(JSON.parse(table) as ProxiedPort[], FIRST_INHERITED);
serve();

function serve(): void {
  rmSync(path, { force: true });
  const server = createServer((daemon) => {
    daemon.on('error', () => daemon.destroy());
    let text = '';
    daemon.on('data', (data) => {
      const lines = (text + data.toString()).split('\n');
      text = lines.pop()!;
      for (const line of lines)
        queue = queue.then(
          async () =>
            void daemon.write(
              `${JSON.stringify({ failed: await apply((JSON.parse(line) as { ports: ProxiedPort[] }).ports) })}\n`,
            ),
        );
    });
  });
  server.listen(path, () => chmodSync(path, 0o600));
}

async function apply(ports: ProxiedPort[], inherited?: number): Promise<string[]> {
  clearTimeout(idle);
  const wanted = new Map(
    ports.map((port, i) => [keyOf(port), { port, fd: inherited === undefined ? undefined : inherited + i }]),
  );
  for (const [key, listener] of listeners) {
    if (wanted.has(key)) continue;
    listener.close();
    listeners.delete(key);
  }
  const failed: string[] = [];
  for (const [key, { port, fd }] of wanted) {
    if (listeners.has(key)) continue;
    try {
      listeners.set(
        key,
        await (port.address === ''
          ? refuseNames(port, fd)
          : port.protocol === 'tcp'
            ? forwardStream(port, fd)
            : forwardDatagrams(port, fd)),
      );
    } catch (error) {
      failed.push(`${key}: ${(error as Error).message}`);
    }
  }
  if (listeners.size === 0)
    idle = setTimeout(() => {
      rmSync(path, { force: true });
      process.exit(0);
    }, IDLE_MS);
  return failed;
}

function keyOf({ protocol, hostIp, hostPort, address, port }: ProxiedPort): string {
  return [protocol, hostIp, hostPort, address, port].join(' ');
}

function forwardStream(port: ProxiedPort, fd: number | undefined): Promise<Listener> {
  const open = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    const target = connect({ host: port.address, port: port.port, allowHalfOpen: true, noDelay: true });
    join(client, target);
    for (const socket of [client, target]) {
      open.add(socket);
      socket.once('close', () => open.delete(socket));
    }
  });
  const close = (): void => {
    server.close();
    for (const socket of open) socket.destroy();
  };
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    const where = fd === undefined ? { host: port.hostIp, port: port.hostPort, ipv6Only: isIPv6(port.hostIp) } : { fd };
    server.listen(where, () => resolve({ close }));
  });
}

// An end of one side is an end for the other, each direction for itself; a failure of one resets the other.
function join(a: Socket, b: Socket): void {
  a.pipe(b);
  b.pipe(a);
  for (const [socket, other] of [
    [a, b],
    [b, a],
  ] as const) {
    socket.on('error', () => other.resetAndDestroy());
    socket.on('close', () => other.destroySoon());
  }
}

/** DNS, RFC 1035 4.1.1: the question comes back as an answer that says SERVFAIL, as dockerd's does. */
function refuseNames(port: ProxiedPort, fd: number | undefined): Promise<Listener> {
  const HEADER_SIZE = 12;
  const QR = 0x80;
  const SERVFAIL = 2;
  const socket = createSocket('udp4');
  socket.on('message', (data, { address, port: from }) => {
    if (data.length < HEADER_SIZE || data[2]! & QR) return;
    data[2]! |= QR;
    data[3] = (data[3]! & 0xf0) | SERVFAIL;
    socket.send(data, from, address);
  });
  return bound(socket, port, fd, () => socket.close());
}

function forwardDatagrams(port: ProxiedPort, fd: number | undefined): Promise<Listener> {
  const outside = createSocket({ type: isIPv6(port.hostIp) ? 'udp6' : 'udp4', ipv6Only: isIPv6(port.hostIp) });
  const clients = new Map<string, { inside: DatagramSocket; silence: NodeJS.Timeout }>();
  const forget = (key: string): void => {
    clients.get(key)?.inside.close();
    clients.delete(key);
  };
  outside.on('message', (data, { address, port: from }) => {
    const key = `${address} ${from}`;
    let client = clients.get(key);
    if (!client) {
      const inside = createSocket(isIPv6(port.address) ? 'udp6' : 'udp4');
      inside.on('error', () => forget(key));
      inside.on('message', (answer) => {
        clients.get(key)?.silence.refresh();
        outside.send(answer, from, address);
      });
      client = { inside, silence: setTimeout(() => forget(key), UDP_SILENCE_MS) };
      clients.set(key, client);
    }
    client.silence.refresh();
    client.inside.send(data, port.port, port.address, () => undefined);
  });
  const close = (): void => {
    outside.close();
    for (const [key, { silence }] of clients) {
      clearTimeout(silence);
      forget(key);
    }
  };
  return bound(outside, port, fd, close);
}

function bound(
  socket: DatagramSocket,
  port: ProxiedPort,
  fd: number | undefined,
  close: () => void,
): Promise<Listener> {
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(fd === undefined ? { address: port.hostIp, port: port.hostPort } : { fd }, () => {
      socket.removeAllListeners('error').on('error', () => undefined);
      resolve({ close });
    });
  });
}
