/** _ping, version, info, events, disk usage. */
import { wallNow } from '../../engine/clock.ts';
import { dumpEngine } from '../../engine/dump.ts';
import { matcher } from '../../engine/events/filter.ts';
import { InvalidParameter } from '../../model/errors.ts';
import type { Handler } from '../call.ts';
import { toNanoseconds } from '../query.ts';
import { containerSummary } from '../wire/containers.ts';
import { eventLine } from '../wire/events.ts';
import { imageSummary } from '../wire/images.ts';
import { diskUsage, systemInfo, systemVersion } from '../wire/system.ts';
import { volumeInspect } from '../wire/volumes.ts';
import { imageName, sizesOf } from './containers.ts';

const PING = {
  'cache-control': 'no-cache, no-store, must-revalidate',
  pragma: 'no-cache',
  'builder-version': '1',
  swarm: 'inactive',
  'content-type': 'text/plain; charset=utf-8',
};

const USAGE_TYPES = ['container', 'image', 'volume', 'build-cache'];

export const systemHandlers: Record<string, Handler> = {
  SystemPing: (call) => void call.reply.headers(PING).send(Buffer.from('OK')),
  SystemPingHead: (call) => void call.reply.headers({ ...PING, 'content-length': '0' }).send(),
  SystemVersion: async (call) => call.json(systemVersion(await call.engine.system.versions())),
  SystemInfo: async (call) => call.json(systemInfo(await call.engine.system.facts(), call.engine.config, call.atLeast)),
  DebugDump: (call) => call.json(dumpEngine(call.engine)),

  async SystemEvents(call) {
    const since = toNanoseconds('since', call.text('since'));
    const until = toNanoseconds('until', call.text('until'));
    if (since !== undefined && until !== undefined && since > until) {
      throw new InvalidParameter(
        `\`since\` time (${call.text('since')}) cannot be after \`until\` time (${call.text('until')})`,
      );
    }
    const matches = matcher(call.filters());
    await call.stream('application/json', async (write, signal) => {
      for await (const event of call.engine.events.subscribe({ since, until, matches }, signal))
        await write(eventLine(event));
    });
  },

  async SystemDataUsage(call) {
    const { engine } = call;
    const types = call.atLeast('1.42') ? (call.query.type as string[]) : [];
    for (const type of types)
      if (!USAGE_TYPES.includes(type)) throw new InvalidParameter(`unknown object type: ${type}`);
    const asked = (type: string): boolean => types.length === 0 || types.includes(type);
    const containers = engine.containers.all();
    const now = BigInt(wallNow());
    const speaks = call.atLeast;
    const images = engine.images.list({ labels: [], references: [], before: [], since: [] }, { all: false });
    const shared = engine.images.sharedSizes();
    call.json(
      diskUsage({
        ...(asked('image') && {
          layersSize: engine.images.layersSize(),
          images: images.map((i) =>
            imageSummary(
              i,
              { containers: containers.filter((c) => c.imageId === i.id).length, sharedSize: shared.get(i.id) ?? 0 },
              speaks,
            ),
          ),
        }),
        ...(asked('container') && {
          containers: await Promise.all(
            containers.map(async (c) =>
              containerSummary(c, { imageName: imageName(call, c), now, sizes: await sizesOf(call, c) }),
            ),
          ),
        }),
        ...(asked('volume') && {
          volumes: (await engine.volumes.usage()).map(({ volume, size, users }) =>
            volumeInspect(volume, { size, containers: users }),
          ),
        }),
        ...(asked('build-cache') && { buildCache: [] }),
      }),
    );
  },
};
