/** Swarm and plugins, of which there are none: clients that look for them get the answers of a dockerd without them. */
import { NO_MANAGER } from '../../engine/networks/definition.ts';
import { NotImplemented, Unavailable } from '../../model/errors.ts';
import type { Handler } from '../call.ts';
import { checkFilterKeys } from '../query.ts';

const PLUGIN_FILTERS = ['capability', 'enabled'];

const MANAGER_OPERATIONS = [
  ...['SwarmInspect', 'SwarmUpdate', 'SwarmUnlock', 'SwarmUnlockkey'],
  ...['NodeList', 'NodeInspect', 'NodeUpdate', 'NodeDelete'],
  ...['ServiceList', 'ServiceCreate', 'ServiceInspect', 'ServiceUpdate', 'ServiceDelete', 'ServiceLogs'],
  ...['TaskList', 'TaskInspect', 'TaskLogs'],
  ...['SecretList', 'SecretCreate', 'SecretInspect', 'SecretUpdate', 'SecretDelete'],
  ...['ConfigList', 'ConfigCreate', 'ConfigInspect', 'ConfigUpdate', 'ConfigDelete'],
];

const notAManager: Handler = () => {
  throw new Unavailable(NO_MANAGER);
};

const notSupported: Handler = () => {
  throw new NotImplemented('swarm mode is not supported');
};

export const swarmHandlers: Record<string, Handler> = {
  ...Object.fromEntries(MANAGER_OPERATIONS.map((operation) => [operation, notAManager])),
  SwarmInit: notSupported,
  SwarmJoin: notSupported,
  SwarmLeave() {
    throw new Unavailable('This node is not part of a swarm');
  },
  PluginList(call) {
    checkFilterKeys(call.filters(), PLUGIN_FILTERS);
    call.json([]);
  },
};
