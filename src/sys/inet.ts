/** Internet sockets that are bound and nothing more. */
import { closeSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { check, declare, type Fd } from './libc.ts';

const socketCall = declare('int socket(int domain, int type, int protocol)');
const bindCall = declare('int bind(int fd, void *address, unsigned int length)');
const setsockoptCall = declare('int setsockopt(int fd, int level, int option, void *value, unsigned int length)');

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;

/** A bound socket that does not listen: the port is taken, and a connection to it is refused, not left hanging.
 *  @throws Errno EADDRINUSE when somebody has it */
export function bindPort(protocol: 'tcp' | 'udp', address: string, port: number): Fd {
  const v6 = isIPv6(address);
  const fd = check(socketCall(v6 ? AF_INET6 : AF_INET, (protocol === 'tcp' ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0), 'socket');
  try {
    if (v6) setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    // Leftovers in TIME_WAIT must not refuse us, but nobody who asks for reuse may share the port afterwards.
    if (protocol === 'tcp') setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    const bytes = socketAddress(address, port);
    check(bindCall(fd, bytes, bytes.length), 'bind', `${address} ${port}/${protocol}`);
    if (protocol === 'tcp') setOption(fd, SOL_SOCKET, SO_REUSEADDR, 0);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function setOption(fd: Fd, level: number, option: number, value: number): void {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  check(setsockoptCall(fd, level, option, bytes, bytes.length), 'setsockopt');
}

// struct sockaddr_in and sockaddr_in6.
function socketAddress(address: string, port: number): Buffer {
  const v6 = isIPv6(address);
  const bytes = Buffer.alloc(v6 ? 28 : 16);
  bytes.writeUInt16LE(v6 ? AF_INET6 : AF_INET, 0);
  bytes.writeUInt16BE(port, 2);
  if (v6) ipv6Bytes(address).copy(bytes, 8);
  else Buffer.from(address.split('.').map(Number)).copy(bytes, 4);
  return bytes;
}

function ipv6Bytes(address: string): Buffer {
  const words = new URL(`http://[${address.split('%')[0]}]/`).hostname.slice(1, -1);
  const [head = '', tail] = words.split('::');
  const parse = (text: string): number[] => (text === '' ? [] : text.split(':').map((word) => parseInt(word, 16)));
  const front = parse(head);
  const back = tail === undefined ? [] : parse(tail);
  const middle = new Array<number>(8 - front.length - back.length).fill(0);
  const bytes = Buffer.alloc(16);
  [...front, ...middle, ...back].forEach((word, i) => bytes.writeUInt16BE(word, i * 2));
  return bytes;
}
