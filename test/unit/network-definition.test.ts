/** Network definitions, a container's endpoints, and its gateway. */
import { describe, expect, test } from 'vitest';
import { define, type NetworkRequest } from '../../src/engine/networks/definition.ts';
import { defaultRouteEndpoint, type EndpointSetup } from '../../src/engine/networks/driver.ts';
import { planEndpoints } from '../../src/engine/networks/plan.ts';

describe('planning endpoints', () => {
  const who = { id: '0123456789abcdef', name: 'web', hostname: 'box' };
  test.each([
    ['', 'bridge'],
    ['default', 'bridge'],
    ['bridge', 'bridge'],
    ['host', 'host'],
    ['none', 'none'],
    ['mine', 'mine'],
  ])('mode %j attaches to %s', (mode, network) => {
    const endpoints = planEndpoints(mode, {}, who);
    expect(Object.keys(endpoints)).toEqual([network]);
    expect(endpoints[network]).toMatchObject({ network, networkId: '', endpointId: '', ipAddress: '', macAddress: '' });
  });
  test('a shared namespace gets no endpoints', () => expect(planEndpoints('container:x', {}, who)).toEqual({}));
  test('a user-defined network gets the container’s names', () =>
    expect(planEndpoints('mine', { mine: { Aliases: ['a', 'web'] } }, who).mine!.dnsNames).toEqual([
      'web',
      'a',
      '0123456789ab',
      'box',
    ]));
  test('a request for `default` applies to the bridge', () =>
    expect(
      planEndpoints('default', { default: { MacAddress: '02:42:ac:11:00:09' } }, who).bridge!.request.MacAddress,
    ).toBe('02:42:ac:11:00:09'));
  test.each([
    [
      { bridge: { IPAMConfig: { IPv4Address: '172.17.0.9' } } },
      'invalid config for network bridge: invalid endpoint settings:\nuser-specified IP address is supported on user-defined networks only',
    ],
    [
      { bridge: { Aliases: ['x'] } },
      'invalid config for network bridge: invalid endpoint settings:\nnetwork-scoped aliases are only supported for user-defined networks',
    ],
    [{ bridge: { MacAddress: 'zz' } }, 'invalid config for network bridge: invalid MAC address zz'],
    [{ bridge: null }, 'invalid config for network bridge: EndpointsConfig is nil'],
    [
      { mine: { IPAMConfig: { IPv4Address: '1.2.3' } } },
      'invalid config for network mine: invalid endpoint settings:\ninvalid IPv4 address: 1.2.3',
    ],
  ])('rejects %j', (requests, message) => expect(() => planEndpoints('bridge', requests, who)).toThrow(message));
});

describe('defining a network', () => {
  const defaults = { mtu: 1500, hostIp: '' };
  test('fills in defaults for a name alone', () =>
    expect(define({ Name: 'n' }, defaults)).toMatchObject({
      name: 'n',
      enableIPv4: true,
      enableIPv6: false,
      internal: false,
      subnets: {},
      settings: { icc: true, masquerade: true, mtu: 1500, hostIp: '', linkPrefix: 'eth' },
    }));
  test('applies driver options', () =>
    expect(
      define(
        {
          Name: 'n',
          Options: {
            'com.docker.network.bridge.enable_icc': 'false',
            'com.docker.network.bridge.enable_ip_masquerade': '0',
            'com.docker.network.driver.mtu': '1400',
            'com.docker.network.bridge.host_binding_ipv4': '127.0.0.1',
            'com.docker.network.bridge.name': 'mybr',
          },
        },
        defaults,
      ),
    ).toMatchObject({ bridge: 'mybr', settings: { icc: false, masquerade: false, mtu: 1400, hostIp: '127.0.0.1' } }));
  test.each<[string, NetworkRequest, string]>([
    ['a predefined name', { Name: 'bridge' }, 'operation is not permitted on predefined bridge network '],
    ['an empty name', { Name: ' ' }, 'invalid name: name is empty'],
    [
      'host bits in the subnet',
      { Name: 'n', IPAM: { Config: [{ Subnet: '10.1.2.3/24' }] } },
      'invalid network config:\ninvalid subnet 10.1.2.3/24: it should be 10.1.2.0/24',
    ],
    [
      'a subnet without prefix',
      { Name: 'n', IPAM: { Config: [{ Subnet: 'x' }] } },
      'invalid network config:\ninvalid subnet x: invalid CIDR block notation',
    ],
    [
      'a gateway outside the subnet',
      { Name: 'n', IPAM: { Config: [{ Subnet: '10.1.2.0/24', Gateway: '10.1.3.1' }] } },
      "invalid network config:\ninvalid gateway 10.1.3.1: parent subnet 10.1.2.0/24 doesn't contain this address",
    ],
    [
      'an IP range of the other family',
      { Name: 'n', IPAM: { Config: [{ Subnet: '10.1.2.0/24', IPRange: 'fd00::/64' }] } },
      'invalid network config:\ninvalid ip-range fd00::/64: parent subnet is an IPv4 block',
    ],
    [
      'several errors',
      {
        Name: 'n',
        IPAM: { Config: [{ Subnet: '10.1.2.0/24', IPRange: '10.1.2.1/25', AuxiliaryAddresses: { a: 'y' } }] },
      },
      'invalid network config:\n* invalid ip-range 10.1.2.1/25: it should be 10.1.2.0/25\n* invalid auxiliary address a: invalid address',
    ],
    [
      'two subnets of a family',
      { Name: 'n', IPAM: { Config: [{ Subnet: '10.1.2.0/24' }, { Subnet: '10.1.3.0/24' }] } },
      "bridge driver doesn't support multiple subnets",
    ],
    ['neither family', { Name: 'n', EnableIPv4: false }, 'IPv4 or IPv6 must be enabled'],
    ['an unknown driver', { Name: 'n', Driver: 'weave' }, 'plugin "weave" not found'],
    ['a second host network', { Name: 'n', Driver: 'host' }, 'only one instance of "host" network is allowed'],
    [
      'an invalid icc value',
      { Name: 'n', Options: { 'com.docker.network.bridge.enable_icc': 'x' } },
      'failed to parse com.docker.network.bridge.enable_icc value: x (strconv.ParseBool: parsing "x": invalid syntax)',
    ],
  ])('rejects %s', (_, request, message) => expect(() => define(request, defaults)).toThrow(message));
});

describe('the gateway endpoint', () => {
  const end = (network: string, changes: Partial<EndpointSetup> = {}): EndpointSetup =>
    ({ network, gateway: `gw-${network}`, gateway6: '', internal: false, priority: 0, ...changes }) as EndpointSetup;
  test.each<[string, EndpointSetup[], string | undefined]>([
    ['is the only one', [end('a')], 'a'],
    ['is the first by network name', [end('b'), end('a')], 'a'],
    ['has the highest priority', [end('a'), end('b', { priority: 1 })], 'b'],
    ['is not on an internal network', [end('a', { internal: true, gateway: '', priority: 5 }), end('b')], 'b'],
    ['is not one that is being removed', [end('a', { changing: 'leaving' }), end('b')], 'b'],
    ['is undefined without a gateway', [end('a', { gateway: '' })], undefined],
  ])('%s', (_, endpoints, expected) => expect(defaultRouteEndpoint({ endpoints }, 4)?.network).toBe(expected));
});
