/** _ping, version, info, events, disk usage. */
import type { Event } from '../../engine/events/event.ts';
import { matcher } from '../../engine/events/filter.ts';
import { InvalidParameter } from '../../engine/errors.ts';
import { unixSeconds } from '../../engine/time.ts';
import type { Handler } from '../call.ts';
import { toNanoseconds } from '../query.ts';
import { containerSummary } from '../wire/containers.ts';
import { wallNow } from '../../engine/clock.ts';

const PING = { 'cache-control': 'no-cache, no-store, must-revalidate', pragma: 'no-cache', 'builder-version': '1', swarm: 'inactive', 'content-type': 'text/plain; charset=utf-8' };

export const systemHandlers: Record<string, Handler> = {
  SystemPing: (call) => void call.reply.headers(PING).send(Buffer.from('OK')),
  SystemPingHead: (call) => void call.reply.headers({ ...PING, 'content-length': '0' }).send(),
  SystemVersion: (call) => call.json(call.engine.system.version()),
  SystemInfo: (call) => call.json(call.engine.system.info()),

  async SystemEvents(call) {
    const since = toNanoseconds('since', call.text('since'));
    const until = toNanoseconds('until', call.text('until'));
    if (since !== undefined && until !== undefined && since > until) {
      throw new InvalidParameter(`\`since\` time (${call.text('since')}) cannot be after \`until\` time (${call.text('until')})`);
    }
    const matches = matcher(call.filters());
    await call.stream('application/json', async (write, signal) => {
      for await (const event of call.engine.events.subscribe({ since, until, matches }, signal)) await write(eventLine(event));
    });
  },

  async SystemDataUsage(call) {
    const { engine } = call;
    const images = engine.images.list({ labels: [], references: [] }, { all: true });
    const containers = engine.containers.all();
    const now = BigInt(wallNow());
    call.json({
      LayersSize: images.reduce((sum, image) => sum + image.size, 0),
      Images: images.map((i) => ({ Id: i.id, ParentId: i.parent, RepoTags: i.repoTags, RepoDigests: i.repoDigests, Created: unixSeconds(i.created), Size: i.size, SharedSize: 0, Labels: i.config.config?.Labels ?? null, Containers: containers.filter((c) => c.imageId === i.id).length })),
      Containers: await Promise.all(containers.map(async (c) => ({ ...containerSummary(c, c.config.Image, now), SizeRw: await engine.snapshots.sizeRw(c.id) }))),
      Volumes: engine.volumes.list().map((v) => ({ Name: v.name, Driver: v.driver, Mountpoint: v.mountpoint, Labels: v.labels, Options: v.options, Scope: 'local', UsageData: { Size: -1, RefCount: containers.filter((c) => c.mounts.some((m) => m.name === v.name)).length } })),
      BuildCache: [],
    });
  },
};

// Numbers of nanoseconds do not fit into a double: the digits are put in as text.
function eventLine(event: Event): string {
  const { type, action, actor, attributes, time } = event;
  const legacy = type === 'container' ? { status: action, id: actor, from: attributes['image'] ?? '' } : type === 'image' ? { status: action, id: actor } : {};
  const text = JSON.stringify({ ...legacy, Type: type, Action: action, Actor: { ID: actor, Attributes: attributes }, scope: 'local', time: unixSeconds(time) });
  return `${text.slice(0, -1)},"timeNano":${time}}\n`;
}

