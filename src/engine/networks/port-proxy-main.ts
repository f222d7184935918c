/**
 * The port proxy: one process per daemon that forwards published ports which the kernel cannot translate (IPv6 clients
 * to IPv4 containers). It keeps forwarding when no daemon runs, and exits when nothing is left to forward.
 *
 * On its unix socket it reads lines of JSON, `{"version":1,"ports":[…]}`, each with all ports, and answers each with
 * `{"failed":[…]}` once it listens. Descriptors from 3 on, if any, are the bound sockets of the ports in argv, in that
 * order.
 */
import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { chmodSync, rmSync } from 'node:fs';
import { connect, createServer, isIPv6, type Server, type Socket } from 'node:net';
import { Serial } from '../../async/serial.ts';

interface ProxiedPort {
  protocol: 'tcp' | 'udp';
  hostIp: string;
  hostPort: number;
  address: string;
  port: number;
}

interface Listener {
  close(): void;
}

const FIRST_INHERITED_FD = 3;
/** How long the process waits for ports when it has none. */
const IDLE_MS = 1_000;
/** As in docker-proxy: a UDP client that is silent for so long is dropped. */
const UDP_SILENCE_MS = 90_000;

const [path, initialPorts] = process.argv.slice(2) as [string, string];
const listeners = new Map<string, Listener>();
const updates = new Serial();
let idle: NodeJS.Timeout | undefined;

process.title = `holdfast-ports ${path}`;
for (const signal of ['SIGHUP', 'SIGINT', 'SIGPIPE'] as const) process.on(signal, () => undefined);
void updates.run(() => listenOn(JSON.parse(initialPorts) as ProxiedPort[], FIRST_INHERITED_FD));
serve();

function serve(): void {
  rmSync(path, { force: true });
  const server = createServer((daemon) => {
    daemon.on('error', () => daemon.destroy());
    let text = '';
    daemon.on('data', (data) => {
      const lines = (text + data.toString()).split('\n');
      text = lines.pop()!;
      for (const line of lines) void updates.run(() => answer(daemon, line));
    });
  });
  server.listen(path, () => chmodSync(path, 0o600));
}

async function answer(daemon: Socket, line: string): Promise<void> {
  const { ports } = JSON.parse(line) as { ports: ProxiedPort[] };
  const failed = await listenOn(ports);
  daemon.write(`${JSON.stringify({ failed })}\n`);
}

/** Replaces the listeners; returns which failed, and why. `firstFd` is the descriptor of the first port. */
async function listenOn(ports: ProxiedPort[], firstFd?: number): Promise<string[]> {
  clearTimeout(idle);
  const wanted = new Map(
    ports.map((port, i) => [keyOf(port), { port, fd: firstFd === undefined ? undefined : firstFd + i }]),
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
      listeners.set(key, await open(port, fd));
    } catch (error) {
      failed.push(`${key}: ${(error as Error).message}`);
    }
  }
  if (listeners.size === 0) idle = setTimeout(exit, IDLE_MS);
  return failed;
}

function exit(): void {
  rmSync(path, { force: true });
  process.exit(0);
}

function open(port: ProxiedPort, fd: number | undefined): Promise<Listener> {
  return port.protocol === 'tcp' ? forwardStream(port, fd) : forwardDatagrams(port, fd);
}

function keyOf({ protocol, hostIp, hostPort, address, port }: ProxiedPort): string {
  return [protocol, hostIp, hostPort, address, port].join(' ');
}

function forwardStream(port: ProxiedPort, fd: number | undefined): Promise<Listener> {
  const sockets = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    const target = connect({ host: port.address, port: port.port, allowHalfOpen: true, noDelay: true });
    join(client, target);
    for (const socket of [client, target]) {
      sockets.add(socket);
      socket.once('close', () => sockets.delete(socket));
    }
  });
  const close = (): void => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    const where = fd === undefined ? { host: port.hostIp, port: port.hostPort, ipv6Only: isIPv6(port.hostIp) } : { fd };
    server.listen(where, () => resolve({ close }));
  });
}

// A half-close is passed on in each direction; an error on one side resets the other.
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

/** Gives each client a socket of its own towards the container, by which replies find their way back. */
function forwardDatagrams(port: ProxiedPort, fd: number | undefined): Promise<Listener> {
  const outside = createSocket({ type: isIPv6(port.hostIp) ? 'udp6' : 'udp4', ipv6Only: isIPv6(port.hostIp) });
  const clients = new Map<string, { inside: DatagramSocket; silence: NodeJS.Timeout }>();
  const drop = (key: string): void => {
    clients.get(key)?.inside.close();
    clients.delete(key);
  };
  outside.on('message', (data, { address, port: from }) => {
    const key = `${address} ${from}`;
    let client = clients.get(key);
    if (!client) {
      const inside = createSocket(isIPv6(port.address) ? 'udp6' : 'udp4');
      inside.on('error', () => drop(key));
      inside.on('message', (reply) => {
        clients.get(key)?.silence.refresh();
        outside.send(reply, from, address);
      });
      client = { inside, silence: setTimeout(() => drop(key), UDP_SILENCE_MS) };
      clients.set(key, client);
    }
    client.silence.refresh();
    client.inside.send(data, port.port, port.address, () => undefined);
  });
  const close = (): void => {
    outside.close();
    for (const [key, { silence }] of clients) {
      clearTimeout(silence);
      drop(key);
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
