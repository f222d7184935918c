/** /containers */
import type { Duplex } from 'node:stream';
import { parseDetachKeys } from '../../protocol/detach-keys.ts';
import type { WaitCondition } from '../../protocol/messages.ts';
import type { CreateRequest, HostConfig } from '../../model/container-config.ts';
import type { Container } from '../../model/container.ts';
import { isRunning } from '../../model/container-status.ts';
import type { Stats } from '../../engine/containers/views/stats.ts';
import { InvalidParameter, NotImplemented } from '../../model/errors.ts';
import { wallNow } from '../../engine/clock.ts';
import type { LogEntry } from '../../engine/logs/log-entry.ts';
import type { Call, Handler, Write } from '../call.ts';
import { withPrefix } from '../errors.ts';
import { adaptCreateRequest, adaptUpdateRequest } from '../version-compat.ts';
import { toNanoseconds } from '../query.ts';
import {
  containerCreated,
  containerInspect,
  containersPruned,
  containerSummary,
  containerUpdated,
  type Sizes,
} from '../wire/containers.ts';
import { encodeLogError, encodeLogs, type LogFormat } from '../wire/logs.ts';
import type { Schemas } from '../wire/schemas.ts';
import { containerStats } from '../wire/stats.ts';

const STATS_INTERVAL_MS = 1000;
const WAIT_CONDITIONS = ['not-running', 'next-exit', 'removed'];
/** moby postContainersStart: "a non-nil json object is at least 7 characters". */
const MAX_START_BODY_BYTES = 7;

const noContent = (call: Call): void => call.empty(204);
const stopOptions = (call: Call): { timeout?: number; signal?: string } => ({
  timeout: call.number('t'),
  signal: call.atLeast('1.42') ? call.text('signal') : '',
});

