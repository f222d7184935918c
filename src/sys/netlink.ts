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
const SOL_SOCKET = 1;
const SO_SNDBUFFORCE = 32;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const MSG_DONTWAIT = 0x40;
const EIO = 5;
const EAGAIN = 11;
const ENOBUFS = 105;

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
const NLM_F_DUMP_INTR = 0x10;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;
const NLMSGERR_ATTR_MSG = 1;
const HEADER_SIZE = 16;
const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;
/** The kernel adapts the size of the parts of a dump to the receive buffer. */
const RECEIVE_BYTES = 65536;
/** The send buffer's initial size is larger, by default 208 KiB. */
const SEND_BYTES = 65536;
/** How often a dump is repeated while what it lists changes; the last one counts in any case. */
const DUMP_ATTEMPTS = 5;

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
  const length = 4 + payload.length;
  const bytes = Buffer.allocUnsafe(align4(length));
  bytes.writeUInt16LE(length, 0);
  bytes.writeUInt16LE(type, 2);
  payload.copy(bytes, 4);
  return bytes.fill(0, length);
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
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

/** Requests under way, by their sequence numbers. */
interface Sent {
  bytes: Buffer;
  whats: Map<number, string>;
  /** Those that are acknowledged when they succeed, too. */
  unanswered: Set<number>;
}

/** A netlink socket. It belongs to the network namespace in which it was opened. */
export class Netlink {
  #sequence = 1;
  #sendBytes = SEND_BYTES;
  readonly #received = Buffer.allocUnsafeSlow(RECEIVE_BYTES);

  private constructor(private readonly fd: Fd) {
    for (const option of [NETLINK_CAP_ACK, NETLINK_EXT_ACK]) this.#setOption(SOL_NETLINK, option, 1);
  }

  /** @param protocol NETLINK_ROUTE or NETLINK_NETFILTER */
  static open(protocol: number): Netlink {
    return new Netlink(check(socketCall(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol), 'socket', 'netlink'));
  }

  /**
   * Sends the requests in one message and reads their acknowledgements. The kernel executes them in order. It answers
   * those without NLM.ACK only if they fail, which is noticed when a later one has it.
   * @throws Errno of the first that failed; the others were executed nevertheless, except by nf_tables
   */
  run(requests: Request[]): void {
    if (requests.length === 0) return;
    const sent = this.#encode(requests);
    faultPoint('netlink.before');
    this.#send(sent.bytes);
    faultPoint('netlink.after');
    this.#readAcknowledgements(sent);
  }

  /**
   * As `run`, but the kernel works in a thread of the pool: for requests that take it milliseconds. One call at a time
   * per socket.
   */
  async runAsync(requests: Request[]): Promise<void> {
    const sent = this.#encode(requests);
    const { bytes } = sent;
    this.#makeRoom(bytes.length);
    // errno is per thread, and that of the pool's thread is not known here.
    if (Number(await sendAsync(this.fd, bytes, bytes.length, 0)) < 0) throw new Errno(EIO, 'send', 'netlink');
    this.#readAcknowledgements(sent);
  }

  /** The replies to one request: all parts of a dump, or the message before the acknowledgement. @throws Errno */
  query(request: Request): Reply[] {
    let answer = this.#ask(request);
    for (let attempt = 1; answer.isInterrupted && attempt < DUMP_ATTEMPTS; attempt++) answer = this.#ask(request);
    return answer.replies;
  }

