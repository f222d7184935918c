/** /images */
import { InvalidParameter, NotImplemented } from '../../model/errors.ts';
import type { Handler } from '../call.ts';
import { onlyQueryPlatform, queryPlatform } from '../platform.ts';
import { booleanFilter, checkFilterKeys } from '../query.ts';
import { buildPruned, imageDeleted, imageHistory, imageInspect, imageSummary } from '../wire/images.ts';
import { errorLine } from '../wire/progress.ts';
import { pull } from './registry.ts';

const FILTERS = ['dangling', 'label', 'before', 'since', 'until', 'reference'];

export const imageHandlers: Record<string, Handler> = {
  ImageList(call) {
    const filters = call.filters();
    checkFilterKeys(filters, FILTERS);
    const dangling = booleanFilter(filters, 'dangling');
    const found = call.engine.images.list(
      {
        ...(dangling === undefined ? {} : { dangling }),
        labels: filters.get('label') ?? [],
        references: filters.get('reference') ?? [],
        before: filters.get('before') ?? [],
        since: filters.get('since') ?? [],
        until: filters.get('until') ?? [],
      },
      { all: call.flag('all') },
    );
    const users = call.engine.containers.all();
    const shared = call.flag('shared-size') ? call.engine.images.sharedSizes() : undefined;
    // Before 1.51 the count was not computed.
    const containers = (id: string): number =>
      call.atLeast('1.51') ? users.filter((c) => c.imageId === id).length : -1;
    call.json(
      found.map((image) =>
        imageSummary(
          image,
          { containers: containers(image.id), sharedSize: shared?.get(image.id) ?? -1 },
          call.atLeast,
        ),
      ),
    );
  },

  async ImageCreate(call) {
    const source = call.text('fromSrc');
    if (call.text('fromImage') !== '') return pull(call);
    if (source === '') throw new InvalidParameter('invalid reference format');
    if (source !== '-') throw new NotImplemented('importing from a URL is not supported; send the archive (fromSrc=-)');
    const changes = call.query.changes;
    const options = {
      repo: call.text('repo'),
      tag: call.text('tag'),
      message: call.text('message'),
      changes: Array.isArray(changes) ? changes : [],
      ...(call.text('platform') ? { platform: call.text('platform') } : {}),
    };
    const image = await call.engine.images.import(call.request.raw, options, call.clientGone());
    call.json({ status: image.id });
  },

  async ImageLoad(call) {
    onlyQueryPlatform(call, '1.48');
    await call.stream('application/json', async (write, signal) => {
      try {
        for await (const line of call.engine.images.load(call.request.raw, signal))
          await write(`${JSON.stringify({ stream: `${line}\n` })}\r\n`);
      } catch (error) {
        await write(errorLine((error as Error).message));
      }
    });
  },

  ImageInspect(call) {
    const platform = queryPlatform(call, '1.49');
    if (platform && call.atLeast('1.48') && call.flag('manifests'))
      throw new InvalidParameter('conflicting options: manifests and platform options cannot both be set');
    const image = call.engine.images.resolve(call.param('name'), platform);
    call.json(imageInspect(image, call.engine.snapshots.describeImage(image.chains), call.atLeast));
  },

  ImageHistory(call) {
    call.json(imageHistory(call.engine.images.history(call.param('name'), queryPlatform(call, '1.48'))));
  },

  async ImageTag(call) {
    await call.engine.images.tag(call.param('name'), call.text('repo'), call.text('tag'));
    call.empty(201);
  },

  async ImageDelete(call) {
    call.json(
      imageDeleted(
        await call.engine.images.remove(call.param('name'), {
          force: call.flag('force'),
          noprune: call.flag('noprune'),
        }),
      ),
    );
  },

  // There is no builder, but `docker system prune` calls this too.
  BuildPrune(call) {
    call.filters();
    call.json(buildPruned());
  },
};
