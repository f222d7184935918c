/** Raw DNS questions from a container's network namespace, and an upstream server for tests. */
import { decode, encode, type DecodedPacket } from 'dns-packet';
import { execFile, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { promisify } from 'node:util';

interface Question {
  /** Any process in the network namespace to ask from. */
  pid: number;
  server: string;
  name: string;
  type?: string;
  tcp?: boolean;
  /** UDP size, with EDNS. */
  edns?: number;
}

/** Sends one packet and prints what comes back as hex; nothing when nothing comes within 20 s. */
const ASK = `
  const [server, hex, tcp] = process.argv.slice(1), packet = Buffer.from(hex, 'hex');
  const done = (m) => { console.log(m.toString('hex')); process.exit(); };
  setTimeout(() => process.exit(), 20000);
  if (tcp) {
    const s = require('net').connect(53, server, () => s.write(Buffer.concat([Buffer.from([packet.length >> 8, packet.length & 255]), packet])));
    let got = Buffer.alloc(0);
    s.on('data', (d) => { got = Buffer.concat([got, d]); if (got.length >= 2 && got.length >= 2 + got.readUInt16BE(0)) done(got.subarray(2)); });
  } else {
    const s = require('dgram').createSocket(server.includes(':') ? 'udp6' : 'udp4');
    s.on('message', done).send(packet, 53, server);
  }`;

/** `rcode` is missing in the declarations. */
type Answered = DecodedPacket & { raw: Buffer; rcode: string };

/** @throws without an answer */
export async function ask(question: Question): Promise<Answered> {
  const raw = Buffer.from(await askRaw(question), 'hex');
  if (raw.length === 0) throw new Error(`no answer to ${question.name}`);
  return { ...(decode(raw) as Answered), raw };
}

/** A question as a client sends it. `edns`: the UDP size that it offers. */
export const encodeQuestion = (name: string, type: string, edns?: number, id = 1234): Buffer =>
  encode({
    type: 'query',
    id,
    flags: 0x100,
    questions: [{ type: type as 'A', name }],
    additionals: edns
      ? [
          {
            type: 'OPT',
            name: '.',
            udpPayloadSize: edns,
            extendedRcode: 0,
            ednsVersion: 0,
            flags: 0,
            flag_do: false,
            options: [],
          },
        ]
      : [],
  });

async function askRaw({ pid, server, name, type = 'A', tcp = false, edns }: Question): Promise<string> {
  const packet = encodeQuestion(name, type, edns);
  const { stdout } = await promisify(execFile)('nsenter', [
    ...['-t', String(pid), '-n', process.execPath, '-e', ASK],
    ...[server, packet.toString('hex'), ...(tcp ? ['tcp'] : [])],
  ]);
  return stdout.trim();
}

/** The data of the records that answer. */
export const dataOf = ({ answers = [] }: DecodedPacket): unknown[] =>
  answers.map((answer) => ('data' in answer ? answer.data : undefined));

/**
 * Asks over and over, one question at a time and each sent once, and prints a line for each: ok, lost (after 20 s), or
 * what came instead.
 */
const LOOP = `
  const [server, hex] = process.argv.slice(1), packet = Buffer.from(hex, 'hex'), s = require('dgram').createSocket('udp4');
  let id = 0, timer;
  const next = (line) => {
    if (line) console.log(line);
    clearTimeout(timer);
    packet.writeUInt16BE(id = (id + 1) & 0xffff);
    s.send(packet, 53, server);
    timer = setTimeout(() => next('lost'), 20000);
  };
  s.on('message', (m) => {
    if (m.readUInt16BE(0) !== id) return;
    const line = (m[3] & 15) === 0 && m.readUInt16BE(6) === 1 ? 'ok' : 'wrong: ' + m.toString('hex');
    clearTimeout(timer);
    setTimeout(() => next(line), 5);
  });
  s.on('error', (error) => next('error: ' + error.message));
  s.bind(() => next());`;

export interface QueryLoop extends Disposable {
  /** How many questions got the right answer. */
  answered(): number;
  /** What else became of the others. */
  failures(): string[];
}

/** Asks for the A record of a container from a network namespace until it is disposed of. */
export function queryLoop(pid: number, server: string, name: string): QueryLoop {
  const packet = encode({ type: 'query', flags: 0x100, questions: [{ type: 'A', name }] });
  const child = spawn(
    'nsenter',
    ['-t', String(pid), '-n', process.execPath, '-e', LOOP, server, packet.toString('hex')],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let answered = 0;
  const failures: string[] = [];
  let rest = '';
  child.stdout.on('data', (chunk: Buffer) => {
    const lines = (rest + chunk.toString()).split('\n');
    rest = lines.pop()!;
    for (const line of lines)
      if (line === 'ok') answered++;
      else failures.push(line);
  });
  return {
    answered: () => answered,
    failures: () => failures,
    [Symbol.dispose]: () => void child.kill('SIGKILL'),
  };
}

export interface Upstream extends AsyncDisposable {
  /** Names that were asked for, with the transport. */
  asked: string[];
}

/**
 * An upstream server at an address of the host.
 * @param answer the message for a question; undefined for none
 */
export async function startUpstream(
  address: string,
  answer: (packet: Buffer, transport: 'udp' | 'tcp') => Buffer | undefined,
): Promise<Upstream> {
  const asked: string[] = [];
  const reply = (packet: Buffer, transport: 'udp' | 'tcp'): Buffer | undefined => {
    asked.push(`${transport} ${decode(packet).questions![0]!.name}`);
    return answer(packet, transport);
  };
  const udp = createSocket('udp4').on('message', (packet, { address: from, port }) => {
    const message = reply(packet, 'udp');
    if (message) udp.send(message, port, from);
  });
  const tcp = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    let got = Buffer.alloc(0);
    socket.on('data', (chunk) => {
      got = Buffer.concat([got, chunk]);
      if (got.length < 2 || got.length < 2 + got.readUInt16BE(0)) return;
      const message = reply(got.subarray(2, 2 + got.readUInt16BE(0)), 'tcp');
      if (!message) return;
      const length = Buffer.alloc(2);
      length.writeUInt16BE(message.length);
      socket.end(Buffer.concat([length, message]));
    });
  });
  await new Promise<void>((resolve) => udp.bind(53, address, resolve));
  await new Promise<void>((resolve) => tcp.listen(53, address, resolve));
  return {
    asked,
    [Symbol.asyncDispose]: async () => {
      udp.close();
      await new Promise((resolve) => tcp.close(resolve));
    },
  };
}
