/** Questions to upstream servers. */
import { createSocket } from 'node:dgram';
import { connect, isIPv6 } from 'node:net';
import { FrameReader, framed } from './frames.ts';
import { knownAddress } from './known-address.ts';
import { isAnswerTo, RCODE, rcodeOf, type Query } from './message.ts';

export type Transport = 'udp' | 'tcp';

const PORT = 53;
/** After this time the next server is asked too. */
const NEXT_MS = 2_000;
/** How long the last server has; with NEXT_MS for those before it. */
const LAST_MS = 4_000;
/** Of all clients together, as in dockerd, and of one address. */
const MAX_OUTSTANDING = 1_024;
const MAX_OUTSTANDING_EACH = 256;

/** Asks one server. @returns what gives the attempt up */
type Attempt = (query: Query, server: string, onAnswer: (answer: Buffer) => void, onFailure: () => void) => () => void;

export class Upstream {
  #outstanding = 0;
  readonly #byClient = new Map<string, number>();

  /**
   * Asks the servers one after the other until one answers; a slow one may still answer while the next is asked.
   * @returns its message as it is, undefined without an answer, 'busy' when too many questions are outstanding
   */
  async ask(
    query: Query,
    servers: readonly string[],
    transport: Transport,
    client: string,
  ): Promise<Buffer | undefined | 'busy'> {
    const ofClient = this.#byClient.get(client) ?? 0;
    if (this.#outstanding >= MAX_OUTSTANDING || ofClient >= MAX_OUTSTANDING_EACH) return 'busy';
    this.#count(client, 1);
    try {
      return await exchange(query, servers, transport === 'udp' ? askByDatagram : askByStream);
    } finally {
      this.#count(client, -1);
    }
  }

  #count(client: string, change: 1 | -1): void {
    this.#outstanding += change;
    const left = (this.#byClient.get(client) ?? 0) + change;
    if (left > 0) this.#byClient.set(client, left);
    else this.#byClient.delete(client);
  }
}

function exchange(query: Query, servers: readonly string[], attempt: Attempt): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const waiting = new Set<() => void>();
    let next = 0;
    let timer: NodeJS.Timeout | undefined;
    const settle = (answer: Buffer | undefined): void => {
      clearTimeout(timer);
      next = servers.length;
      for (const giveUp of waiting) giveUp();
      waiting.clear();
      resolve(answer);
    };
    const askNext = (): void => {
      clearTimeout(timer);
      const server = servers[next++];
      if (server === undefined) {
        if (waiting.size === 0) settle(undefined);
        else timer = setTimeout(() => settle(undefined), LAST_MS - NEXT_MS);
        return;
      }
      timer = setTimeout(askNext, NEXT_MS);
      const failed = (): void => {
        waiting.delete(giveUp);
        if (next < servers.length || waiting.size === 0) askNext();
      };
      const giveUp = attempt(
        query,
        server,
        // As in dockerd, a server that refuses may be the wrong one.
        (answer) => {
          if (rcodeOf(answer) !== RCODE.serverFailure && rcodeOf(answer) !== RCODE.refused) return settle(answer);
          giveUp();
          failed();
        },
        failed,
      );
      waiting.add(giveUp);
    };
    askNext();
  });
}

/** Each question has a socket and so a port of its own, which makes answers hard to forge. RFC 5452. */
function askByDatagram(
  query: Query,
  server: string,
  onAnswer: (answer: Buffer) => void,
  onFailure: () => void,
): () => void {
  const socket = createSocket({ type: isIPv6(server) ? 'udp6' : 'udp4', lookup: knownAddress });
  let open = true;
  const close = (): void => {
    if (open) socket.close();
    open = false;
  };
  const fail = (): void => {
    if (!open) return;
    close();
    onFailure();
  };
  socket.on('error', fail);
  socket.on('message', (message) => {
    if (open && isAnswerTo(message, query)) onAnswer(message);
  });
  // A connected socket reports that nothing listens there, and takes datagrams from there only.
  socket.connect(PORT, server, () => {
    if (open) socket.send(query.packet, (error) => error && fail());
  });
  return close;
}

function askByStream(
  query: Query,
  server: string,
  onAnswer: (answer: Buffer) => void,
  onFailure: () => void,
): () => void {
  const socket = connect({ port: PORT, host: server });
  const frames = new FrameReader();
  let open = true;
  const close = (): void => {
    open = false;
    socket.destroy();
  };
  const fail = (): void => {
    if (!open) return;
    close();
    onFailure();
  };
  socket.on('error', fail).on('close', fail).on('end', fail);
  socket.on('data', (chunk) => {
    for (const message of frames.push(chunk)) if (open && isAnswerTo(message, query)) onAnswer(message);
  });
  socket.write(framed(query.packet));
  return close;
}
