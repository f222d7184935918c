/**
 * Every option there is: its name as a flag, as an environment variable and in daemon.json. Names are dockerd's where
 * it has one.
 */

/** How an option's value looks, as JSON and on the command line. */
export type Kind = keyof typeof kinds;

export interface Option {
  /** The key in daemon.json. */
  key: string;
  /** The flag, where it is not the key (`labels` is filled by `--label`). */
  flag?: string;
  short?: string;
  kind: Kind;
  /** What the value is called in --help. */
  value?: string;
  help?: string;
  /** Only a flag: has no place in the file. */
  flagOnly?: true;
  /** Docker's, but without effect here: why. */
  inert?: string;
  /** The one value of an inert option that asks for what happens anyway: no warning. */
  same?: unknown;
  /** To ignore any other value than `same` would take away a protection: why it is refused. */
  refusal?: string;
}

const fromPairs = (values: string[]): [string, string][] =>
  values.map((pair) => {
    const at = pair.indexOf('=');
    if (at < 1) throw new Error(`${JSON.stringify(pair)} must be formatted name=value`);
    return [pair.slice(0, at), pair.slice(at + 1)];
  });

const last = (values: string[]): string => values.at(-1) ?? '';

// Go's strconv.ParseBool, which dockerd's flags go through.
const truths = new Map([
  ...['1', 't', 'T', 'true', 'TRUE', 'True'].map((t) => [t, true] as const),
  ...['0', 'f', 'F', 'false', 'FALSE', 'False'].map((f) => [f, false] as const),
]);

function toBoolean(text: string): boolean {
  const truth = truths.get(text);
  if (truth === undefined) throw new Error(`${JSON.stringify(text)} is neither true nor false`);
  return truth;
}

function toInteger(text: string): number {
  if (!/^[+-]?\d+$/.test(text)) throw new Error(`${JSON.stringify(text)} is not a whole number`);
  return Number(text);
}

/** `nofile=1024:2048`, as in docker run --ulimit. */
function toUlimit([name, limits]: [string, string]): [string, { Name: string; Soft: number; Hard: number }] {
  const [soft, hard = soft] = limits.split(':').map(toInteger);
  return [name, { Name: name, Soft: soft!, Hard: hard! }];
}

/** `base=10.0.0.0/8,size=24`. */
function toPool(text: string): { base: string; size: number } {
  const { base, size, ...others } = Object.fromEntries(fromPairs(text.split(',')));
  const stray = Object.keys(others)[0];
  if (stray !== undefined) throw new Error(`unknown field ${JSON.stringify(stray)}: a pool is base=CIDR,size=BITS`);
  if (base === undefined || size === undefined)
    throw new Error(`${JSON.stringify(text)} must be formatted base=CIDR,size=BITS`);
  return { base, size: toInteger(size) };
}

const strings = { type: 'array', items: { type: 'string' } };

/** For each kind: what it is in JSON, and what its flags, repeated or not, become. */
export const kinds = {
  string: { schema: { type: 'string' }, parse: last },
  boolean: { schema: { type: 'boolean' }, parse: (values: string[]) => toBoolean(last(values)) },
  integer: { schema: { type: 'integer' }, parse: (values: string[]) => toInteger(last(values)) },
  bytes: { schema: { type: ['string', 'integer'] }, parse: last },
  list: { schema: strings, parse: (values: string[]) => values },
  map: {
    schema: { type: 'object', additionalProperties: { type: 'string' } },
    parse: (values: string[]) => Object.fromEntries(fromPairs(values)),
  },
  switches: {
    schema: { type: 'object', additionalProperties: { type: 'boolean' } },
    parse: (values: string[]) =>
      Object.fromEntries(
        values
          .map((v) => (v.includes('=') ? v : `${v}=true`))
          .map((v) => fromPairs([v])[0]!)
          .map(([name, truth]) => [name, toBoolean(truth)]),
      ),
  },
  ulimits: {
    schema: {
      type: 'object',
      additionalProperties: {
        type: 'object',
        required: ['Hard', 'Soft'],
        additionalProperties: false,
        properties: { Name: { type: 'string' }, Hard: { type: 'integer' }, Soft: { type: 'integer' } },
      },
    },
    parse: (values: string[]) => Object.fromEntries(fromPairs(values).map(toUlimit)),
  },
  pools: {
    schema: {
      type: 'array',
      items: {
        type: 'object',
        required: ['base', 'size'],
        additionalProperties: false,
        properties: { base: { type: 'string' }, size: { type: 'integer' } },
      },
    },
    parse: (values: string[]) => values.map(toPool),
  },
  runtimes: {
    schema: {
      type: 'object',
      additionalProperties: {
        type: 'object',
        additionalProperties: false,
        properties: {
          path: { type: 'string' },
          runtimeArgs: strings,
          runtimeType: { type: 'string' },
          options: { type: 'object' },
        },
      },
    },
    parse: (values: string[]) => Object.fromEntries(fromPairs(values).map(([name, path]) => [name, { path }])),
  },
  anything: { schema: {}, parse: last },
} as const;

