/** /volumes */
import type { Volume } from '../../engine/volumes/volumes.ts';
import { rfc3339 } from '../../engine/time.ts';
import type { Handler } from '../call.ts';

export const volumeHandlers: Record<string, Handler> = {
  VolumeList(call) {
    call.json({ Volumes: call.engine.volumes.list(call.filters()).map(wire), Warnings: null });
  },
  async VolumeCreate(call) {
    const asked = await call.body<{ Name?: string; Driver?: string; Labels?: Record<string, string> | null; DriverOpts?: Record<string, string> | null }>();
    call.json(wire(await call.engine.volumes.create({ name: asked.Name ?? '', driver: asked.Driver || 'local', labels: asked.Labels ?? {}, options: asked.DriverOpts ?? {} })), 201);
  },
  VolumeInspect(call) {
    call.json(wire(call.engine.volumes.resolve(call.param('name'))));
  },
  async VolumeDelete(call) {
    await call.engine.volumes.remove(call.param('name'), { force: call.flag('force') });
    call.empty(204);
  },
};

const wire = (v: Volume): Record<string, unknown> => ({
  CreatedAt: rfc3339(v.created).replace(/\.\d+Z$/, 'Z'), Driver: v.driver, Labels: Object.keys(v.labels).length > 0 ? v.labels : null, Mountpoint: v.mountpoint, Name: v.name,
  Options: Object.keys(v.options).length > 0 ? v.options : null, Scope: 'local',
});
