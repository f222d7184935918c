/** /volumes */
import { Unavailable } from '../../model/errors.ts';
import type { Handler } from '../call.ts';
import { volumeInspect, volumeList, volumesPruned } from '../wire/volumes.ts';

/** Older API versions prune named volumes too. */
const ONLY_ANONYMOUS_SINCE = '1.42';

interface VolumeCreateRequest {
  Name?: string;
  Driver?: string;
  Labels?: Record<string, string> | null;
  DriverOpts?: Record<string, string> | null;
}

export const volumeHandlers: Record<string, Handler> = {
  VolumeList(call) {
    call.json(volumeList(call.engine.volumes.list(call.filters())));
  },
  async VolumeCreate(call) {
    const { Name, Driver, Labels, DriverOpts } = await call.body<VolumeCreateRequest>();
    const volume = await call.engine.volumes.create({
      name: Name ?? '',
      driver: Driver || 'local',
      labels: Labels ?? {},
      options: DriverOpts ?? {},
    });
    call.json(volumeInspect(volume), 201);
  },
  VolumeInspect(call) {
    call.json(volumeInspect(call.engine.volumes.resolve(call.param('name'))));
  },
  async VolumePrune(call) {
    const filters = call.filters();
    if (!call.atLeast(ONLY_ANONYMOUS_SINCE)) filters.set('all', ['true']);
    call.json(volumesPruned(await call.engine.volumes.prune(filters)));
  },
  VolumeUpdate() {
    throw new Unavailable('volume update only valid for cluster volumes, but swarm is unavailable');
  },
  async VolumeDelete(call) {
    await call.engine.volumes.remove(call.param('name'), { force: call.flag('force') });
    call.empty(204);
  },
};
