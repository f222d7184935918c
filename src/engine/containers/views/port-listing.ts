/** The ports of a running container, published or only exposed, as list and inspect show them. */
import type { BoundPort, Container } from '../../../model/container.ts';
import { isRunning } from '../../../model/container-status.ts';

/**
 * `80/tcp` → its bindings, IPv4 first; empty when it is only exposed. Empty for a container that does not run or has no
 * network of its own.
 */
export function portTable(container: Container): Map<string, BoundPort[]> {
  const table = new Map<string, BoundPort[]>();
  if (!isRunning(container)) return table;
  if (Object.values(container.endpoints).some((e) => e.ipAddress !== '' || e.globalIPv6Address !== '')) {
    for (const port of Object.keys(container.config.ExposedPorts ?? {})) table.set(port, []);
  }
  for (const bound of container.ports) {
    const key = `${bound.containerPort}/${bound.protocol}`;
    table.set(key, [...(table.get(key) ?? []), bound]);
  }
  for (const bindings of table.values())
    bindings.sort((a, b) => Number(a.hostIp.includes(':')) - Number(b.hostIp.includes(':')));
  return new Map([...table].sort(([a], [b]) => parseInt(a) - parseInt(b) || (a < b ? -1 : 1)));
}
