/** Unix sockets outside node:net: passing descriptors, peer credentials, listening without the event loop. unix(7). */
import { closeSync } from 'node:fs';
import { faultPoint } from './fault.ts';
import { addressOf, check, declare, Errno, errno, type Fd } from './libc.ts';

const socketCall = declare('int socket(int domain, int type, int protocol)');
const socketpairCall = declare('int socketpair(int domain, int type, int protocol, _Out_ int *pair)');
const bindCall = declare('int bind(int fd, void *address, unsigned int length)');
const listenCall = declare('int listen(int fd, int backlog)');
const acceptCall = declare('int accept4(int fd, void *address, void *length, int flags)');
const connectCall = declare('int connect(int fd, void *address, unsigned int length)');
const sendmsgCall = declare('long sendmsg(int fd, void *message, int flags)');
const recvmsgCall = declare('long recvmsg(int fd, void *message, int flags)');
const pollCall = declare('int poll(void *fds, unsigned long count, int timeout)');
const setsockoptCall = declare('int setsockopt(int fd, int level, int option, void *value, unsigned int length)');
const getsockoptCall = declare('int getsockopt(int fd, int level, int option, void *value, void *length)');

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const SO_PEERCRED = 17;
const SO_SNDBUFFORCE = 32;
const MSG_NOSIGNAL = 0x4000;
const MSG_DONTWAIT = 0x40;
const MSG_CMSG_CLOEXEC = 0x40000000;
const EAGAIN = 11;
const POLLERR = 0x08;
const POLLHUP = 0x10;
/** struct pollfd: descriptor, requested and returned events. poll(2) */
const POLLFD_SIZE = 8;
const POLLFD_REVENTS = 6;

/** Longest path of a unix socket: sun_path is 108 bytes with its NUL. unix(7). */
export const MAX_SOCKET_PATH = 107;
const MAX_RECEIVED_FDS = 16;

