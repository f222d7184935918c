/** Answers what arrives at the bound sockets, by the tables. */
import { Directory } from './directory.ts';
import { MAX_SERVERS, type HostServers } from './host-servers.ts';
import type { KeptSockets, SocketName } from './kept-sockets.ts';
import {
  Connections,
  listenForDatagrams,
  listenForStreams,
  type Answer,
  type DatagramListener,
  type Listener,
} from './listeners.ts';
import { parseQuery, RCODE, refusal, reply, type Query } from './message.ts';
import type { DnsRetired, DnsTables } from './tables.ts';
import { Upstream, type Transport } from './upstream.ts';
import { verdict } from './verdict.ts';

const MAX_TCP_SIZE = 0xffff;

type Unanswered = DnsRetired['unanswered'][number];

export class Service {
  #directory = new Directory({ version: 1, networks: [], containers: [] });
  readonly #listeners = new Map<SocketName, Listener>();
  readonly #datagrams = new Map<string, DatagramListener>();
  readonly #connections = new Connections();
  readonly #upstream = new Upstream();
  /** Forwarded questions that came by UDP. */
  readonly #unanswered = new Set<Unanswered>();

  constructor(
    private readonly sockets: KeptSockets,
    private readonly hostServers: HostServers,
  ) {}

  /** Whether there is anything to answer. */
  get isIdle(): boolean {
    return this.#directory.resolvers.length === 0;
  }

  /** Connections of clients. */
  get connections(): number {
    return this.#connections.count;
  }

  /** Answers by these tables from now on. @returns which sockets could not be opened, and why */
  async use(tables: DnsTables): Promise<string[]> {
    // First the tables: a question that is waiting in a new socket finds them.
    this.#directory = new Directory(tables);
    const names = this.#directory.resolvers.flatMap((address): SocketName[] => [`udp ${address}`, `tcp ${address}`]);
    const failed = await this.sockets.set(names);
    for (const [name, listener] of this.#listeners) {
      if (names.includes(name)) continue;
      listener.close();
      this.#listeners.delete(name);
      if (name.startsWith('udp')) this.#datagrams.delete(addressOf(name));
    }
    for (const name of names) if (!this.#listeners.has(name)) this.#listen(name);
    return failed;
  }

  /** Answers questions that another server has read. */
  adopt({ unanswered }: DnsRetired): void {
    for (const { resolver, address, port, packet } of unanswered)
      this.#onDatagram(resolver, Buffer.from(packet, 'base64'), { address, port });
  }

  /** Takes no more questions. @returns those that another server has to answer */
  retire(): DnsRetired {
    for (const listener of this.#listeners.values()) listener.close();
    this.#listeners.clear();
    this.#datagrams.clear();
    return { unanswered: [...this.#unanswered] };
  }

  #listen(name: SocketName): void {
    const fd = this.sockets.get(name);
    if (fd === undefined) return;
    const resolver = addressOf(name);
    if (name.startsWith('tcp')) {
      const onQuery = (packet: Buffer, from: string, answer: Answer): void =>
        this.#serve({ resolver, packet, from, transport: 'tcp' }, answer);
      this.#listeners.set(name, listenForStreams(fd, this.#connections, onQuery));
    } else {
      const listener = listenForDatagrams(fd, resolver, (packet, from) => this.#onDatagram(resolver, packet, from));
      this.#listeners.set(name, listener);
      this.#datagrams.set(resolver, listener);
    }
  }

  #onDatagram(resolver: string, packet: Buffer, { address, port }: { address: string; port: number }): void {
    const answer: Answer = (message) => message && this.#datagrams.get(resolver)?.send(message, port, address);
    const forwarded = (): (() => void) => {
      const entry = { resolver, address, port, packet: packet.toString('base64') };
      this.#unanswered.add(entry);
      return () => void this.#unanswered.delete(entry);
    };
    this.#serve({ resolver, packet, from: address, transport: 'udp', forwarded }, answer);
  }

  #serve(question: Question, answer: Answer): void {
    const { resolver, packet, from, transport } = question;
    const audience = this.#directory.audience(resolver, from);
    const query = audience && parseQuery(packet);
    if (query === undefined) return answer(undefined);
    if (typeof query === 'number') return answer(refusal(packet, query));
    const decided = verdict(query, audience!, transport === 'udp' ? query.udpSize : MAX_TCP_SIZE);
    if ('answer' in decided) answer(decided.answer);
    else void this.#forward(query, decided.servers, question).then(answer);
  }

  async #forward(query: Query, given: readonly string[], { from, transport, forwarded }: Question): Promise<Buffer> {
    const servers = (given.length > 0 ? given.slice(0, MAX_SERVERS) : this.hostServers.get()).filter(
      // A server that asks itself would never answer.
      (server) => !this.#directory.resolvers.includes(server),
    );
    const answered = forwarded?.();
    const found = await this.#upstream.ask(query, servers, transport, from);
    answered?.();
    if (Buffer.isBuffer(found)) return found;
    return reply(query, found === 'busy' ? RCODE.refused : RCODE.serverFailure, [], query.udpSize);
  }
}

interface Question {
  resolver: string;
  packet: Buffer;
  from: string;
  transport: Transport;
  /** Called when the question is forwarded; what it returns is called when that has ended. */
  forwarded?: () => () => void;
}

const addressOf = (name: SocketName): string => name.slice('udp '.length);