export const containerHandlers: Record<string, Handler> = {
  async ContainerList(call) {
    const found = await call.engine.containers.list({
      all: call.flag('all'),
      limit: call.number('limit') ?? 0,
      filters: call.filters(),
    });
    call.json(await summaries(call, found, { sizes: call.flag('size') }));
  },

  async ContainerCreate(call) {
    const body = await call.body<CreateRequest>();
    if (Object.keys(body).every((key) => key === 'HostConfig' || key === 'NetworkingConfig'))
      throw new InvalidParameter('config cannot be empty in order to create a container');
    const { request, warnings } = adaptCreateRequest(body, call.atLeast);
    const name = call.text('name') || undefined;
    const platform = call.atLeast('1.41') ? call.text('platform') || undefined : undefined;
    // Older clients know no recursive read-only mounts.
    const readOnlyNonRecursive = !call.atLeast('1.44');
    const created = await call.engine.containers.create(name, request, platform, { readOnlyNonRecursive });
    call.json(containerCreated({ id: created.id, warnings: [...warnings, ...created.warnings] }), 201);
  },

  async ContainerPrune(call) {
    call.json(containersPruned(await call.engine.containers.prune(call.filters())));
  },

  async ContainerInspect(call) {
    const { containers, paths, snapshots } = call.engine;
    const c = await containers.resolve(call.param('id'));
    const sizes = call.flag('size') ? await sizesOf(call, c) : undefined;
    call.json(
      containerInspect(c, {
        supports: call.atLeast,
        execIds: containers.execsOf(c.id),
        logPath: containers.logPath(c),
        directory: paths.container(c.id),
        graphDriver: snapshots.describe(c.id),
        sizes,
      }),
    );
  },

  async ContainerTop(call) {
    call.json(await call.engine.containers.top(call.param('id'), call.text('ps_args')));
  },

  async ContainerLogs(call) {
    const [stdout, stderr] = [call.flag('stdout'), call.flag('stderr')];
    if (!stdout && !stderr) throw new InvalidParameter('Bad parameters: you must choose at least one stream');
    const since = toNanoseconds('since', call.text('since'));
    const until = toNanoseconds('until', call.text('until')) || undefined;
    const tail = /^\d+$/.test(call.text('tail')) ? Number(call.text('tail')) : undefined;
    const query = { stdout, stderr, since, until, tail, follow: call.flag('follow') };
    const { hostConfig } = await call.engine.containers.resolve(call.param('id'));
    if (hostConfig.LogConfig.Type === 'none')
      throw new NotImplemented('configured logging driver does not support reading');
    // Before the head is sent, so that an error is an ordinary response and not a frame.
    const gone = new AbortController();
    const { container, batches } = await call.engine.containers.logs(call.param('id'), query, gone.signal);
    const framed = !container.config.Tty;
    const type = framed && call.atLeast('1.42') ? 'multiplexed' : 'raw';
    const format = { framed, timestamps: call.flag('timestamps'), details: call.flag('details') };
    await call.stream(`application/vnd.docker.${type}-stream`, (write) => writeLogs(batches, format, write), gone);
  },

  async ContainerStats(call) {
    const c = await call.engine.containers.resolve(call.param('id'));
    if (call.flag('stream')) await streamStats(call, c);
    else call.json(await singleStats(call, c));
  },

  async ContainerResize(call) {
    await call.engine.containers.resize(call.param('id'), call.number('h')!, call.number('w')!);
    call.empty(200);
  },
  async ContainerStart(call) {
    const { headers } = call.request;
    const length = Number(headers['content-length'] ?? 0);
    if (length > MAX_START_BODY_BYTES || headers['transfer-encoding'] !== undefined)
      throw new InvalidParameter(
        'starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24',
      );
    await call.engine.containers.start(call.param('id'));
    noContent(call);
  },
  async ContainerStop(call) {
    await call.engine.containers.stop(call.param('id'), stopOptions(call));
    noContent(call);
  },
  async ContainerRestart(call) {
    await call.engine.containers.restart(call.param('id'), stopOptions(call));
    noContent(call);
  },
  async ContainerKill(call) {
    await call.engine.containers.kill(call.param('id'), call.text('signal')).catch((error: unknown) => {
      throw withPrefix(error, `cannot kill container: ${call.param('id')}: `);
    });
    noContent(call);
  },
  async ContainerUpdate(call) {
    const changes = adaptUpdateRequest(await call.body<Partial<HostConfig>>(), call.atLeast);
    call.json(containerUpdated(await call.engine.containers.update(call.param('id'), changes)));
  },
  async ContainerRename(call) {
    await call.engine.containers.rename(call.param('id'), call.text('name'));
    noContent(call);
  },
  async ContainerPause(call) {
    await call.engine.containers.pause(call.param('id'));
    noContent(call);
  },
  async ContainerUnpause(call) {
    await call.engine.containers.unpause(call.param('id'));
    noContent(call);
  },

  async ContainerAttach(call) {
    await call.ignoreBody(); // dockerode repeats its options there.
    let container: Container;
    let options: AttachOptions;
    try {
      container = await call.engine.containers.resolve(call.param('id'));
      options = attachOptions(call, { framed: !container.config.Tty });
    } catch (error) {
      call.sendError(call.takeConnection(''), error, { plain: true });
      return;
    }
    await call.handOver(
      call.hijack({ framed: options.framed, headers: false }),
      (client) => call.engine.containers.attach(container.id, options, client),
      { plain: true },
    );
  },

  async ContainerAttachWebsocket(call) {
    await call.engine.containers.resolve(call.param('id'));
    // A handshake does not get here: websocket.ts takes it.
    throw new InvalidParameter('not a WebSocket handshake');
  },

  async ContainerWait(call) {
    const condition = (call.atLeast('1.30') && call.text('condition')) || 'not-running';
    if (!WAIT_CONDITIONS.includes(condition))
      throw new InvalidParameter(`invalid condition: ${JSON.stringify(condition)}`);
    const c = await call.engine.containers.resolve(call.param('id'));
    await call.ignoreBody();
    const head = `HTTP/1.1 200 OK\r\n${call.headerLines()}Content-Type: application/json\r\nConnection: close\r\n\r\n`;
    await call.handOver(
      call.takeConnection(head),
      (client) => call.engine.containers.wait(c.id, condition as WaitCondition, client),
      { plain: false },
    );
  },

  async ContainerDelete(call) {
    await call.engine.containers.remove(call.param('id'), {
      force: call.flag('force'),
      volumes: call.flag('v'),
      link: call.flag('link'),
    });
    noContent(call);
  },
};

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function writeLogs(batches: AsyncIterable<LogEntry[]>, format: LogFormat, write: Write): Promise<void> {
  try {
    for await (const batch of batches) await write(encodeLogs(batch, format));
  } catch (error) {
    await write(encodeLogError((error as Error).message, format));
  }
}

