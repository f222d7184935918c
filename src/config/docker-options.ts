/** dockerd's options that have no effect here. One that would silently drop a protection is rejected. */
import type { Kind } from './kinds.ts';
import type { Inert, Option } from './option.ts';

/** @param more the key, if it is not the flag's name, and the other properties of Inert */
function inert(flag: string, kind: Kind, reason: string, more: Partial<Inert> & { key?: string } = {}): Option {
  const { key = flag, ...inertness } = more;
  return { key, flag, kind, inert: { reason, ...inertness } };
}

const rejected = true;
const notYet = 'not supported yet';
const noSwarm = 'there is no swarm mode';
const noContainerd = 'there is no containerd';
const noTcp = 'the API is served on unix sockets only';

export const dockerOptions: readonly Option[] = [
  inert('live-restore', 'boolean', 'containers always outlive the daemon', { actual: true }),
  inert('userland-proxy', 'boolean', 'ports are published by the kernel', { actual: false }),
  inert('userland-proxy-path', 'string', 'ports are published by the kernel'),
  inert('icc', 'boolean', 'containers on the default bridge cannot be isolated yet; use other networks', {
    actual: true,
    rejected,
  }),
  inert('userns-remap', 'string', 'not supported yet: root in a container would be root on the host', {
    actual: '',
    rejected,
  }),
  inert('authorization-plugin', 'list', 'there are no plugins: all requests would be allowed', {
    key: 'authorization-plugins',
    actual: [],
    rejected,
  }),
  inert('selinux-enabled', 'boolean', 'not supported: containers would run without SELinux labels', {
    actual: false,
    rejected,
  }),
  inert('rootless', 'boolean', 'the daemon runs as root only', { actual: false, rejected }),
  inert('tls', 'boolean', noTcp, { actual: false }),
  inert('tlsverify', 'boolean', noTcp, { actual: false }),
  inert('tlscacert', 'string', noTcp),
  inert('tlscert', 'string', noTcp),
  inert('tlskey', 'string', noTcp),
  inert('ip-forward', 'boolean', 'forwarding is enabled when a bridge needs it', { actual: true, rejected }),
  inert('ip-forward-no-drop', 'boolean', 'the FORWARD policy is not changed', { actual: true }),
  inert('ip-masq', 'boolean', 'the default bridge is always masqueraded', { actual: true }),
  inert('ip6tables', 'boolean', 'same as iptables', { actual: true }),
  inert('ipv6', 'boolean', notYet, { actual: false }),
  inert('bip6', 'string', notYet),
  inert('fixed-cidr', 'string', notYet),
  inert('fixed-cidr-v6', 'string', notYet),
  inert('default-gateway', 'string', notYet),
  inert('default-gateway-v6', 'string', notYet),
  inert('default-network-opt', 'anything', 'not supported yet: networks would lack their restrictions', {
    key: 'default-network-opts',
    actual: {},
    rejected,
  }),
  inert('host-gateway-ip', 'string', notYet),
  inert('host-gateway-ips', 'list', notYet),
  inert('allow-direct-routing', 'boolean', notYet),
  inert('bridge-accept-fwmark', 'string', notYet),
  inert('firewall-backend', 'string', 'the network driver chooses'),
  inert('network-control-plane-mtu', 'integer', noSwarm),
  inert('network-diagnostic-port', 'integer', notYet),
  inert('default-init', 'string', 'set init-path'),
  inert('resolv-conf', 'string', "the host's resolv.conf is used"),
  inert('cpu-rt-period', 'integer', notYet, { actual: 0 }),
  inert('cpu-rt-runtime', 'integer', notYet, { actual: 0 }),
  inert('storage-opt', 'list', notYet, { key: 'storage-opts' }),
  inert('allow-nondistributable-artifacts', 'list', 'Docker has removed it too'),
  inert('http-proxy', 'string', notYet),
  inert('https-proxy', 'string', notYet),
  inert('no-proxy', 'string', notYet),
  inert('proxies', 'anything', notYet),
  inert('metrics-addr', 'string', notYet),
  inert('log-format', 'string', 'the log is JSON', { actual: 'json' }),
  inert('raw-logs', 'boolean', 'the log is JSON'),
  inert('experimental', 'boolean', 'there are no experimental features', { actual: false }),
  inert('builder', 'anything', 'there is no BuildKit'),
  inert('cdi-spec-dir', 'list', notYet, { key: 'cdi-spec-dirs' }),
  inert('containerd', 'string', noContainerd),
  inert('containerd-namespace', 'string', noContainerd),
  inert('containerd-plugins-namespace', 'string', noContainerd, { key: 'containerd-plugin-namespace' }),
  inert('cri-containerd', 'boolean', noContainerd),
  inert('swarm-default-advertise-addr', 'string', noSwarm),
  inert('swarm-raft-heartbeat-tick', 'integer', noSwarm),
  inert('swarm-raft-election-tick', 'integer', noSwarm),
  inert('node-generic-resource', 'list', noSwarm, { key: 'node-generic-resources' }),
  inert('min-api-version', 'string', 'all versions from 1.24 on are supported'),
  inert('api-cors-header', 'string', 'Docker has removed it too'),
  inert('deprecated-key-path', 'string', 'Docker has removed it too'),
];
