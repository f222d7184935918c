/** Events of networks. */
import type { Container } from '../../model/container.ts';
import type { NewEvent } from '../../model/event.ts';
import type { Network } from '../../model/network.ts';
import { wallNow } from '../clock.ts';
import type { EndpointSetup, Setup } from './driver.ts';

type EndpointAction = 'connect' | 'disconnect';

export const networkEvent = (network: Network, action: 'create' | 'destroy'): NewEvent => ({
  type: 'network',
  action,
  actor: network.id,
  attributes: { name: network.name, type: network.driver },
  time: wallNow(),
});

export const pruneEvent = (): NewEvent => ({
  type: 'network',
  action: 'prune',
  actor: '',
  attributes: { reclaimed: '0' },
  time: wallNow(),
});

/** One event per endpoint of a running container. */
export const endpointEvents = (setup: Setup, endpoints: EndpointSetup[], action: EndpointAction): NewEvent[] =>
  endpoints.map(({ network, networkId, type }) => ({
    type: 'network',
    action,
    actor: networkId,
    attributes: { container: setup.container, name: network, type },
    time: wallNow(),
  }));

/** The same for a container that is not running and so has no setup. */
export const disconnectEvent = (container: Pick<Container, 'id'>, network: Network): NewEvent => ({
  type: 'network',
  action: 'disconnect',
  actor: network.id,
  attributes: { container: container.id, name: network.name, type: network.driver },
  time: wallNow(),
});
