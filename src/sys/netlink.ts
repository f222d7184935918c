/** Netlink sockets: encodes requests to the kernel, decodes its replies. netlink(7). */
import { closeSync } from 'node:fs';
import { faultPoint } from './fault.ts';
import { addressOf, check, declare, declareAsync, Errno, errno, type Fd } from './libc.ts';

const socketCall = declare('int socket(int domain, int type, int protocol)');
const sendCall = declare('long send(int fd, void *data, size_t length, int flags)');
const sendAsync = declareAsync('long send(int fd, void *data, size_t length, int flags)');
const recvCall = declare('long recv(int fd, void *data, size_t length, int flags)');
const setsockoptCall = declare('int setsockopt(int fd, int level, int option, void *value, unsigned int length)');

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const MSG_DONTWAIT = 0x40;
const EIO = 5;
const EAGAIN = 11;

export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;

export const NLM = {
  REQUEST: 1,
  ACK: 4,
  REPLACE: 0x100,
  EXCL: 0x200,
  CREATE: 0x400,
  APPEND: 0x800,
  DUMP: 0x300,
} as const;

/** Flags of a request to create something that must not exist yet. */
export const CREATE_NEW = NLM.ACK | NLM.CREATE | NLM.EXCL;

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;
const NLMSGERR_ATTR_MSG = 1;
const HEADER_SIZE = 16;
const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;
/** The kernel adapts the size of the parts of a dump to the receive buffer. */
const RECEIVE_BYTES = 65536;

const align4 = (n: number): number => (n + 3) & ~3;

/** One message to the kernel, without its header. */
export interface Request {
  type: number;
  flags: number;
  body: Buffer;
  /** What the request does, for error texts. */
  what: string;
}

/** One message from the kernel, without its header. */
export interface Reply {
  type: number;
  body: Buffer;
}

/** Encodes an attribute. A number becomes 32 bits in host byte order, a string is NUL-terminated. */
export function attribute(type: number, value: Buffer | number | string): Buffer {
  const payload = payloadOf(value);
  const bytes = Buffer.alloc(align4(4 + payload.length));
  bytes.writeUInt16LE(4 + payload.length, 0);
  bytes.writeUInt16LE(type, 2);
  payload.copy(bytes, 4);
  return bytes;
}

function payloadOf(value: Buffer | number | string): Buffer {
  if (typeof value === 'number') return u32(value);
  return typeof value === 'string' ? Buffer.from(`${value}\0`) : value;
}

/** Encodes an attribute that contains attributes. */
export const nested = (type: number, ...attributes: Buffer[]): Buffer =>
  attribute(type | NLA_F_NESTED, Buffer.concat(attributes));

/** The attributes in `bytes`, by type; of several with the same type the last one. */
export function attributes(bytes: Buffer): Map<number, Buffer> {
  return new Map(attributeList(bytes));
}