/** One sample. Unless `one-shot`, another one is taken a second earlier: clients compute CPU usage from both. */
async function singleStats(call: Call, c: Container): Promise<Schemas['ContainerStats']> {
  const { containers } = call.engine;
  const first = await containers.stats(c.id);
  const oneShot = call.atLeast('1.41') && call.flag('one-shot');
  if (oneShot || !isRunning(c)) return containerStats(c, first);
  await pause(STATS_INTERVAL_MS);
  return containerStats(c, await containers.stats(c.id), first);
}

async function streamStats(call: Call, c: Container): Promise<void> {
  await call.stream('application/json', async (write, signal) => {
    let last: Stats | undefined;
    while (!signal.aborted && c.phase === 'ready') {
      const now = await call.engine.containers.stats(c.id);
      await write(`${JSON.stringify(containerStats(c, now, last))}\n`);
      last = now;
      await pause(STATS_INTERVAL_MS);
    }
  });
}

/** The stream behind GET /containers/{id}/attach/ws. Before API 1.42 it carries all three streams. */
export async function openWebSocket(call: Call): Promise<Duplex> {
  const { id } = await call.engine.containers.resolve(call.param('id'));
  const options = attachOptions(call, { framed: false });
  const all = call.atLeast('1.42') ? {} : { stdin: true, stdout: true, stderr: true };
  return call.engine.containers.attachRelay(id, { ...options, ...all });
}

type AttachOptions = ReturnType<typeof attachOptions>;

function attachOptions(call: Call, { framed }: { framed: boolean }) {
  return {
    stdin: call.flag('stdin'),
    stdout: call.flag('stdout'),
    stderr: call.flag('stderr'),
    stream: call.flag('stream'),
    logs: call.flag('logs'),
    framed,
    detachKeys: detachKeys(call.text('detachKeys')),
  };
}

function detachKeys(text: string): number[] {
  try {
    return parseDetachKeys(text);
  } catch (error) {
    throw new InvalidParameter((error as Error).message);
  }
}

/** Items of GET /containers/json and of GET /system/df. */
export async function summaries(
  call: Call,
  containers: Container[],
  { sizes }: { sizes: boolean },
): Promise<Schemas['ContainerSummary'][]> {
  const now = BigInt(wallNow());
  const linkNames = call.engine.containers.linkNames();
  return Promise.all(
    containers.map(async (c) =>
      containerSummary(c, {
        imageName: imageName(call, c),
        linkNames: linkNames.get(c.id) ?? [],
        now,
        supports: call.atLeast,
        sizes: sizes ? await sizesOf(call, c) : undefined,
      }),
    ),
  );
}

/** The image as named at creation, or its id once that name refers to another image. */
const imageName = (call: Call, c: Container): string =>
  call.engine.images.idOf(c.config.Image) === c.imageId ? c.config.Image : c.imageId;

async function sizesOf({ engine }: Call, c: Container): Promise<Sizes> {
  const rw = await engine.snapshots.sizeRw(c.id);
  const image = engine.images.find(c.imageId)?.size ?? 0;
  // The API's sign of an unknown size is -1.
  return { rw, rootFs: image + Math.max(rw, 0) };
}
