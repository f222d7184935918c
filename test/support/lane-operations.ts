/** The operations of a lane, as requests whose answers are counted. */
import { ask, type Answered } from './one-answer.ts';
import type { TestEngine } from './engine.ts';
import type { OperationName } from './serial-orders.ts';
import { archive, file } from './tar.ts';

/** How a client was answered. */
export interface Answers {
  /** Status codes of its requests; 0 = the connection ended without an answer. */
  codes: number[];
  /** Whether the operation was done by them; undefined = not known. */
  done: boolean | undefined;
  /** A request had more than one answer. */
  twice: boolean;
}

const tar = archive(file('copied', 'x'));
/** More than the journal's size from which it is compacted, divided by the size of a record. */
const RESIZES = 420;
const AT_ONCE = 30;

/** The label of a lane's container, by which `prune` finds it. */
export const LANE_LABEL = 'lane';
/** The network that `connect` connects to. */
export const NETWORK = 'pairs';

export function operationsOn(
  engine: TestEngine,
  { id, label }: { id: string; label: string },
): Record<OperationName, () => Promise<Answers>> {
  const send = (method: string, path: string, body?: unknown): Promise<Answered> =>
    ask(engine.socket, method, path, body);
  const post = (path: string, body?: unknown) => async (): Promise<Answers> => told([await send('POST', path, body)]);
  const on = (verb: string, body?: unknown) => post(`/containers/${id}/${verb}`, body);
  const exec = async (): Promise<Answers> => {
    const created = await send('POST', `/containers/${id}/exec`, { Cmd: ['true'], Tty: true });
    const found = /"Id":"(\w+)"/.exec(created.text)?.[1];
    if (found === undefined) return told([created]);
    return told([created, await send('POST', `/exec/${found}/start`, { Detach: true, Tty: true })]);
  };
  const filters = encodeURIComponent(JSON.stringify({ label: [`${LANE_LABEL}=${label}`] }));
  return {
    start: on('start'),
    stop: on('stop?t=3'),
    kill: on('kill'),
    restart: on('restart?t=3'),
    pause: on('pause'),
    rm: async () => told([await send('DELETE', `/containers/${id}`)]),
    'rm -f': async () => told([await send('DELETE', `/containers/${id}?force=1`)]),
    prune: post(`/containers/prune?filters=${filters}`),
    rename: on(`rename?name=renamed-${id.slice(0, 12)}`),
    update: on('update', { Memory: 64 << 20, MemorySwap: -1 }),
    exec,
    attach: on('attach?logs=1&stdout=1'),
    connect: post(`/networks/${NETWORK}/connect`, { Container: id }),
    disconnect: post('/networks/bridge/disconnect', { Container: id }),
    cp: async () => told([await send('PUT', `/containers/${id}/archive?path=/tmp`, tar)]),
    commit: post(`/commit?container=${id}&repo=pairs-image`),
    crash: async () => {
      const { State } = await engine.inspect<{ State: { Pid: number } }>(id);
      process.kill(State.Pid, 'SIGKILL');
      return { codes: [], done: true, twice: false };
    },
    write: async () => {
      const resize = on('resize?h=20&w=80');
      for (let sent = 0; sent < RESIZES; sent += AT_ONCE)
        await Promise.all(Array.from({ length: AT_ONCE }, () => resize()));
      return { codes: [], done: true, twice: false };
    },
  };
}

function told(answers: Answered[]): Answers {
  const codes = answers.map(({ status }) => status);
  return { codes, done: isDone(codes.at(-1)!), twice: answers.some((answer) => answer.answers > 1) };
}

function isDone(code: number): boolean | undefined {
  if (code === 0) return undefined;
  return code < 400;
}
