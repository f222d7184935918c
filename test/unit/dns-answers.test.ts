/** What the DNS server answers: names, aliases, reverse names, sizes, and packets that are no questions. */
import { decode, encode, type DecodedPacket, type StringAnswer } from 'dns-packet';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Directory, reverseName } from '../../src/engine/networks/dns/directory.ts';
import { FrameReader, framed } from '../../src/engine/networks/dns/frames.ts';
import { isAnswerTo, parseQuery, RCODE, refusal, type Query } from '../../src/engine/networks/dns/message.ts';
import type { DnsContainer, DnsTables } from '../../src/engine/networks/dns/tables.ts';
import { verdict } from '../../src/engine/networks/dns/verdict.ts';
import { encodeQuestion } from '../support/dns-client.ts';

const NETWORK = { id: 'n', name: 'Dn', internal: false, resolvers: ['10.1.0.1', 'fd01::1'] };
const OTHER = { id: 'o', name: 'other', internal: false, resolvers: ['10.2.0.1'] };
const container = (id: string, ...endpoints: Partial<DnsContainer['endpoints'][number]>[]): DnsContainer => ({
  id,
  endpoints: endpoints.map((endpoint) => ({ network: 'n', addresses: [], names: [id], links: {}, ...endpoint })),
  servers: ['192.0.2.53'],
  ndots: false,
});
const TABLES: DnsTables = {
  version: 1,
  networks: [NETWORK, OTHER],
  containers: [
    container('cc', { addresses: ['10.1.0.2'], names: ['cc', 'peer.one', '0123456789ab', 'many'] }),
    container('six', { addresses: ['10.1.0.3', 'fd01::3'], names: ['six', 'many'] }),
    container('asker', { addresses: ['10.1.0.4'], links: { bar: 'cc', six: 'cc', lost: 'nobody' } }),
    container('both', { addresses: ['10.1.0.5'] }, { network: 'o', addresses: ['10.2.0.5'] }),
    container('far', { network: 'o', addresses: ['10.2.0.6'], names: ['far', 'cc'] }),
    ...Array.from({ length: 100 }, (_, i) =>
      container(`s${i}`, { addresses: [`10.1.1.${i}`], names: [`s${i}`, 'web'] }),
    ),
  ],
};

const packetOf = (name: string, type: string, edns?: number): Buffer => encodeQuestion(name, type, edns, 7);
const queryOf = (packet: Buffer): Query => parseQuery(packet) as Query;

interface Asked {
  from?: string;
  at?: string;
  type?: string;
  edns?: number;
  tcp?: boolean;
  tables?: DnsTables;
}
/** The answer, or the servers that are asked. */
function ask(name: string, { from = '10.1.0.4', at = '10.1.0.1', type = 'A', edns, tcp, tables = TABLES }: Asked = {}) {
  const query = queryOf(packetOf(name, type, edns));
  const decided = verdict(query, new Directory(tables).audience(at, from)!, tcp ? 0xffff : query.udpSize);
  return 'answer' in decided ? { ...decode(decided.answer), bytes: decided.answer.length } : [...decided.servers];
}
const addresses = (name: string, asked?: Asked): string[] =>
  ((ask(name, asked) as DecodedPacket).answers as StringAnswer[]).map(({ data }) => data).sort();
const FORWARDED = ['192.0.2.53'];

describe('names', () => {
  test.each([
    ['cc', ['10.1.0.2']],
    ['CC', ['10.1.0.2']],
    ['cc.dn', ['10.1.0.2']],
    ['cc.Dn', ['10.1.0.2']],
    ['peer.one', ['10.1.0.2']],
    ['peer.one.dn', ['10.1.0.2']],
    ['0123456789ab', ['10.1.0.2']],
    ['many', ['10.1.0.2', '10.1.0.3']],
  ])('%s', (name, expected) => expect(addresses(name, { from: '10.1.0.2' })).toEqual(expected));

  test.each(['one', 'cc.other', 'far', 'far.other', 'cc.dn.dn', 'nobody', 'bar'])('%s is asked elsewhere', (name) =>
    expect(ask(name, { from: '10.1.0.2' })).toEqual(FORWARDED),
  );

  test('of each network of the container, the first one that has it', () => {
    expect(addresses('cc', { from: '10.1.0.5' })).toEqual(['10.1.0.2']);
    expect(addresses('cc.other', { from: '10.1.0.5' })).toEqual(['10.2.0.6']);
    expect(addresses('far', { from: '10.1.0.5' })).toEqual(['10.2.0.6']);
    expect(addresses('far', { from: '10.2.0.5', at: '10.2.0.1' })).toEqual(['10.2.0.6']);
  });

  test('an alias of a link is known to its container only, and hides a name', () => {
    expect(addresses('bar')).toEqual(['10.1.0.2']);
    expect(addresses('bar.dn')).toEqual(['10.1.0.2']);
    expect(addresses('six')).toEqual(['10.1.0.2']);
    expect(ask('lost')).toEqual(FORWARDED);
  });

  test('an address of no container knows the network’s names, and asks the host’s servers', () => {
    expect(addresses('cc', { from: '10.1.0.99' })).toEqual(['10.1.0.2']);
    expect(ask('outside.example', { from: '10.1.0.99' })).toEqual([]);
  });

  test('an IPv6 address is recognised in any notation', () => {
    const inner = { ...NETWORK, internal: true };
    const tables = { ...TABLES, networks: [inner], containers: [container('x', { addresses: ['FD01:0:0:0::0C'] })] };
    expect(addresses('x', { from: 'fd01::c', at: 'fd01::1', type: 'AAAA', tables })).toEqual(['fd01::c']);
  });

  test('with ndots asked for, a single label that is no container is not asked elsewhere', () => {
    const tables = { ...TABLES, containers: TABLES.containers.map((each) => ({ ...each, ndots: true })) };
    expect(ask('nobody', { tables })).toMatchObject({ rcode: 'NOERROR', answers: [] });
    expect(ask('nobody.example', { tables })).toEqual(FORWARDED);
  });
});

