/** Another name for a container. */
import { Conflict, InvalidParameter } from '../../../model/errors.ts';
import { dnsNames } from '../../networks/plan.ts';
import { checkName } from './create.ts';
import { containerEvent } from '../../events/container-event.ts';
import type { Parts } from '../parts.ts';
import type { Registry } from '../container-index.ts';
import type { Supervisor } from '../handle/handle.ts';

/** @throws InvalidParameter, Conflict when another has the name */
export async function renameContainer(s: Supervisor, name: string, registry: Registry, parts: Parts): Promise<void> {
  const c = s.container;
  if (name === '') throw new InvalidParameter('Neither old nor new names may be empty');
  const chosen = newName(name);
  if (chosen === c.name) throw new InvalidParameter('Renaming a container with the same name as its current name');
  let reservation;
  try {
    reservation = registry.reserve(chosen);
  } catch (error) {
    throw new Conflict(`Error when allocating new name: ${(error as Error).message}`);
  }
  try {
    const old = c.name;
    parts.rows.transaction(() => {
      parts.rows.setName(c.id, chosen);
      parts.events.record(containerEvent({ ...c, name: chosen }, 'rename', { oldName: `/${old}` }));
    });
    registry.renamed(s, chosen);
    await tellNetworks(s, parts);
  } finally {
    reservation.release();
  }
}

// On networks of users' making it is known by its name.
function tellNetworks(s: Supervisor, parts: Parts): Promise<void> {
  return s.serial.run(async () => {
    const c = s.container;
    for (const endpoint of Object.values(c.endpoints).filter(({ dnsNames: names }) => names.length > 0)) {
      endpoint.dnsNames = dnsNames(
        { id: c.id, name: c.name, hostname: c.config.Hostname },
        endpoint.request.Aliases ?? [],
      );
    }
    parts.rows.setNetwork(c);
    await parts.networks.renamed(c);
  });
}

/** As dockerd has it: names carry their slash here. @throws InvalidParameter */
function newName(name: string): string {
  try {
    return checkName(name);
  } catch {
    throw new InvalidParameter(
      `Error when allocating new name: Invalid container name (/${name.replace(/^\//, '')}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`,
    );
  }
}