/** The attributes in `bytes`, in order. */
export function attributeList(bytes: Buffer): [type: number, value: Buffer][] {
  const list: [number, Buffer][] = [];
  for (let at = 0; at + 4 <= bytes.length;) {
    const length = bytes.readUInt16LE(at);
    if (length < 4) break;
    list.push([bytes.readUInt16LE(at + 2) & NLA_TYPE_MASK, bytes.subarray(at + 4, at + length)]);
    at += align4(length);
  }
  return list;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

/** A netlink socket. It belongs to the network namespace in which it was opened. */
export class Netlink {
  #sequence = 1;
  readonly #received = Buffer.allocUnsafeSlow(RECEIVE_BYTES);

  private constructor(private readonly fd: Fd) {
    for (const option of [NETLINK_CAP_ACK, NETLINK_EXT_ACK])
      setsockoptCall(fd, SOL_NETLINK, option, addressOf(ONE), ONE.length);
  }

  /** @param protocol NETLINK_ROUTE or NETLINK_NETFILTER */
  static open(protocol: number): Netlink {
    return new Netlink(check(socketCall(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol), 'socket', 'netlink'));
  }

  /**
   * Sends the requests in one message and reads their acknowledgements. The kernel executes them in order.
   * @throws Errno of the first that failed; the others were executed nevertheless
   */
  run(requests: Request[]): void {
    if (requests.length === 0) return;
    const { bytes, waiting } = this.#encode(requests);
    faultPoint('netlink.before');
    check(sendCall(this.fd, bytes, bytes.length, 0), 'send', 'netlink');
    faultPoint('netlink.after');
    this.#readAcknowledgements(waiting);
  }

  /**
   * As `run`, but the kernel works in a thread of the pool: for requests that take it milliseconds. One call at a time
   * per socket.
   */
  async runAsync(requests: Request[]): Promise<void> {
    const { bytes, waiting } = this.#encode(requests);
    // errno is per thread, and that of the pool's thread is not known here.
    if (Number(await sendAsync(this.fd, bytes, bytes.length, 0)) < 0) throw new Errno(EIO, 'send', 'netlink');
    this.#readAcknowledgements(waiting);
  }

  /** The replies to one request: all parts of a dump, or the message before the acknowledgement. @throws Errno */
  query(request: Request): Reply[] {
    const { bytes, waiting } = this.#encode([request]);
    check(sendCall(this.fd, bytes, bytes.length, 0), 'send', 'netlink');
    const replies: Reply[] = [];
    const dump = (request.flags & NLM.DUMP) === NLM.DUMP;
    for (;;) {
      for (const message of this.#receive()) {
        if (message.type === NLMSG_DONE) return replies;
        if (message.type === NLMSG_ERROR) {
          const error = errorOf(message, waiting);
          if (error) throw error;
          if (!dump) return replies;
        } else {
          replies.push({ type: message.type, body: Buffer.from(message.body) });
        }
      }
    }
  }

  close(): void {
    closeSync(this.fd);
  }

  #encode(requests: Request[]): { bytes: Buffer; waiting: Map<number, string> } {
    const waiting = new Map<number, string>();
    const parts: Buffer[] = [];
    for (const { type, flags, body, what } of requests) {
      const sequence = this.#sequence++;
      const header = Buffer.alloc(HEADER_SIZE);
      header.writeUInt32LE(HEADER_SIZE + body.length, 0);
      header.writeUInt16LE(type, 4);
      header.writeUInt16LE(flags | NLM.REQUEST, 6);
      header.writeUInt32LE(sequence, 8);
      parts.push(header, body, Buffer.alloc(align4(body.length) - body.length));
      if (flags & (NLM.ACK | NLM.DUMP)) waiting.set(sequence, what);
    }
    return { bytes: Buffer.concat(parts), waiting };
  }

  // The kernel executes requests within send(2), so all acknowledgements are queued already.
  #readAcknowledgements(waiting: Map<number, string>): void {
    let first: Errno | undefined;
    const missing = new Set(waiting.keys());
    while (missing.size > 0) {
      for (const message of this.#receive()) {
        if (message.type !== NLMSG_ERROR) continue;
        missing.delete(message.sequence);
        first ??= errorOf(message, waiting);
      }
      if (first) break;
    }
    if (!first) return;
    this.#drain();
    throw first;
  }

  #receive(): Message[] {
    const n = check(recvCall(this.fd, this.#received, RECEIVE_BYTES, MSG_DONTWAIT), 'recv', 'netlink');
    return messages(this.#received.subarray(0, n));
  }

  #drain(): void {
    while (recvCall(this.fd, this.#received, RECEIVE_BYTES, MSG_DONTWAIT) >= 0);
    if (errno() !== EAGAIN) throw new Errno(errno(), 'recv', 'netlink');
  }
}

const ONE = (() => {
  const bytes = Buffer.allocUnsafeSlow(4);
  bytes.writeInt32LE(1);
  return bytes;
})();

interface Message extends Reply {
  flags: number;
  sequence: number;
}

function messages(bytes: Buffer): Message[] {
  const list: Message[] = [];
  for (let at = 0; at + HEADER_SIZE <= bytes.length;) {
    const length = bytes.readUInt32LE(at);
    if (length < HEADER_SIZE) break;
    list.push({
      type: bytes.readUInt16LE(at + 4),
      flags: bytes.readUInt16LE(at + 6),
      sequence: bytes.readUInt32LE(at + 8),
      body: bytes.subarray(at + HEADER_SIZE, at + length),
    });
    at += align4(length);
  }
  return list;
}

/** The error that an acknowledgement reports, if any. */
function errorOf(message: Message, waiting: Map<number, string>): Errno | undefined {
  const code = -message.body.readInt32LE(0);
  if (code === 0) return undefined;
  const what = waiting.get(message.sequence) ?? 'netlink';
  return new Errno(code, what, kernelText(message));
}

// NETLINK_EXT_ACK: the kernel's error text follows the request, or only its header, which the kernel sends back.
function kernelText(message: Message): string {
  if (!(message.flags & NLM_F_ACK_TLVS)) return '';
  const echoed = message.flags & NLM_F_CAPPED ? HEADER_SIZE : message.body.readUInt32LE(4);
  const text = attributes(message.body.subarray(4 + align4(echoed))).get(NLMSGERR_ATTR_MSG);
  return text ? text.toString('utf8', 0, text.length - 1) : '';
}