describe('types', () => {
  test('a name without addresses of a family has an empty answer', () => {
    expect(addresses('six', { from: '10.1.0.2', type: 'AAAA' })).toEqual(['fd01::3']);
    for (const type of ['AAAA', 'MX']) expect(ask('cc', { type })).toMatchObject({ rcode: 'NOERROR', answers: [] });
    expect(ask('cc', { type: 'TXT' })).toEqual(FORWARDED);
  });

  test('reverse names lead to NAME.NETWORK', () => {
    expect(addresses('2.0.1.10.in-addr.arpa', { type: 'PTR' })).toEqual(['cc.dn']);
    expect(addresses(reverseName('fd01::3'), { type: 'PTR' })).toEqual(['six.dn']);
    expect(ask('6.0.2.10.in-addr.arpa', { type: 'PTR' })).toEqual(FORWARDED);
    expect(reverseName('fd01::3')).toBe('3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.d.f.ip6.arpa');
  });

  test('the question comes back as it was written (0x20), with its id and flags', () => {
    const packet = packetOf('cC.Dn', 'A');
    const { answer } = verdict(queryOf(packet), new Directory(TABLES).audience('10.1.0.1', '10.1.0.4')!, 512) as {
      answer: Buffer;
    };
    expect(answer.subarray(12, packet.length)).toEqual(packet.subarray(12));
    expect(decode(answer)).toMatchObject({ id: 7, flag_qr: true, flag_rd: true, flag_ra: true, flag_tc: false });
  });
});

describe('sizes', () => {
  test.each([
    ['512 bytes without EDNS', {}, 512],
    ['the client’s size', { edns: 1232 }, 1232],
    ['at least 512 bytes', { edns: 100 }, 512],
  ])('a long answer is truncated: %s', (_, asked, size) => {
    const answer = ask('web', asked) as DecodedPacket & { bytes: number };
    expect(answer.flag_tc).toBe(true);
    expect(answer.bytes).toBeLessThanOrEqual(size);
    expect(answer.bytes).toBeGreaterThan(size - 32);
    expect(answer.additionals).toHaveLength('edns' in asked ? 1 : 0);
  });

  test('is whole where there is room, in changing order', () => {
    for (const asked of [{ tcp: true }, { edns: 4096 }]) {
      expect(ask('web', asked)).toMatchObject({ flag_tc: false });
      expect(addresses('web', asked)).toHaveLength(100);
    }
    const first = new Set(
      Array.from({ length: 50 }, () => ((ask('web', { tcp: true }) as DecodedPacket).answers![0] as StringAnswer).data),
    );
    expect(first.size).toBeGreaterThan(5);
  });
});

describe('packets', () => {
  test.each([
    ['short', Buffer.alloc(11), undefined],
    ['an answer', encode({ type: 'response', questions: [{ type: 'A', name: 'a' }] }), undefined],
    ['no question', Buffer.alloc(12), RCODE.formatError],
    ['a cut question', packetOf('cc', 'A').subarray(0, -3), RCODE.formatError],
    ['a pointer to itself', Buffer.from('000701000001000000000000c00c00010001', 'hex'), RCODE.formatError],
    [
      'another opcode',
      Buffer.from('000728000001000000000000000001 0001'.replaceAll(' ', ''), 'hex'),
      RCODE.notImplemented,
    ],
    ['cut records', Buffer.concat([packetOf('cc', 'A', 1232).subarray(0, -8)]), RCODE.formatError],
  ])('%s', (_, packet, expected) => expect(parseQuery(packet)).toBe(expected));

  test('none of any content makes the server throw [dns-malformed]', () => {
    const audience = new Directory(TABLES).audience('10.1.0.1', '10.1.0.4')!;
    const serve = (packet: Buffer): void => {
      const query = parseQuery(packet);
      if (typeof query === 'number') refusal(packet, query);
      else if (query) verdict(query, audience, query.udpSize);
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => serve(Buffer.from(bytes))));
    // Questions in which a few bytes are changed get further.
    const change = fc.tuple(fc.nat(40), fc.nat(255));
    fc.assert(
      fc.property(fc.array(change, { maxLength: 4 }), fc.nat(60), (changes, length) => {
        const packet = packetOf('web', 'A', 1232);
        for (const [at, value] of changes) packet[at % packet.length] = value;
        serve(packet.subarray(0, length));
      }),
      { numRuns: 2_000 },
    );
  });

  test('an upstream server’s message is taken only for the same id and question', () => {
    const packet = packetOf('cc', 'A');
    const answer = (name: string, id = 7): Buffer => encode({ type: 'response', id, questions: [{ type: 'A', name }] });
    expect(isAnswerTo(answer('CC'), queryOf(packet))).toBe(true);
    for (const other of [
      answer('cd'),
      answer('cc', 8),
      packet,
      answer('cc').subarray(0, 11),
      answer('cc').subarray(0, 15),
    ])
      expect(isAnswerTo(other, queryOf(packet))).toBe(false);
  });

  test('are found in a stream however it is cut', () =>
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 })), fc.integer({ min: 1, max: 400 }), (bodies, step) => {
        const messages = bodies.map((body) => Buffer.from(body));
        const stream = Buffer.concat(messages.map(framed));
        const reader = new FrameReader();
        const found: Buffer[] = [];
        for (let at = 0; at < stream.length; at += step) found.push(...reader.push(stream.subarray(at, at + step)));
        expect(found).toEqual(messages);
      }),
    ));
});