/** A listening unix socket outside the event loop, non-blocking and close-on-exec. */
export function listenUnix(path: string, backlog: number): Fd {
  const fd = check(socketCall(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), 'socket');
  try {
    const address = unixAddress(path);
    check(bindCall(fd, address, address.length), 'bind', path);
    check(listenCall(fd, backlog), 'listen', path);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** The next queued connection (non-blocking, close-on-exec); undefined when there is none. accept4(2). */
export function accept(listener: Fd): Fd | undefined {
  const fd = acceptCall(listener, null, null, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd >= 0) return fd;
  if (errno() === EAGAIN) return undefined;
  throw new Errno(errno(), 'accept4');
}

/**
 * Sets how many bytes a socket takes before its writer has to wait for the reader, beyond what sysctls allow. socket(7)
 * @returns false for what is no socket, and without CAP_NET_ADMIN
 */
export function setSendBuffer(fd: Fd, bytes: number): boolean {
  const value = Buffer.alloc(4);
  value.writeInt32LE(bytes);
  return setsockoptCall(fd, SOL_SOCKET, SO_SNDBUFFORCE, value, value.length) === 0;
}

/** Whether the other side has closed the connection, even if data is left to be read. poll(2) */
export function hasHungUp(fd: Fd): boolean {
  const pollfd = Buffer.alloc(POLLFD_SIZE);
  pollfd.writeInt32LE(fd);
  const ready = pollCall(pollfd, 1, 0) > 0;
  return ready && (pollfd.readInt16LE(POLLFD_REVENTS) & (POLLHUP | POLLERR)) !== 0;
}

/** Whether a process listens on the unix socket at `path`. */
export function isListening(path: string): boolean {
  const fd = check(socketCall(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), 'socket');
  try {
    const address = unixAddress(path);
    return connectCall(fd, address, address.length) === 0 || errno() === EAGAIN;
  } finally {
    closeSync(fd);
  }
}

/** The PID of the process that listens on the unix socket at `path`, even if it never accepts. */
export function listenerPid(path: string): number | undefined {
  const fd = check(socketCall(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), 'socket');
  try {
    const address = unixAddress(path);
    return connectCall(fd, address, address.length) === 0 ? peerOf(fd).pid : undefined;
  } finally {
    closeSync(fd);
  }
}

/**
 * Connects, sends `data` with a descriptor, and closes: the process that accepts finds both queued. Never blocks,
 * because connect(2) on a unix socket succeeds or fails at once.
 * @throws Errno EAGAIN when the backlog is full
 */
export function deliverFd(path: string, data: Buffer, attached: Fd): void {
  const fd = check(socketCall(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), 'socket');
  try {
    const address = unixAddress(path);
    check(connectCall(fd, address, address.length), 'connect', path);
    sendFds(fd, data, [attached]);
    faultPoint('handover.sent');
  } finally {
    closeSync(fd);
  }
}

/** Sends `data` with descriptors. sendmsg(2) with SCM_RIGHTS. @throws Errno EPIPE when the peer has closed */
export function sendFds(socket: Fd, data: Buffer, fds: Fd[]): void {
  const control = Buffer.alloc(16 + align8(fds.length * 4));
  control.writeBigUInt64LE(BigInt(16 + fds.length * 4), 0);
  control.writeInt32LE(SOL_SOCKET, 8);
  control.writeInt32LE(SCM_RIGHTS, 12);
  fds.forEach((fd, i) => control.writeInt32LE(fd, 16 + 4 * i));
  const message = messageHeader(data, control);
  check(sendmsgCall(socket, message.header, MSG_NOSIGNAL), 'sendmsg');
}

export interface Received {
  data: Buffer;
  fds: Fd[];
}

/** Queued data and descriptors; undefined when nothing is queued. Never blocks. recvmsg(2). */
export function receiveFds(socket: Fd, maxData = 4096): Received | undefined {
  const data = Buffer.allocUnsafeSlow(maxData);
  const control = Buffer.alloc(16 + 4 * MAX_RECEIVED_FDS);
  const message = messageHeader(data, control);
  const n = recvmsgCall(socket, message.header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0) {
    if (errno() === EAGAIN) return undefined;
    throw new Errno(errno(), 'recvmsg');
  }
  return { data: data.subarray(0, n), fds: receivedFds(control, Number(message.header.readBigUInt64LE(40))) };
}

/** UID and PID of the process at the other end of a unix socket. SO_PEERCRED. */
export function peerOf(socket: Fd): { pid: number; uid: number } {
  const credentials = Buffer.alloc(12);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(12);
  check(getsockoptCall(socket, SOL_SOCKET, SO_PEERCRED, credentials, length), 'getsockopt');
  return { pid: credentials.readInt32LE(0), uid: credentials.readInt32LE(4) };
}

/** Two connected unix stream sockets, close-on-exec, non-blocking. socketpair(2). */
export function socketPair(): [Fd, Fd] {
  const pair: [number, number] = [0, 0];
  check(socketpairCall(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 'socketpair');
  return pair;
}

function unixAddress(path: string): Buffer {
  const bytes = Buffer.from(path);
  if (bytes.length > MAX_SOCKET_PATH)
    throw new Errno(36, 'socket path', `${path} is longer than ${MAX_SOCKET_PATH} bytes`);
  const address = Buffer.alloc(2 + bytes.length + 1);
  address.writeUInt16LE(AF_UNIX, 0);
  bytes.copy(address, 2);
  return address;
}

// struct msghdr and struct iovec of LP64. The result references the buffers, so that they outlive the call.
function messageHeader(data: Buffer, control: Buffer): { header: Buffer; keep: Buffer[] } {
  const vector = Buffer.alloc(16);
  vector.writeBigUInt64LE(addressOf(data), 0);
  vector.writeBigUInt64LE(BigInt(data.length), 8);
  const header = Buffer.alloc(56);
  header.writeBigUInt64LE(addressOf(vector), 16);
  header.writeBigUInt64LE(1n, 24);
  header.writeBigUInt64LE(addressOf(control), 32);
  header.writeBigUInt64LE(BigInt(control.length), 40);
  return { header, keep: [data, control, vector] };
}

function receivedFds(control: Buffer, length: number): Fd[] {
  const fds: Fd[] = [];
  for (let at = 0; at + 16 <= length;) {
    const size = Number(control.readBigUInt64LE(at));
    if (size < 16) break;
    if (control.readInt32LE(at + 8) === SOL_SOCKET && control.readInt32LE(at + 12) === SCM_RIGHTS) {
      for (let k = at + 16; k + 4 <= at + size; k += 4) fds.push(control.readInt32LE(k));
    }
    at += align8(size);
  }
  return fds;
}

const align8 = (n: number): number => (n + 7) & ~7;
