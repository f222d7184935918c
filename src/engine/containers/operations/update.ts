/** `docker update`: limits go to the cgroup through the runtime, the restart policy to the shim, both to the row. */
import { spawn } from 'node:child_process';
import { ociJson } from '../../../protocol/oci-json.ts';
import type { RestartPolicy } from '../../../protocol/records.ts';
import { NotFound, SystemFault } from '../../../model/errors.ts';
import { validateUpdate } from '../../spec/update.ts';
import type { HostConfig } from '../../../model/container-config.ts';
import { containerEvent } from '../../events/container-event.ts';
import { isRunning } from '../moves.ts';
import type { Parts } from '../parts.ts';
import { shimSpec } from '../shim-spec.ts';
import type { Supervisor } from '../handle/handle.ts';

/** @returns warnings. @throws InvalidParameter before anything changed */
export async function updateContainer(s: Supervisor, changes: Partial<HostConfig>, parts: Parts): Promise<string[]> {
  const c = s.container;
  if (c.phase !== 'ready')
    throw new NotFound(`Cannot update container ${c.id}: Container is marked for removal and cannot be "update".`);
  const { hostConfig, resources, warnings } = validateUpdate(c, changes);
  return s.serial.run(async () => {
    if (isRunning(c) && c.state.pid > 0 && Object.keys(resources).length > 0) await updateCgroup(s, parts, resources);
    const policyChanged = JSON.stringify(hostConfig.RestartPolicy) !== JSON.stringify(c.hostConfig.RestartPolicy);
    c.hostConfig = hostConfig;
    parts.rows.transaction(() => {
      parts.rows.setDefinition(c);
      parts.events.record(containerEvent(c, 'update'));
    });
    if (policyChanged && isRunning(c)) {
      const { Name, MaximumRetryCount } = hostConfig.RestartPolicy;
      await (
        await s.reach()
      ).request({
        op: 'update',
        restart: { name: (Name || 'no') as RestartPolicy['name'], maximumRetryCount: MaximumRetryCount },
      });
    }
    return warnings;
  });
}

function updateCgroup(s: Supervisor, parts: Parts, resources: Record<string, unknown>): Promise<void> {
  const { runtime } = shimSpec(s.container, parts);
  return new Promise((resolve, reject) => {
    const child = spawn(
      runtime.path,
      [
        ...runtime.args,
        '--root',
        runtime.root,
        ...(runtime.systemdCgroup ? ['--systemd-cgroup'] : []),
        'update',
        '--resources',
        '-',
        s.container.id,
      ],
      { stdio: ['pipe', 'ignore', 'pipe'] },
    );
    let text = '';
    child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()));
    child.on('error', reject);
    child.on('exit', (code) =>
      code === 0 ? resolve() : reject(new SystemFault(`Cannot update container ${s.container.id}: ${text.trim()}`)),
    );
    child.stdin.on('error', () => undefined);
    child.stdin.end(ociJson(resources));
  });
}