  // The kernel flags the parts of a dump behind a change of what is dumped.
  #ask(request: Request): { replies: Reply[]; isInterrupted: boolean } {
    const { bytes, whats } = this.#encode([request]);
    this.#send(bytes);
    const replies: Reply[] = [];
    let isInterrupted = false;
    const isDump = (request.flags & NLM.DUMP) === NLM.DUMP;
    for (;;) {
      for (const message of this.#receive()) {
        if (!whats.has(message.sequence)) continue;
        isInterrupted ||= isDump && (message.flags & NLM_F_DUMP_INTR) !== 0;
        if (message.type === NLMSG_DONE) return { replies, isInterrupted };
        if (message.type === NLMSG_ERROR) {
          const error = errorOf(message, whats);
          if (error) throw error;
          if (!isDump) return { replies, isInterrupted };
        } else {
          replies.push({ type: message.type, body: Buffer.from(message.body) });
        }
      }
    }
  }

  close(): void {
    closeSync(this.fd);
  }

  #encode(requests: Request[]): Sent {
    const whats = new Map<number, string>();
    const unanswered = new Set<number>();
    const parts: Buffer[] = [];
    for (const { type, flags, body, what } of requests) {
      const sequence = this.#sequence++;
      const header = Buffer.alloc(HEADER_SIZE);
      header.writeUInt32LE(HEADER_SIZE + body.length, 0);
      header.writeUInt16LE(type, 4);
      header.writeUInt16LE(flags | NLM.REQUEST, 6);
      header.writeUInt32LE(sequence, 8);
      parts.push(header, body, Buffer.alloc(align4(body.length) - body.length));
      whats.set(sequence, what);
      if (flags & NLM.ACK) unanswered.add(sequence);
    }
    return { bytes: Buffer.concat(parts), whats, unanswered };
  }

  #send(bytes: Buffer): void {
    this.#makeRoom(bytes.length);
    check(sendCall(this.fd, bytes, bytes.length, 0), 'send', 'netlink');
  }

  #setOption(level: number, option: number, value: number): number {
    const bytes = Buffer.allocUnsafeSlow(4);
    bytes.writeInt32LE(value);
    return setsockoptCall(this.fd, level, option, addressOf(bytes), bytes.length);
  }

  // A message that is larger than the send buffer is refused.
  #makeRoom(length: number): void {
    if (length <= this.#sendBytes) return;
    check(this.#setOption(SOL_SOCKET, SO_SNDBUFFORCE, length), 'setsockopt', 'netlink');
    this.#sendBytes = length;
  }

  // The kernel executes requests within send(2), so all acknowledgements are queued already.
  #readAcknowledgements({ whats, unanswered }: Sent): void {
    let first: Errno | undefined;
    while (unanswered.size > 0 && !first) {
      for (const message of this.#receive()) {
        if (message.type !== NLMSG_ERROR || !whats.has(message.sequence)) continue;
        unanswered.delete(message.sequence);
        first ??= errorOf(message, whats);
      }
    }
    if (!first) return;
    this.#drain();
    throw first;
  }

  #receive(): Message[] {
    const receive = (): number => recvCall(this.fd, this.#received, RECEIVE_BYTES, MSG_DONTWAIT);
    let n = receive();
    // Tells once that answers did not fit into the receive buffer. The first ones, which count, are in it.
    if (n < 0 && errno() === ENOBUFS) n = receive();
    return messages(this.#received.subarray(0, check(n, 'recv', 'netlink')));
  }

  #drain(): void {
    while (recvCall(this.fd, this.#received, RECEIVE_BYTES, MSG_DONTWAIT) >= 0 || errno() === ENOBUFS);
    if (errno() !== EAGAIN) throw new Errno(errno(), 'recv', 'netlink');
  }
}

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
function errorOf(message: Message, whats: Map<number, string>): Errno | undefined {
  const code = -message.body.readInt32LE(0);
  if (code === 0) return undefined;
  const what = whats.get(message.sequence) ?? 'netlink';
  return new Errno(code, what, kernelText(message));
}

// NETLINK_EXT_ACK: the kernel's error text follows the request, or only its header, which the kernel sends back.
function kernelText(message: Message): string {
  if (!(message.flags & NLM_F_ACK_TLVS)) return '';
  const echoed = message.flags & NLM_F_CAPPED ? HEADER_SIZE : message.body.readUInt32LE(4);
  const text = attributes(message.body.subarray(4 + align4(echoed))).get(NLMSGERR_ATTR_MSG);
  return text ? text.toString('utf8', 0, text.length - 1) : '';
}
