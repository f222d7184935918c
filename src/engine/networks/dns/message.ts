/** DNS messages: questions as the server needs them, and its own answers. RFC 1035, RFC 6891 (EDNS). */
import { answer, name as nameCodec, question as questionCodec } from 'dns-packet';

export const RCODE = { noError: 0, formatError: 1, serverFailure: 2, notImplemented: 4, refused: 5 } as const;
export type Rcode = (typeof RCODE)[keyof typeof RCODE];

const HEADER_SIZE = 12;
/** The largest answer over UDP without EDNS, and what the server offers with it. */
const PLAIN_SIZE = 512;
const EDNS_SIZE = 4096;
const OPT_TYPE = 41;
/** Of a record behind its name: type, class, TTL, length of the data. */
const RECORD_HEAD_SIZE = 10;
// The third and fourth byte of a header.
const [QR, OPCODE, TC, RD] = [0x80, 0x78, 0x02, 0x01];
const [RA, CD, RCODE_BITS] = [0x80, 0x10, 0x0f];
/** As dockerd's. */
const TTL_S = 600;
/** Refers to the name of the question. RFC 1035 section 4.1.4. */
const NAME_OF_QUESTION = Buffer.from([0xc0, HEADER_SIZE]);
const MAX_LABEL = 63;
const MAX_NAME = 253;
const OPT_RECORD = answer.encode({
  type: 'OPT',
  name: '.',
  udpPayloadSize: EDNS_SIZE,
  extendedRcode: 0,
  ednsVersion: 0,
  flags: 0,
  flag_do: false,
  options: [],
});

export interface Query {
  packet: Buffer;
  /** Lower case, without the last dot. */
  name: string;
  /** Such as A; UNKNOWN_65 for types that have no name here. */
  type: string;
  class: string;
  /** Where the question ends in the packet. */
  end: number;
  edns: boolean;
  /** The longest answer that the client accepts over UDP. */
  udpSize: number;
}

/** @returns undefined for what is no question and gets no answer, an rcode for a question that is refused as such */
export function parseQuery(packet: Buffer): Query | Rcode | undefined {
  if (packet.length < HEADER_SIZE || packet[2]! & QR) return undefined;
  if (packet[2]! & OPCODE) return RCODE.notImplemented;
  if (packet.readUInt16BE(4) !== 1) return RCODE.formatError;
  try {
    const { name, type, class: klass = '' } = questionCodec.decode(packet, HEADER_SIZE);
    const end = HEADER_SIZE + questionCodec.decode.bytes;
    const size = ednsSize(packet, end);
    return {
      packet,
      name: name.toLowerCase(),
      type,
      class: klass,
      end,
      edns: size !== undefined,
      udpSize: Math.min(Math.max(PLAIN_SIZE, size ?? 0), EDNS_SIZE),
    };
  } catch {
    return RCODE.formatError;
  }
}

/** The size in the OPT record; undefined without one. @throws when the records are cut off */
function ednsSize(packet: Buffer, from: number): number | undefined {
  const records = packet.readUInt16BE(6) + packet.readUInt16BE(8) + packet.readUInt16BE(10);
  let at = from;
  for (let i = 0; i < records; i++) {
    nameCodec.decode(packet, at);
    at += nameCodec.decode.bytes;
    if (packet.readUInt16BE(at) === OPT_TYPE) return packet.readUInt16BE(at + 2);
    at += RECORD_HEAD_SIZE + packet.readUInt16BE(at + RECORD_HEAD_SIZE - 2);
  }
  return undefined;
}

/** A record for the name of the question. @throws when `data` cannot be encoded */
export function record(type: 'A' | 'AAAA' | 'PTR', data: string): Buffer {
  const encoded = answer.encode({ name: '.', type, ttl: TTL_S, data });
  return Buffer.concat([NAME_OF_QUESTION, encoded.subarray(1)]);
}

/** Whether a name fits into a message. */
export const isEncodable = (name: string): boolean =>
  Buffer.byteLength(name) <= MAX_NAME &&
  name.split('.').every((label) => label !== '' && Buffer.byteLength(label) <= MAX_LABEL);

/** Records that do not fit into `size` bytes are left out, and the answer is marked as truncated. */
export function reply(query: Query, code: Rcode, records: readonly Buffer[], size: number): Buffer {
  const { packet, end } = query;
  const tail = query.edns ? [OPT_RECORD] : [];
  let left = size - end - tail.reduce((sum, { length }) => sum + length, 0);
  const fitting: Buffer[] = [];
  for (const each of records) {
    left -= each.length;
    if (left < 0) break;
    fitting.push(each);
  }
  const message = Buffer.concat([packet.subarray(0, end), ...fitting, ...tail]);
  setFlags(message, code, { truncated: fitting.length < records.length });
  message.writeUInt16BE(fitting.length, 6);
  message.writeUInt16BE(0, 8);
  message.writeUInt16BE(tail.length, 10);
  return message;
}

/** An answer without the question, for one that cannot be read. */
export function refusal(packet: Buffer, code: Rcode): Buffer {
  const message = Buffer.alloc(HEADER_SIZE);
  packet.copy(message, 0, 0, 4);
  setFlags(message, code, { truncated: false });
  return message;
}

function setFlags(message: Buffer, code: Rcode, { truncated }: { truncated: boolean }): void {
  message[2] = QR | (message[2]! & (OPCODE | RD)) | (truncated ? TC : 0);
  message[3] = RA | (message[3]! & CD) | code;
}

/** Whether an upstream server's message answers the query. */
export function isAnswerTo(message: Buffer, { packet, end }: Query): boolean {
  if (message.length < HEADER_SIZE || !(message[2]! & QR)) return false;
  if (message.readUInt16BE(0) !== packet.readUInt16BE(0)) return false;
  // Some servers leave out the question when they refuse it.
  if (message.readUInt16BE(4) === 0) return rcodeOf(message) !== RCODE.noError;
  const asked = (bytes: Buffer): string => bytes.toString('latin1', HEADER_SIZE, end).toLowerCase();
  return message.length >= end && asked(message) === asked(packet);
}

export const rcodeOf = (message: Buffer): number => message[3]! & RCODE_BITS;
