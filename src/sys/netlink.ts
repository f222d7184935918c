/** Netlink: requests to the kernel's network tables, made and read as bytes. netlink(7). */
import { closeSync } from 'node:fs';
import { faultPoint } from './fault.ts';
import { addressOf, check, declare, declareAside, Errno, errno, type Fd } from './libc.ts';

const socketCall = declare('int socket(int domain, int type, int protocol)');
const sendCall = declare('long send(int fd, void *data, size_t length, int flags)');
const sendAside = declareAside('long send(int fd, void *data, size_t length, int flags)');
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

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;
const NLMSGERR_ATTR_MSG = 1;
const HEADER = 16;
const NESTED = 0x8000;
// One answer is at most this long: the kernel sizes the parts of a dump by what the reader offers.
const RECEIVE = 65536;

const align4 = (n: number): number => (n + 3) & ~3;

/** One message to the kernel, without its header. */
export interface Request {
  type: number;
  flags: number;
  body: Buffer;
  /** For the error's text: what it was to do. */
  what: string;
}

/** One message from the kernel, without its header. */
export interface Reply {
  type: number;
  body: Buffer;
}

/** An attribute: a number becomes 32 bits of the host's order, a string gets its NUL. */
export function attribute(type: number, value: Buffer | number | string): Buffer {
  const payload =
    typeof value === 'string' ? Buffer.from(`${value}\0`) : typeof value === 'number' ? u32(value) : value;
  const bytes = Buffer.alloc(align4(4 + payload.length));
  bytes.writeUInt16LE(4 + payload.length, 0);
  bytes.writeUInt16LE(type, 2);
  payload.copy(bytes, 4);
  return bytes;
}

/** An attribute that holds attributes. */
export const nested = (type: number, ...attributes: Buffer[]): Buffer =>
  attribute(type | NESTED, Buffer.concat(attributes));

/** The attributes in `bytes`, by type; a type that occurs more than once keeps its last. */
export function attributes(bytes: Buffer): Map<number, Buffer> {
  return new Map(attributeList(bytes));
}

/** The attributes in `bytes`, in order. */
export function attributeList(bytes: Buffer): [type: number, value: Buffer][] {
  const list: [number, Buffer][] = [];
  for (let at = 0; at + 4 <= bytes.length;) {
    const length = bytes.readUInt16LE(at);
    if (length < 4) break;
    list.push([bytes.readUInt16LE(at + 2) & 0x3fff, bytes.subarray(at + 4, at + length)]);
    at += align4(length);
  }
  return list;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

/** A netlink socket. It stays in the network namespace in which it was opened. */
export class Netlink {
  #sequence = 1;
  readonly #received = Buffer.allocUnsafeSlow(RECEIVE);

  private constructor(private readonly fd: Fd) {
    for (const option of [NETLINK_CAP_ACK, NETLINK_EXT_ACK])
      setsockoptCall(fd, SOL_NETLINK, option, addressOf(ONE), ONE.length);
  }

  /** @param protocol NETLINK_ROUTE or NETLINK_NETFILTER */
  static open(protocol: number): Netlink {
    return new Netlink(check(socketCall(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol), 'socket', 'netlink'));
  }

  /** Sends the requests in one go and reads the acknowledgement of each. The kernel works them off in order.
   *  @throws Errno of the first that failed; the others were tried nevertheless */
  run(requests: Request[]): void {
    if (requests.length === 0) return;
    const { bytes, waiting } = this.#encode(requests);
    faultPoint('netlink.before');
    check(sendCall(this.fd, bytes, bytes.length, 0), 'send', 'netlink');
    faultPoint('netlink.after');
    this.#acknowledged(waiting);
  }

  /**
   * As `run`, with the kernel's work done in a thread of the pool: for what takes it milliseconds. Not for two at a
   * time on one socket.
   */
  async runAside(requests: Request[]): Promise<void> {
    const { bytes, waiting } = this.#encode(requests);
    if (Number(await sendAside(this.fd, bytes, bytes.length, 0)) < 0) throw new Errno(EIO, 'send', 'netlink');
    this.#acknowledged(waiting);
  }

  /** The answers to one request: all parts of a dump, or the one message before the acknowledgement. @throws Errno */
  ask(request: Request): Reply[] {
    const { bytes, waiting } = this.#encode([request]);
    check(sendCall(this.fd, bytes, bytes.length, 0), 'send', 'netlink');
    const replies: Reply[] = [];
    const dump = (request.flags & NLM.DUMP) === NLM.DUMP;
    for (;;) {
      for (const message of this.#receive()) {
        if (message.type === NLMSG_DONE) return replies;
        if (message.type !== NLMSG_ERROR) replies.push({ type: message.type, body: Buffer.from(message.body) });
        else if (failure(message, waiting)) throw failure(message, waiting)!;
        else if (!dump) return replies;
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
      const header = Buffer.alloc(HEADER);
      header.writeUInt32LE(HEADER + body.length, 0);
      header.writeUInt16LE(type, 4);
      header.writeUInt16LE(flags | NLM.REQUEST, 6);
      header.writeUInt32LE(sequence, 8);
      parts.push(header, body, Buffer.alloc(align4(body.length) - body.length));
      waiting.set(sequence, what);
      if (!(flags & NLM.ACK) && !(flags & NLM.DUMP)) waiting.delete(sequence);
    }
    return { bytes: Buffer.concat(parts), waiting };
  }

  // The kernel answers within send(2): whatever is to come is queued already.
  #acknowledged(waiting: Map<number, string>): void {
    let first: Errno | undefined;
    const open = new Set(waiting.keys());
    while (open.size > 0) {
      for (const message of this.#receive()) {
        if (message.type !== NLMSG_ERROR) continue;
        open.delete(message.sequence);
        first ??= failure(message, waiting);
      }
      if (first) break;
    }
    if (!first) return;
    this.#drain();
    throw first;
  }

  #receive(): Message[] {
    const n = check(recvCall(this.fd, this.#received, RECEIVE, MSG_DONTWAIT), 'recv', 'netlink');
    return messages(this.#received.subarray(0, n));
  }

  #drain(): void {
    while (Number(recvCall(this.fd, this.#received, RECEIVE, MSG_DONTWAIT)) >= 0);
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
  for (let at = 0; at + HEADER <= bytes.length;) {
    const length = bytes.readUInt32LE(at);
    if (length < HEADER) break;
    list.push({
      type: bytes.readUInt16LE(at + 4),
      flags: bytes.readUInt16LE(at + 6),
      sequence: bytes.readUInt32LE(at + 8),
      body: bytes.subarray(at + HEADER, at + length),
    });
    at += align4(length);
  }
  return list;
}

function failure(message: Message, waiting: Map<number, string>): Errno | undefined {
  const code = -message.body.readInt32LE(0);
  if (code === 0) return undefined;
  const what = waiting.get(message.sequence) ?? 'netlink';
  return new Errno(code, what, kernelText(message));
}

// The kernel's own words stand behind the request's header that it sends back. NETLINK_EXT_ACK.
function kernelText(message: Message): string {
  if (!(message.flags & NLM_F_ACK_TLVS)) return '';
  const echoed = message.flags & NLM_F_CAPPED ? HEADER : message.body.readUInt32LE(4);
  const text = attributes(message.body.subarray(4 + align4(echoed))).get(NLMSGERR_ATTR_MSG);
  return text ? text.toString('utf8', 0, text.length - 1) : '';
}
