/** `docker rename`. */
import { Conflict, InvalidParameter, NotFound } from '../../../model/errors.ts';
import { containerEvent } from '../../events/container-event.ts';
import { dnsNames } from '../../networks/plan.ts';
import { checkName } from '../container-name.ts';
import type { ContainerDeps } from '../deps.ts';
import type { ContainerHandle } from '../handle/container-handle.ts';

type Deps = Pick<ContainerDeps, 'index' | 'rows' | 'events' | 'networks'>;

/** @throws InvalidParameter, Conflict when another container has the name */
export async function rename(handle: ContainerHandle, name: string, deps: Deps): Promise<void> {
  const c = handle.container;
  if (name === '') throw new InvalidParameter('Neither old nor new names may be empty');
  const newName = checkNewName(name);
  if (newName === c.name) throw new InvalidParameter('Renaming a container with the same name as its current name');
  const reservation = reserve(newName, deps.index);
  try {
    await handle.turns.run(async () => {
      // A container that was removed meanwhile must not take the name out of use.
      if (handle.isRetired) throw new NotFound(`No such container: ${c.id}`);
      await renameInTurn(handle, newName, deps);
    });
  } finally {
    reservation.release();
  }
}

async function renameInTurn(handle: ContainerHandle, newName: string, deps: Deps): Promise<void> {
  const { index, rows, events, networks } = deps;
  const c = handle.container;
  rows.transaction(() => {
    rows.setName(c.id, newName);
    events.record(containerEvent({ ...c, name: newName }, 'rename', { oldName: `/${c.name}` }));
  });
  index.rename(handle, newName);
  // On user-defined networks the container answers to its name.
  for (const endpoint of Object.values(c.endpoints).filter(({ dnsNames: names }) => names.length > 0)) {
    const named = { id: c.id, name: newName, hostname: c.config.Hostname };
    endpoint.dnsNames = dnsNames(named, endpoint.request.Aliases ?? []);
  }
  rows.setNetwork(c);
  await networks.renameContainer(c);
}

/** dockerd shows the name with its slash here. @throws InvalidParameter */
function checkNewName(name: string): string {
  try {
    return checkName(name);
  } catch {
    throw new InvalidParameter(
      `Error when allocating new name: Invalid container name (/${name.replace(/^\//, '')}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`,
    );
  }
}

function reserve(name: string, index: Deps['index']): { release(): void } {
  try {
    return index.reserveName(name);
  } catch (error) {
    throw new Conflict(`Error when allocating new name: ${(error as Error).message}`);
  }
}