const notYet = 'not supported yet';
const swarm = 'there is no swarm mode';
const containerd = 'there is no containerd';
const noTcp = 'the API is served on unix sockets only';

/** In the order of --help. */
export const options: readonly Option[] = [
  {
    key: 'config-file',
    kind: 'string',
    value: 'FILE',
    help: 'Configuration file (default /etc/holdfast/daemon.json, which may be missing)',
    flagOnly: true,
  },
  { key: 'validate', kind: 'boolean', help: 'Check the configuration and exit', flagOnly: true },
  { key: 'version', short: 'v', kind: 'boolean', help: 'Print the version and exit', flagOnly: true },
  { key: 'help', short: 'h', kind: 'boolean', help: 'Print this and exit', flagOnly: true },

  {
    key: 'hosts',
    flag: 'host',
    short: 'H',
    kind: 'list',
    value: 'URL',
    help: 'Where to serve the API: unix:///PATH, or fd:// under systemd (default unix://EXEC-ROOT/holdfast.sock)',
  },
  {
    key: 'group',
    short: 'G',
    kind: 'string',
    value: 'GROUP',
    help: "Group of the API socket, by name or number (default: root's)",
  },
  {
    key: 'data-root',
    kind: 'string',
    value: 'DIR',
    help: 'What survives a reboot: images, containers, volumes, the store (default /var/lib/holdfast)',
  },
  {
    key: 'exec-root',
    kind: 'string',
    value: 'DIR',
    help: 'What dies with the host: sockets, pipes, mounts (default /run/holdfast)',
  },
  {
    key: 'pidfile',
    short: 'p',
    kind: 'string',
    value: 'FILE',
    help: "The daemon's pid file (default EXEC-ROOT/holdfastd.pid)",
  },
  { key: 'debug', short: 'D', kind: 'boolean', help: 'Log everything; same as --log-level debug' },
  {
    key: 'log-level',
    short: 'l',
    kind: 'string',
    value: 'LEVEL',
    help: "The daemon's own log: debug, info, warn, error or fatal (default info)",
  },
  {
    key: 'labels',
    flag: 'label',
    kind: 'list',
    value: 'NAME=VALUE',
    help: 'Label of this daemon, shown by docker info',
  },
  { key: 'features', flag: 'feature', kind: 'switches', value: 'NAME=BOOL', help: 'Switch a feature on or off' },
  {
    key: 'shutdown-timeout',
    kind: 'integer',
    value: 'SECONDS',
    help: 'What containers get to stop in when the host shuts down; -1 = no limit (default 15)',
  },
  {
    key: 'slow-client-timeout',
    kind: 'integer',
    value: 'SECONDS',
    help: 'Drop a client that accepts no byte for this long; 0 = never (default 600)',
  },
  {
    key: 'warm-shims',
    kind: 'integer',
    value: 'N',
    help: 'Shims kept ready, so that starting a container need not start one (default 2)',
  },

  {
    key: 'default-runtime',
    kind: 'string',
    value: 'NAME',
    help: 'OCI runtime of containers that name none (default runc)',
  },
  {
    key: 'runtimes',
    flag: 'add-runtime',
    kind: 'runtimes',
    value: 'NAME=PATH',
    help: 'One more OCI runtime; runc and crun are known where they are installed',
  },
  {
    key: 'exec-opts',
    flag: 'exec-opt',
    kind: 'list',
    value: 'NAME=VALUE',
    help: 'native.cgroupdriver=cgroupfs or systemd (default: systemd on a systemd host with cgroup v2, else cgroupfs)',
  },
  {
    key: 'cgroup-parent',
    kind: 'string',
    value: 'CGROUP',
    help: "Parent of the containers' cgroups (default /holdfast, or holdfast.slice under systemd)",
  },
  {
    key: 'default-ulimits',
    flag: 'default-ulimit',
    kind: 'ulimits',
    value: 'NAME=SOFT[:HARD]',
    help: 'Limit of containers that set none',
  },
  {
    key: 'default-shm-size',
    kind: 'bytes',
    value: 'BYTES',
    help: '/dev/shm of containers that set none (default 64M)',
  },
  {
    key: 'init-path',
    kind: 'string',
    value: 'FILE',
    help: 'Init process of docker run --init (default: tini or catatonit, where installed)',
  },
  {
    key: 'seccomp-profile',
    kind: 'string',
    value: 'FILE',
    help: 'Default seccomp profile, or "unconfined" (default /usr/share/containers/seccomp.json)',
  },
  {
    key: 'no-new-privileges',
    kind: 'boolean',
    help: 'Containers gain no privileges by setuid programs, unless they ask to',
  },
  {
    key: 'log-driver',
    kind: 'string',
    value: 'NAME',
    help: "Where containers' output goes: json-file or none (default json-file)",
  },
  {
    key: 'log-opts',
    flag: 'log-opt',
    kind: 'map',
    value: 'NAME=VALUE',
    help: 'Default options of the log driver: max-size, max-file, labels, env, tag, …',
  },

  {
    key: 'bip',
    kind: 'string',
    value: 'CIDR',
    help: 'Address and subnet of the default bridge (default 10.77.0.1/16)',
  },
  { key: 'bridge', short: 'b', kind: 'string', value: 'NAME', help: "The default bridge's link (default holdfast0)" },
  {
    key: 'default-address-pools',
    flag: 'default-address-pool',
    kind: 'pools',
    value: 'base=CIDR,size=BITS',
    help: 'Where new networks get their subnets from (default base=10.78.0.0/15,size=24)',
  },
  { key: 'dns', kind: 'list', value: 'ADDRESS', help: "DNS server of containers (default: the host's)" },
  { key: 'dns-opts', flag: 'dns-opt', kind: 'list', value: 'OPTION', help: 'resolv.conf option of containers' },
  { key: 'dns-search', kind: 'list', value: 'DOMAIN', help: 'DNS search domain of containers' },
  { key: 'ip', kind: 'string', value: 'ADDRESS', help: 'Host address that ports are published on (default: all)' },
  { key: 'mtu', kind: 'integer', value: 'BYTES', help: 'MTU of the default bridge (default 1500)' },
  { key: 'iptables', kind: 'boolean', help: 'Let Holdfast make firewall rules (default true)' },

  {
    key: 'registry-mirrors',
    flag: 'registry-mirror',
    kind: 'list',
    value: 'URL',
    help: 'Mirror of Docker Hub, asked first',
  },
  {
    key: 'insecure-registries',
    flag: 'insecure-registry',
    kind: 'list',
    value: 'HOST[:PORT]',
    help: 'Registry, or CIDR of registries, that may be spoken to without verified TLS',
  },
  {
    key: 'registry-certs',
    kind: 'string',
    value: 'DIR',
    help: 'Has a directory HOST[:PORT] for each registry: its CAs (*.crt), our certificate for it (*.cert, *.key) (default /etc/holdfast/certs.d)',
  },
  { key: 'max-concurrent-downloads', kind: 'integer', value: 'N', help: 'Layers that come at a time (default 3)' },
  { key: 'max-concurrent-uploads', kind: 'integer', value: 'N', help: 'Layers that go at a time (default 5)' },
  {
    key: 'max-download-attempts',
    kind: 'integer',
    value: 'N',
    help: 'How often a download is tried again that brings nothing (default 5)',
  },
  { key: 'storage-driver', short: 's', kind: 'string', value: 'NAME', help: 'overlay2 is the only one' },

  // Docker's, without effect here. A protection that would be silently lost is refused instead.
  { key: 'live-restore', kind: 'boolean', inert: 'containers always outlive the daemon', same: true },
  { key: 'userland-proxy', kind: 'boolean', inert: 'ports are published by the kernel', same: false },
  { key: 'userland-proxy-path', kind: 'string', inert: 'ports are published by the kernel' },
  {
    key: 'icc',
    kind: 'boolean',
    inert: 'containers on the default bridge reach one another',
    same: true,
    refusal: 'containers on the default bridge cannot be kept apart yet; put them on networks of their own',
  },
  {
    key: 'userns-remap',
    kind: 'string',
    inert: 'user namespaces are not remapped',
    same: '',
    refusal: 'user namespaces are not remapped yet; root in a container would be root on the host',
  },
  {
    key: 'authorization-plugins',
    flag: 'authorization-plugin',
    kind: 'list',
    inert: 'there are no plugins',
    same: [],
    refusal: 'there are no plugins, and what they forbid would be allowed',
  },
  {
    key: 'selinux-enabled',
    kind: 'boolean',
    inert: 'SELinux is not supported',
    same: false,
    refusal: 'SELinux labels are not supported, and containers would run without them',
  },
  {
    key: 'rootless',
    kind: 'boolean',
    inert: 'the daemon runs as root',
    same: false,
    refusal: 'the daemon runs as root only',
  },
  { key: 'tls', kind: 'boolean', inert: noTcp, same: false },
  { key: 'tlsverify', kind: 'boolean', inert: noTcp, same: false },
  { key: 'tlscacert', kind: 'string', inert: noTcp },
  { key: 'tlscert', kind: 'string', inert: noTcp },
  { key: 'tlskey', kind: 'string', inert: noTcp },
  { key: 'ip-forward', kind: 'boolean', inert: 'forwarding is switched on when a bridge needs it', same: true },
  { key: 'ip-forward-no-drop', kind: 'boolean', inert: 'the FORWARD policy is left alone', same: true },
  { key: 'ip-masq', kind: 'boolean', inert: 'the default bridge is always masqueraded', same: true },
  { key: 'ip6tables', kind: 'boolean', inert: 'as iptables', same: true },
  { key: 'ipv6', kind: 'boolean', inert: notYet, same: false },
  { key: 'bip6', kind: 'string', inert: notYet },
  { key: 'fixed-cidr', kind: 'string', inert: notYet },
  { key: 'fixed-cidr-v6', kind: 'string', inert: notYet },
  { key: 'default-gateway', kind: 'string', inert: notYet },
  { key: 'default-gateway-v6', kind: 'string', inert: notYet },
  { key: 'default-network-opts', flag: 'default-network-opt', kind: 'anything', inert: notYet },
  { key: 'host-gateway-ip', kind: 'string', inert: notYet },
  { key: 'host-gateway-ips', kind: 'list', inert: notYet },
  { key: 'allow-direct-routing', kind: 'boolean', inert: notYet },
  { key: 'bridge-accept-fwmark', kind: 'string', inert: notYet },
  { key: 'firewall-backend', kind: 'string', inert: 'whatever the network driver finds is used' },
  { key: 'network-control-plane-mtu', kind: 'integer', inert: swarm },
  { key: 'network-diagnostic-port', kind: 'integer', inert: notYet },
  { key: 'init', kind: 'boolean', inert: 'not supported yet: give --init to the containers', same: false },
  { key: 'default-init', kind: 'string', inert: 'init-path names it' },
  { key: 'default-cgroupns-mode', kind: 'string', inert: "not supported yet: Docker's default applies" },
  { key: 'default-ipc-mode', kind: 'string', inert: 'not supported yet: private applies', same: 'private' },
  { key: 'resolv-conf', kind: 'string', inert: "the host's own is found" },
  { key: 'cpu-rt-period', kind: 'integer', inert: notYet, same: 0 },
  { key: 'cpu-rt-runtime', kind: 'integer', inert: notYet, same: 0 },
  { key: 'storage-opts', flag: 'storage-opt', kind: 'list', inert: notYet },
  { key: 'allow-nondistributable-artifacts', kind: 'list', inert: 'Docker has dropped it too' },
  { key: 'http-proxy', kind: 'string', inert: notYet },
  { key: 'https-proxy', kind: 'string', inert: notYet },
  { key: 'no-proxy', kind: 'string', inert: notYet },
  { key: 'proxies', kind: 'anything', inert: notYet },
  { key: 'metrics-addr', kind: 'string', inert: notYet },
  { key: 'log-format', kind: 'string', inert: 'the log is JSON', same: 'json' },
  { key: 'raw-logs', kind: 'boolean', inert: 'the log is JSON' },
  { key: 'experimental', kind: 'boolean', inert: 'nothing is experimental', same: false },
  { key: 'builder', kind: 'anything', inert: 'there is no BuildKit' },
  { key: 'cdi-spec-dirs', flag: 'cdi-spec-dir', kind: 'list', inert: notYet },
  { key: 'containerd', kind: 'string', inert: containerd },
  { key: 'containerd-namespace', kind: 'string', inert: containerd },
  { key: 'containerd-plugin-namespace', flag: 'containerd-plugins-namespace', kind: 'string', inert: containerd },
  { key: 'cri-containerd', kind: 'boolean', inert: containerd },
  { key: 'swarm-default-advertise-addr', kind: 'string', inert: swarm },
  { key: 'swarm-raft-heartbeat-tick', kind: 'integer', inert: swarm },
  { key: 'swarm-raft-election-tick', kind: 'integer', inert: swarm },
  { key: 'node-generic-resources', flag: 'node-generic-resource', kind: 'list', inert: swarm },
  { key: 'min-api-version', kind: 'string', inert: 'every version from 1.24 on is served' },
  { key: 'api-cors-header', kind: 'string', inert: 'Docker has dropped it too' },
  { key: 'deprecated-key-path', kind: 'string', inert: 'Docker has dropped it too' },
];

export const flagOf = (option: Option): string => option.flag ?? option.key;

/** HOLDFAST_DATA_ROOT for data-root. */
export const variableOf = (option: Option): string => `HOLDFAST_${flagOf(option).toUpperCase().replaceAll('-', '_')}`;
