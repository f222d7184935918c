/** Internet sockets outside the event loop: to probe whether a port is free, or to reserve it. */
import { closeSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { addressOf, check, declare, Errno, type Fd } from './libc.ts';

const socketCall = declare('int socket(int domain, int type, int protocol)');
const bindCall = declare('int bind(int fd, void *address, unsigned int length)');
const listenCall = declare('int listen(int fd, int backlog)');
const setsockoptCall = declare('int setsockopt(int fd, int level, int option, void *value, unsigned int length)');
const inetPtonCall = declare('int inet_pton(int family, const char *text, void *address)');

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;
const IPPROTO_SCTP = 132;
const IPPROTO_IP = 0;
const IPPROTO_IPV6 = 41;
const IP_FREEBIND = 15;
const IPV6_V6ONLY = 26;
const IPV6_FREEBIND = 78;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_RCVBUFFORCE = 33;
const BACKLOG = 511;
const QUEUE_BYTES = 1 << 20;

export type Transport = 'tcp' | 'udp' | 'sctp';

/**
 * A bound socket, close-on-exec and non-blocking; with an IPv6 address it does not accept IPv4. bind(2).
 * @throws Errno EADDRINUSE, EADDRNOTAVAIL, EACCES
 */
export function bindPort(protocol: Transport, address: string, port: number): Fd {
  // SO_REUSEADDR: old TCP connections in TIME_WAIT do not block the port. With UDP it would let two sockets share it.
  return bound(protocol, address, port, { reuse: protocol === 'tcp' });
}

/**
 * As bindPort(), for a socket that never listens and only keeps other processes from binding the port.
 * @throws Errno EADDRINUSE when the port is taken
 */
export function reservePort(protocol: Transport, address: string, port: number): Fd {
  try {
    // Without SO_REUSEADDR if possible: two sockets with it can share a port as long as neither listens. socket(7).
    return bound(protocol, address, port, { reuse: false });
  } catch (error) {
    if (protocol !== 'tcp' || !(error instanceof Errno) || error.code !== 'EADDRINUSE') throw error;
    return bound(protocol, address, port, { reuse: true });
  }
}

/**
 * A bound socket of a server, with a receive queue of a megabyte where that is allowed. The address need not exist yet
 * (IP_FREEBIND, ip(7)).
 * @throws Errno EADDRINUSE, EACCES
 */
export function bindService(protocol: 'tcp' | 'udp', address: string, port: number): Fd {
  const options = { reuse: protocol === 'tcp', ahead: true };
  let fd: Fd;
  try {
    fd = bound(protocol, address, port, options);
  } catch (error) {
    if (!(error instanceof Errno && error.code === 'EADDRINUSE') || options.reuse) throw error;
    // Beside a server on 0.0.0.0 that allows it.
    fd = bound(protocol, address, port, { ...options, reuse: true });
  }
  if (protocol === 'udp') {
    const size = Buffer.allocUnsafeSlow(4);
    size.writeInt32LE(QUEUE_BYTES);
    // Needs CAP_NET_ADMIN. Without it, the queue is as long as net.core.rmem_default says.
    setsockoptCall(fd, SOL_SOCKET, SO_RCVBUFFORCE, addressOf(size), size.length);
  }
  return fd;
}

function bound(
  protocol: Transport,
  address: string,
  port: number,
  { reuse, ahead = false }: { reuse: boolean; ahead?: boolean },
): Fd {
  const six = isIPv6(address);
  const type = (protocol === 'udp' ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK;
  const fd = check(
    socketCall(six ? AF_INET6 : AF_INET, type, protocol === 'sctp' ? IPPROTO_SCTP : 0),
    'socket',
    protocol,
  );
  try {
    if (six) setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY);
    if (reuse) setOption(fd, SOL_SOCKET, SO_REUSEADDR);
    if (ahead) setOption(fd, six ? IPPROTO_IPV6 : IPPROTO_IP, six ? IPV6_FREEBIND : IP_FREEBIND);
    const name = socketAddress(address, port, six);
    check(bindCall(fd, addressOf(name), name.length), 'bind', `${address} ${port}/${protocol}`);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Makes a bound TCP socket queue connections. listen(2). */
export const listen = (fd: Fd): void => void check(listenCall(fd, BACKLOG), 'listen');

function setOption(fd: Fd, level: number, option: number): void {
  const one = Buffer.allocUnsafeSlow(4);
  one.writeInt32LE(1);
  check(setsockoptCall(fd, level, option, addressOf(one), one.length), 'setsockopt');
}

/** An address as its 4 or 16 bytes. inet_pton(3). */
export function addressBytes(address: string): Buffer {
  const six = isIPv6(address);
  const binary = Buffer.alloc(16);
  if (inetPtonCall(six ? AF_INET6 : AF_INET, address, binary) !== 1) throw new TypeError(`${address} is no address`);
  return binary.subarray(0, six ? 16 : 4);
}

/** The text form of 4 or 16 bytes; IPv6 in its shortest form (RFC 5952). */
export function addressText(bytes: Buffer): string {
  if (bytes.length === 4) return [...bytes].join('.');
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(2 * i).toString(16));
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}

// struct sockaddr_in, sockaddr_in6
function socketAddress(address: string, port: number, six: boolean): Buffer {
  const name = Buffer.alloc(six ? 28 : 16);
  name.writeUInt16LE(six ? AF_INET6 : AF_INET, 0);
  name.writeUInt16BE(port, 2);
  addressBytes(address).copy(name, six ? 8 : 4);
  return name;
}
