/** Archives of containers and images: changes, archive, export, commit, save; also image prune. */
import type { CommitRequest } from '../../engine/containers/operations/commit.ts';
import { InvalidParameter } from '../../model/errors.ts';
import type { Call, Handler } from '../call.ts';
import { onlyQueryPlatform } from '../platform.ts';
import { booleanFilter, toBoolean } from '../query.ts';
import { acceptedEncoding, encoded } from '../encoding.ts';
import { filesystemChanges } from '../wire/changes.ts';
import { pathStat } from '../wire/path-stat.ts';
import { imagesPruned } from '../wire/images.ts';

const list = (call: Call, name: string): string[] => call.query[name] as string[];

const PATH_STAT = 'x-docker-container-path-stat';

export const archiveHandlers: Record<string, Handler> = {
  async ContainerChanges(call) {
    call.json(filesystemChanges(await call.engine.containers.changes(call.param('id'), call.clientGone())));
  },

  async ContainerArchiveInfo(call) {
    const stat = await call.engine.containers.statPath(call.param('id'), pathOf(call));
    void call.reply.header(PATH_STAT, pathStat(stat)).code(200).send();
  },
  async ContainerArchive(call) {
    const { stat, archive } = await call.engine.containers.packPath(call.param('id'), pathOf(call));
    const encoding = acceptedEncoding(call.request.headers['accept-encoding'] ?? '');
    void call.reply.header(PATH_STAT, pathStat(stat));
    if (encoding !== 'identity') void call.reply.header('content-encoding', encoding);
    await call.archive('application/x-tar', encoded(archive, encoding));
  },
  async PutContainerArchive(call) {
    const options = {
      noOverwriteDirNonDir: call.flag('noOverwriteDirNonDir'),
      copyUIDGID: call.flag('copyUIDGID'),
    };
    const { id, path, archive } = { id: call.param('id'), path: pathOf(call), archive: call.request.raw };
    await call.engine.containers.unpackInto(id, path, archive, options, call.clientGone());
    call.empty(200);
  },

  async ContainerExport(call) {
    await call.archive('application/octet-stream', await call.engine.containers.export(call.param('id')));
  },

  async ImageCommit(call) {
    const config = await call.body<CommitRequest['config']>();
    if (call.text('container') === '') throw new InvalidParameter('invalid name or ID supplied: ""');
    const pause = call.text('pause') === '' || toBoolean(call.text('pause'));
    const Id = await call.engine.containers.commit(call.text('container'), {
      repo: call.text('repo'),
      tag: call.text('tag'),
      comment: call.text('comment'),
      author: call.text('author'),
      pause,
      changes: list(call, 'changes'),
      config,
    });
    call.json({ Id }, 201);
  },

  ImageGet: (call) => save(call, [call.param('name')]),
  ImageGetAll: (call) => save(call, list(call, 'names')),

  async ImagePrune(call) {
    const filters = call.filters();
    const dangling = booleanFilter(filters, 'dangling') ?? true;
    call.json(imagesPruned(await call.engine.images.prune(filters, { dangling }, call.clientGone())));
  },
};

const save = (call: Call, names: string[]): unknown =>
  call.archive('application/x-tar', call.engine.images.save(names, onlyQueryPlatform(call, '1.48')));

function pathOf(call: Call): string {
  const path = call.text('path');
  if (path === '') throw new InvalidParameter('bad parameter: path cannot be empty');
  return path;
}
