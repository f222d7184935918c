/** Containers and images as archives and as images: changes, export, commit, save; and images' pruning. */
import type { CommitRequest } from '../../engine/containers/commit.ts';
import { InvalidParameter } from '../../engine/errors.ts';
import type { Call, Handler } from '../call.ts';
import { booleanFilter, toBoolean } from '../query.ts';
import { filesystemChanges } from '../wire/changes.ts';
import { imagesPruned } from '../wire/images.ts';

const list = (call: Call, name: string): string[] => call.query[name] as string[];

export const archiveHandlers: Record<string, Handler> = {
  async ContainerChanges(call) {
    call.json(filesystemChanges(await call.engine.containers.changes(call.param('id'))));
  },

  async ContainerExport(call) {
    await call.archive('application/octet-stream', await call.engine.containers.export(call.param('id')));
  },

  async ImageCommit(call) {
    const config = await call.body<CommitRequest['config']>();
    if (call.text('container') === '') throw new InvalidParameter('invalid name or ID supplied: ""');
    const pause = call.text('pause') === '' || toBoolean(call.text('pause'));
    const Id = await call.engine.containers.commit(call.text('container'), {
      repo: call.text('repo'), tag: call.text('tag'), comment: call.text('comment'), author: call.text('author'), pause, changes: list(call, 'changes'), config,
    });
    call.json({ Id }, 201);
  },

  ImageGet: (call) => call.archive('application/x-tar', call.engine.images.save([call.param('name')])),
  ImageGetAll: (call) => call.archive('application/x-tar', call.engine.images.save(list(call, 'names'))),

  async ImagePrune(call) {
    const filters = call.filters();
    const dangling = booleanFilter(filters, 'dangling') ?? true;
    call.json(imagesPruned(await call.engine.images.prune(filters, { dangling })));
  },
};
