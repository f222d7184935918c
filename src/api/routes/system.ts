/** /_ping, /version, /info, /events, /system/df, /debug/dump */
import { dumpEngine } from '../../engine/dump.ts';
import { matcher } from '../../engine/events/filter.ts';
import { InvalidParameter } from '../../model/errors.ts';
import type { Call, Handler } from '../call.ts';
import { toNanoseconds } from '../query.ts';
import { eventLine } from '../wire/events.ts';
import { imageSummary } from '../wire/images.ts';
import type { Schemas } from '../wire/schemas.ts';
import { diskUsage, systemInfo, systemVersion, type Usage } from '../wire/system.ts';
import { volumeInspect } from '../wire/volumes.ts';
import { summaries } from './containers.ts';

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
    const unknown = types.find((type) => !USAGE_TYPES.includes(type));
    if (unknown !== undefined) throw new InvalidParameter(`unknown object type: ${unknown}`);
    const wants = (type: string): boolean => types.length === 0 || types.includes(type);

    const usage: Usage = {};
    if (wants('image')) {
      usage.layersSize = engine.images.layersSize();
      usage.images = imageSummaries(call);
    }
    if (wants('container')) usage.containers = await summaries(call, engine.containers.all(), { sizes: true });
    if (wants('volume')) {
      const volumes = await engine.volumes.usage();
      usage.volumes = volumes.map(({ volume, size, users }) => volumeInspect(volume, { size, containers: users }));
    }
    if (wants('build-cache')) usage.buildCache = [];
    call.json(diskUsage(usage));
  },
};

function imageSummaries(call: Call): Schemas['ImageSummary'][] {
  const { images, containers } = call.engine;
  const all = containers.all();
  const shared = images.sharedSizes();
  return images.list({ labels: [], references: [], before: [], since: [] }, { all: false }).map((image) => {
    const users = all.filter((c) => c.imageId === image.id).length;
    return imageSummary(image, { containers: users, sharedSize: shared.get(image.id) ?? 0 }, call.atLeast);
  });
}
