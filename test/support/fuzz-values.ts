/** Odd and fitting values for the fields and parameters of fuzzed requests. */
import fc from 'fast-check';

const ODD_TEXTS = [
  '',
  ' ',
  '\0',
  '\n',
  '../..',
  '/',
  '//',
  '.',
  '-',
  ':',
  '@',
  '%',
  '%zz',
  '__proto__',
  'constructor',
  'toString',
  'null',
  '😀',
  '\ud800',
  '\u202eabc',
  'é\u0301',
  'x'.repeat(300),
  'x'.repeat(20_000),
  '$(id)',
  '[',
  '{}',
  '*',
  '(a+)+$',
  '0',
  '-1',
  '1e3',
  '0x10',
  '9223372036854775808',
  'true',
];
export const oddText = fc.oneof(fc.constantFrom(...ODD_TEXTS), fc.string({ unit: 'binary', maxLength: 40 }));
export const word = fc.oneof({ weight: 3, arbitrary: fc.constantFrom('a', 'b1', 'run', 'x-y_z.1') }, oddText);
const ODD_NUMBERS = [0, -1, 1, 1.5, 2 ** 31, -(2 ** 31) - 1, 2 ** 32, 2 ** 53, -(2 ** 53), 1e19, -1e19, 1e300];
export const number = fc.oneof(fc.constantFrom(...ODD_NUMBERS), fc.integer());
export const oddValue: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(null, true, false, [], {}, [null], [[]], { a: null }, { '': '' }, ['']),
  number,
  oddText,
);

/** Names of what the test keeps, so that a request finds something. */
export const CONTAINERS = ['run', 'idle', 'ended'];
/** No registry is at this address: a pull or a push ends at once, and nobody else is asked. */
export const NO_REGISTRY = '127.0.0.1:9/team/image';
const FILTERS = [
  '{}',
  '{"label":["a"]}',
  '{"label":{"a=b":true},"name":["run"]}',
  '{"id":["["]}',
  '{"status":["running","x"]}',
  '{"until":["1h"]}',
  '{"dangling":["2"]}',
  '{"before":["run"],"since":["none"]}',
  '{"label":{"a":false}}',
  '{"name":"x"}',
  '[]',
  'null',
  '{',
  '{"unknown":["x"]}',
  '{"publish":["80-90/tcp"],"exited":["x"],"health":["y"]}',
];

/** Values for fields and parameters whose type alone says too little, or would reach the world outside. */
export const BY_NAME: Record<string, fc.Arbitrary<unknown>> = {
  Image: fc.oneof({ weight: 8, arbitrary: fc.constant('busybox') }, oddText),
  fromImage: fc.constantFrom(
    '',
    NO_REGISTRY,
    `${NO_REGISTRY}:1`,
    `${NO_REGISTRY}@sha256:12`,
    'UPPER',
    ':',
    '/x',
    '127.0.0.1:9/x:/',
  ),
  fromSrc: fc.constantFrom('', '-', 'none', 'file:///etc/passwd'),
  repo: fc.constantFrom('', 'made', 'made:2', NO_REGISTRY, 'UPPER', '../x', 'a'.repeat(300)),
  tag: fc.constantFrom('', '1', 'latest', '!', 'sha256:00', 't'.repeat(200)),
  term: fc.constantFrom('', '127.0.0.1:9/x', '127.0.0.1:9/'),
  serveraddress: fc.constantFrom('127.0.0.1:9', 'http://127.0.0.1:9/v1/'),
  identitytoken: fc.constantFrom('', 'x'),
  filters: fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...FILTERS) }, oddText),
  path: fc.oneof(
    fc.constantFrom('/', '/etc', '/proc/1/root', '/dev/null', '../../etc', 'none/x', '/etc/passwd/x'),
    oddText,
  ),
  // Long stops are not hangs.
  t: fc.constantFrom('0', '1', 'x', '-9223372036854775809', ''),
  signal: fc.constantFrom('', 'TERM', 'SIGKILL', '0', '65', 'RTMIN+40', 'x', '-1', '9e9'),
  Signal: fc.constantFrom('', 'TERM', 'SIGKILL', 'x'),
  Driver: fc.oneof(fc.constantFrom('', 'local', 'bridge', 'json-file', 'null'), oddText),
  NetworkMode: fc.oneof(
    fc.constantFrom('', 'none', 'host', 'bridge', 'default', 'container:run', 'container:', 'net'),
    word,
  ),
  Subnet: fc.constantFrom('192.0.2.0/28', '192.0.2.9/28', '2001:db8::/64', '300.1.2.3/9', '192.0.2.0/33', 'x', ''),
  Gateway: fc.constantFrom('192.0.2.1', '198.51.100.1', '::1', 'x', ''),
  IPRange: fc.constantFrom('192.0.2.8/29', '10.0.0.0/8', 'x', ''),
  IPv4Address: fc.constantFrom('192.0.2.3', '0.0.0.0', '1.2.3', 'x'),
  MacAddress: fc.constantFrom('02:42:ac:11:00:02', '01:00:00:00:00:00', 'x', ''),
  Container: fc.constantFrom('run', 'idle', 'none', '', 'x'.repeat(5000)),
  Type: fc.oneof(fc.constantFrom('', 'bind', 'volume', 'tmpfs', 'json-file', 'none'), oddText),
  // A volume with a device is mounted from the host.
  DriverOpts: fc.constantFrom({}, { a: 'b' }, { type: 'x' }, null),
  Options: fc.constantFrom({}, { a: 'b' }, { 'com.docker.network.driver.mtu': '-5' }, null),
  ConfigOnly: fc.boolean(),
  Cmd: fc.oneof(fc.constantFrom<unknown>(['true'], ['sh', '-c', 'exit 3'], [''], [], 'true', null), oddValue),
};
