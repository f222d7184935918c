/** /networks */
import type { EndpointRequest } from '../../model/container-config.ts';
import { InvalidParameter, NotFound } from '../../model/errors.ts';
import { goBoolean, type NetworkRequest } from '../../engine/networks/definition.ts';
import type { Handler } from '../call.ts';
import { networkCreated, networkInspect, networksPruned } from '../wire/networks.ts';

interface ConnectRequest {
  Container?: string;
  EndpointConfig?: EndpointRequest | null;
}

interface DisconnectRequest {
  Container?: string;
  Force?: boolean;
}

export const networkHandlers: Record<string, Handler> = {
  NetworkList(call) {
    const { networks } = call.engine;
    // As dockerd: since 1.28 only inspect lists a network's containers.
    const members = (id: string) => (call.atLeast('1.28') ? [] : networks.members(id));
    call.json(networks.list(call.filters()).map((network) => networkInspect(network, members(network.id))));
  },

  NetworkInspect(call) {
    const verbose = call.text('verbose');
    if (verbose !== '' && goBoolean(verbose) === undefined)
      throw new InvalidParameter(
        `invalid value for verbose: ${verbose}: strconv.ParseBool: parsing ${JSON.stringify(verbose)}: invalid syntax`,
      );
    const network = call.engine.networks.resolve(call.param('id'));
    if (!['', 'local'].includes(call.text('scope'))) throw new NotFound(`network ${call.param('id')} not found`);
    call.json(networkInspect(network, call.engine.networks.members(network.id)));
  },

  async NetworkCreate(call) {
    const body = await call.body<NetworkRequest>();
    // 1.48 brought networks without IPv4; older clients mean the default.
    const { id } = await call.engine.networks.create(call.atLeast('1.48') ? body : { ...body, EnableIPv4: null });
    call.json(networkCreated(id), 201);
  },

  async NetworkConnect(call) {
    const { Container = '', EndpointConfig } = await call.body<ConnectRequest>();
    await call.engine.containers.connect(Container, call.param('id'), EndpointConfig ?? {});
    call.empty(200);
  },

  async NetworkDisconnect(call) {
    const { Container = '', Force = false } = await call.body<DisconnectRequest>();
    await call.engine.containers.disconnect(Container, call.param('id'), { force: Force });
    call.empty(200);
  },

  async NetworkDelete(call) {
    await call.engine.networks.remove(call.param('id'));
    call.empty(204);
  },

  async NetworkPrune(call) {
    call.json(networksPruned(await call.engine.networks.prune(call.filters())));
  },
};
