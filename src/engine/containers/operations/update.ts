/** `docker update`: limits go to the cgroup through the runtime, the restart policy to the shim, both to the row. */
import { spawn } from 'node:child_process';
import type { HostConfig } from '../../../model/container-config.ts';
import type { Container } from '../../../model/container.ts';
import { isDeadOrRemoving, isRunning } from '../../../model/container-status.ts';
import { InvalidParameter, NotFound, SystemFault } from '../../../model/errors.ts';
import { ociJson } from '../../../protocol/oci-json.ts';
import type { RestartPolicy } from '../../../protocol/records.ts';
import { lastErrorIn } from '../../../protocol/runtime-log.ts';
import { containerEvent } from '../../events/container-event.ts';
import { validateUpdate } from '../../spec/update.ts';
import { updateBundle } from '../bundle.ts';
import type { ContainerDeps } from '../deps.ts';
import type { ContainerHandle } from '../handle/container-handle.ts';
import { shimSpec } from '../shim-spec.ts';

type Deps = Pick<ContainerDeps, 'config' | 'paths' | 'rows' | 'events'>;

/** Returns warnings. @throws InvalidParameter before anything changed */
export function update(handle: ContainerHandle, changes: Partial<HostConfig>, deps: Deps): Promise<string[]> {
  const { container: c, turns, shim } = handle;
  const { rows, events } = deps;
  // In one turn, so that concurrent updates merge into each other's result.
  return turns.run(async () => {
    assertNotRemoving(handle);
    const { hostConfig, resources, warnings } = validateUpdate(c, changes);
    if (!c.state.final && Object.keys(resources).length > 0) await updateLimits(handle, deps, resources);
    const policy = hostConfig.RestartPolicy;
    const policyChanged = JSON.stringify(policy) !== JSON.stringify(c.hostConfig.RestartPolicy);
    rows.transaction(() => {
      rows.setDefinition({ ...c, hostConfig });
      events.record(containerEvent(c, 'update'));
    });
    c.hostConfig = hostConfig;
    if (policyChanged && isRunning(c)) {
      const restart: RestartPolicy = {
        name: (policy.Name || 'no') as RestartPolicy['name'],
        maximumRetryCount: policy.MaximumRetryCount,
      };
      await (await shim.reach()).request({ op: 'update', restart });
    }
    return warnings;
  });
}

function assertNotRemoving({ container: c }: ContainerHandle): void {
  if (isDeadOrRemoving(c))
    throw new NotFound(`Cannot update container ${c.id}: Container is marked for removal and cannot be "update".`);
}

/** How long after a failed update the end of the run is waited for. */
const END_RECORD_MS = 1_000;

const hasInit = (c: Container): boolean => isRunning(c) && c.state.pid > 0;

/** Also of the runs that follow by restart, which the shim starts from the same bundle. */
async function updateLimits(handle: ContainerHandle, deps: Deps, resources: Record<string, unknown>): Promise<void> {
  const { container: c } = handle;
  // First, so that a restart meanwhile leads to the new limits too.
  const putBack = await updateBundle(c, resources, deps);
  if (!hasInit(c)) return;
  const { pid } = c.state;
  try {
    await updateCgroup(handle, deps, resources);
  } catch (error) {
    // The end of the run may be the reason: its record arrives a moment later.
    const hasEnded = (): boolean => !hasInit(c) || c.state.pid !== pid;
    await handle.journal.until(hasEnded, AbortSignal.timeout(END_RECORD_MS));
    if (hasEnded()) return;
    await putBack().catch(() => undefined);
    throw error;
  }
}

function updateCgroup(
  { container: c }: ContainerHandle,
  deps: Deps,
  resources: Record<string, unknown>,
): Promise<void> {
  const { path, args, root, systemdCgroup } = shimSpec(c, deps).runtime;
  const cgroupDriver = systemdCgroup ? ['--systemd-cgroup'] : [];
  return new Promise((resolve, reject) => {
    const options = ['--root', root, '--log-format', 'json', ...cgroupDriver];
    const child = spawn(path, [...args, ...options, 'update', '--resources', '-', c.id], {
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      if (code === 0) return resolve();
      const ended = signal ? `${path} was killed by ${signal}` : `${path} exited with ${code}`;
      const reason = lastErrorIn(stderr) ?? (stderr.trim() || ended);
      // EINVAL is the kernel's word for a value that is out of range.
      const Refusal = reason.endsWith(': invalid argument') ? InvalidParameter : SystemFault;
      reject(new Refusal(`Cannot update container ${c.id}: ${reason}`));
    });
    child.stdin.on('error', () => undefined);
    child.stdin.end(ociJson(resources));
  });
}
