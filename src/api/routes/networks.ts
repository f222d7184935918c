/** /networks */
import type { Network } from '../../engine/networks/network.ts';
import { rfc3339 } from '../../engine/time.ts';
import type { Call, Handler } from '../call.ts';
import { checkFilterKeys } from '../query.ts';

const FILTERS = ['dangling', 'driver', 'id', 'label', 'name', 'scope', 'type'];
const PREDEFINED = new Set(['bridge', 'host', 'none']);

export const networkHandlers: Record<string, Handler> = {
  NetworkList(call) {
    const filters = call.filters();
    checkFilterKeys(filters, FILTERS);
    const passes = (key: string, test: (value: string) => boolean): boolean => (filters.get(key) ?? []).length === 0 || filters.get(key)!.some(test);
    call.json(call.engine.networks.list().filter((n) =>
      passes('name', (v) => n.name.includes(v)) && passes('id', (v) => n.id.startsWith(v)) && passes('driver', (v) => n.driver === v) && passes('scope', (v) => v === 'local')
      && passes('type', (v) => (v === 'builtin') === PREDEFINED.has(n.name)) && (filters.get('label') ?? []).every((l) => { const [k = '', v] = l.split('='); return k in n.labels && (v === undefined || n.labels[k] === v); }),
    ).map((n) => inspect(call, n)));
  },
  NetworkInspect(call) {
    call.json(inspect(call, call.engine.networks.resolve(call.param('id'))));
  },
};

function inspect(call: Call, n: Network): Record<string, unknown> {
  const members = call.engine.containers.all().flatMap((c) => Object.values(c.endpoints).filter((e) => e.networkId === n.id && e.endpointId !== '').map((e) => [c.id, {
    Name: c.name, EndpointID: e.endpointId, MacAddress: e.macAddress, IPv4Address: e.ipAddress && `${e.ipAddress}/${e.ipPrefixLen}`, IPv6Address: '',
  }] as const));
  return {
    Name: n.name, Id: n.id, Created: rfc3339(n.created), Scope: 'local', Driver: n.driver, EnableIPv4: n.enableIPv4, EnableIPv6: n.enableIPv6,
    IPAM: { Driver: n.ipam.driver, Options: n.ipam.options, Config: n.ipam.config }, Internal: n.internal, Attachable: n.attachable, Ingress: n.ingress, ConfigFrom: { Network: '' }, ConfigOnly: false,
    Containers: Object.fromEntries(members), Options: n.options, Labels: n.labels,
  };
}
