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
import type { Call, Handler } from '../call.ts';
import { prefixed } from '../errors.ts';
import { createRequestOf } from '../version-compat.ts';
import { toNanoseconds } from '../query.ts';
import {
  containerCreated,
  containerInspect,
  containersPruned,
  containerSummary,
  containerUpdated,
  type Sizes,
} from '../wire/containers.ts';
import { encodeLogError, encodeLogs } from '../wire/logs.ts';
import { containerStats } from '../wire/stats.ts';

const STATS_INTERVAL_MS = 1000;
const CONDITIONS = ['not-running', 'next-exit', 'removed'];

const done = (call: Call): void => call.empty(204);
const ending = (call: Call): { timeout?: number; signal?: string } => ({
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
    const now = BigInt(wallNow());
    call.json(
      await Promise.all(
        found.map(async (c) =>
          containerSummary(c, {
            imageName: imageName(call, c),
            now,
            ...(call.flag('size') ? { sizes: await sizesOf(call, c) } : {}),
          }),
        ),
      ),
    );
  },

  async ContainerCreate(call) {
    const asked = await call.body<CreateRequest>();
    if (Object.keys(asked).every((key) => key === 'HostConfig' || key === 'NetworkingConfig'))
      throw new InvalidParameter('config cannot be empty in order to create a container');
    const { request, warnings } = createRequestOf(asked, call.atLeast);
    const created = await call.engine.containers.create(
      call.text('name') || undefined,
      request,
      (call.atLeast('1.41') && call.text('platform')) || undefined,
    );
    call.json(containerCreated({ id: created.id, warnings: [...warnings, ...created.warnings] }), 201);
  },

  async ContainerPrune(call) {
    call.json(containersPruned(await call.engine.containers.prune(call.filters())));
  },

  async ContainerInspect(call) {
    const { engine } = call;
    const c = await engine.containers.resolve(call.param('id'));
    call.json(
      containerInspect(c, {
        execIds: engine.containers.execsOf(c.id),
        logPath: engine.containers.logPath(c),
        directory: engine.paths.container(c.id),
        graphDriver: engine.snapshots.describe(c.id),
        ...(call.flag('size') ? { sizes: await sizesOf(call, c) } : {}),
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
    const until = toNanoseconds('until', call.text('until'));
    const tail = /^\d+$/.test(call.text('tail')) ? Number(call.text('tail')) : undefined;
    const query = { stdout, stderr, since, until: until === 0n ? undefined : until, tail, follow: call.flag('follow') };
    const { hostConfig } = await call.engine.containers.resolve(call.param('id'));
    if (hostConfig.LogConfig.Type === 'none')
      throw new NotImplemented('configured logging driver does not support reading');
    // Refused here, it is an ordinary answer; after the head it could only be a frame.
    const gone = new AbortController();
    const { container, batches } = await call.engine.containers.logs(call.param('id'), query, gone.signal);
    const framed = !container.config.Tty;
    await call.stream(
      `application/vnd.docker.${framed && call.atLeast('1.42') ? 'multiplexed' : 'raw'}-stream`,
      async (write) => {
        try {
          for await (const batch of batches)
            await write(
              encodeLogs(batch, { framed, timestamps: call.flag('timestamps'), details: call.flag('details') }),
            );
        } catch (error) {
          await write(encodeLogError((error as Error).message, { framed }));
        }
      },
      gone,
    );
  },

  async ContainerStats(call) {
    const { containers } = call.engine;
    const c = await containers.resolve(call.param('id'));
    if (!call.flag('stream')) {
      const first = await containers.stats(c.id);
      if ((call.atLeast('1.41') && call.flag('one-shot')) || !isRunning(c))
        return void call.json(containerStats(c, first));
      await pause(STATS_INTERVAL_MS);
      return void call.json(containerStats(c, await containers.stats(c.id), first));
    }
    return call.stream('application/json', async (write, signal) => {
      for (let last: Stats | undefined; !signal.aborted && c.phase === 'ready'; await pause(STATS_INTERVAL_MS)) {
        const now = await containers.stats(c.id);
        await write(`${JSON.stringify(containerStats(c, now, last))}\n`);
        last = now;
      }
    });
  },

  async ContainerResize(call) {
    await call.engine.containers.resize(call.param('id'), call.number('h')!, call.number('w')!);
    call.empty(200);
  },
  async ContainerStart(call) {
    const { headers } = call.request;
    if (Number(headers['content-length'] ?? 0) > 7 || headers['transfer-encoding'] !== undefined)
      throw new InvalidParameter(
        'starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24',
      );
    await call.engine.containers.start(call.param('id'));
    done(call);
  },
  async ContainerStop(call) {
    await call.engine.containers.stop(call.param('id'), ending(call));
    done(call);
  },
  async ContainerRestart(call) {
    await call.engine.containers.restart(call.param('id'), ending(call));
    done(call);
  },
  async ContainerKill(call) {
    await call.engine.containers.kill(call.param('id'), call.text('signal')).catch((error: unknown) => {
      throw prefixed(error, `cannot kill container: ${call.param('id')}: `);
    });
    done(call);
  },
  async ContainerUpdate(call) {
    call.json(
      containerUpdated(await call.engine.containers.update(call.param('id'), await call.body<Partial<HostConfig>>())),
    );
  },
  async ContainerRename(call) {
    await call.engine.containers.rename(call.param('id'), call.text('name'));
    done(call);
  },
  async ContainerPause(call) {
    await call.engine.containers.pause(call.param('id'));
    done(call);
  },
  async ContainerUnpause(call) {
    await call.engine.containers.unpause(call.param('id'));
    done(call);
  },

  async ContainerAttach(call) {
    await call.ignoreBody(); // dockerode sends its options there once more.
    let prepared;
    try {
      const { id, config } = await call.engine.containers.resolve(call.param('id'));
      prepared = { id, options: attachOptions(call, !config.Tty) };
    } catch (error) {
      return call.handing(call.take(''), () => Promise.reject(error), { plain: true });
    }
    const { id, options } = prepared;
    await call.handing(
      call.hijack({ framed: options.framed, headers: false }),
      (client) => call.engine.containers.attach(id, options, client),
      { plain: true },
    );
  },

  ContainerAttachWebsocket() {
    // By an upgrade it comes to openWebSocket.
    throw new InvalidParameter('not a WebSocket handshake');
  },

  async ContainerWait(call) {
    const condition = (call.atLeast('1.30') && call.text('condition')) || 'not-running';
    if (!CONDITIONS.includes(condition)) throw new InvalidParameter(`invalid condition: ${JSON.stringify(condition)}`);
    const c = await call.engine.containers.resolve(call.param('id'));
    await call.ignoreBody();
    const head = `HTTP/1.1 200 OK\r\n${call.headerLines()}Content-Type: application/json\r\nConnection: close\r\n\r\n`;
    await call.handing(
      call.take(head),
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
    done(call);
  },
};

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** The streams of GET /containers/{id}/attach/ws. Which of them is asked for only since API 1.42. */
export async function openWebSocket(call: Call): Promise<Duplex> {
  const { id } = await call.engine.containers.resolve(call.param('id'));
  const options = attachOptions(call, false);
  return call.engine.containers.attachRelay(
    id,
    call.atLeast('1.42') ? options : { ...options, stdin: true, stdout: true, stderr: true },
  );
}

function attachOptions(call: Call, framed: boolean) {
  const keys = call.text('detachKeys');
  return {
    stdin: call.flag('stdin'),
    stdout: call.flag('stdout'),
    stderr: call.flag('stderr'),
    stream: call.flag('stream'),
    logs: call.flag('logs'),
    framed,
    detachKeys: detachKeys(keys),
  };
}

function detachKeys(text: string): number[] {
  try {
    return parseDetachKeys(text);
  } catch (error) {
    throw new InvalidParameter((error as Error).message);
  }
}

/** The name as created, or the id once that name is another image's. */
export const imageName = (call: Call, c: Container): string =>
  call.engine.images.idOf(c.config.Image) === c.imageId ? c.config.Image : c.imageId;

export async function sizesOf({ engine }: Call, c: Container): Promise<Sizes> {
  const rw = await engine.snapshots.sizeRw(c.id);
  return { rw, rootFs: rw + (engine.images.find(c.imageId)?.size ?? 0) };
}
