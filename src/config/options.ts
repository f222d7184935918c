/** All options, in the order of --help. */
import { dockerOptions } from './docker-options.ts';
import type { Kind } from './kinds.ts';
import type { Option } from './option.ts';

/** @param usage as --help prints it, e.g. `-H, --host URL`. `key` and others may differ from what it says. */
function option(usage: string, kind: Kind, help: string, more: Partial<Option> = {}): Option {
  const [, short, flag = '', value] = /^(?:-(\w), )?--([\w-]+)(?: (\S+))?$/.exec(usage) ?? [];
  return { key: flag, flag, short, kind, value, help, ...more };
}

const flagOnly = true;

const ownOptions: readonly Option[] = [
  option('--config-file FILE', 'string', 'Configuration file (default /etc/holdfast/daemon.json, if it exists)', {
    flagOnly,
  }),
  option('--validate', 'boolean', 'Check the configuration and exit', { flagOnly }),
  option('-v, --version', 'boolean', 'Print the version and exit', { flagOnly }),
  option('-h, --help', 'boolean', 'Print this help and exit', { flagOnly }),

  option(
    '-H, --host URL',
    'list',
    'API listen address: unix:///PATH, or fd:// under systemd (default unix://EXEC-ROOT/holdfast.sock)',
    { key: 'hosts' },
  ),
  option('-G, --group GROUP', 'string', "Group of the API socket, by name or number (default: root's)"),
  option(
    '--data-root DIR',
    'string',
    'Persistent state: images, containers, volumes, the database (default /var/lib/holdfast)',
  ),
  option('--exec-root DIR', 'string', 'State lost on reboot: sockets, pipes, mounts (default /run/holdfast)'),
  option('-p, --pidfile FILE', 'string', "The daemon's PID file (default EXEC-ROOT/holdfastd.pid)"),
  option('-D, --debug', 'boolean', 'Same as --log-level debug'),
  option(
    '-l, --log-level LEVEL',
    'string',
    "Level of the daemon's own log: debug, info, warn, error or fatal (default info)",
  ),
  option('--label NAME=VALUE', 'list', 'Label of this daemon, shown by docker info', { key: 'labels' }),
  option('--feature NAME=BOOL', 'switches', 'Turn a feature on or off', { key: 'features' }),
  option(
    '--shutdown-timeout SECONDS',
    'integer',
    'How long containers may take to stop at host shutdown; -1 = no limit (default 15)',
  ),
  option(
    '--slow-client-timeout SECONDS',
    'integer',
    'Disconnect a client that reads nothing for this long; 0 = never (default 600)',
  ),
  option('--warm-shims N', 'integer', 'Number of idle shims kept ready for container starts (default 2)'),

  option('--default-runtime NAME', 'string', 'OCI runtime of containers that name none (default runc)'),
  option('--add-runtime NAME=PATH', 'runtimes', 'Additional OCI runtime; runc and crun are found automatically', {
    key: 'runtimes',
  }),
  option(
    '--exec-opt NAME=VALUE',
    'list',
    'native.cgroupdriver=cgroupfs or systemd (default: systemd on a systemd host with cgroup v2, else cgroupfs)',
    { key: 'exec-opts' },
  ),
  option(
    '--cgroup-parent CGROUP',
    'string',
    'Parent cgroup of the containers (default /holdfast, or holdfast.slice under systemd)',
  ),
  option('--default-ulimit NAME=SOFT[:HARD]', 'ulimits', 'Default ulimit of containers', { key: 'default-ulimits' }),
  option('--default-shm-size BYTES', 'bytes', 'Default size of /dev/shm in containers (default 64M)'),
  option(
    '--default-cgroupns-mode MODE',
    'string',
    'Default cgroup namespace: host or private (default: private on v2)',
  ),
  option('--default-ipc-mode MODE', 'string', 'Default IPC namespace: private or shareable (default private)'),
  option('--init', 'boolean', 'Run an init process in containers by default'),
  option('--init-path FILE', 'string', 'Init of docker run --init (default: tini or catatonit, if installed)'),
  option(
    '--seccomp-profile FILE',
    'string',
    'Default seccomp profile, or "unconfined" (default /usr/share/containers/seccomp.json)',
  ),
  option('--no-new-privileges', 'boolean', 'Set no_new_privs in containers by default'),
  option('--log-driver NAME', 'string', 'Default log driver: json-file or none (default json-file)'),
  option('--log-opt NAME=VALUE', 'map', 'Default option of the log driver: max-size, max-file, labels, env, tag, …', {
    key: 'log-opts',
  }),

  option('--bip CIDR', 'string', 'Address and subnet of the default bridge (default 10.77.0.1/16)'),
  option('-b, --bridge NAME', 'string', "The default bridge's interface name (default holdfast0)"),
  option(
    '--default-address-pool base=CIDR,size=BITS',
    'pools',
    'Pool of subnets for new networks (default base=10.78.0.0/15,size=24)',
    { key: 'default-address-pools' },
  ),
  option('--dns ADDRESS', 'list', "DNS server of containers (default: the host's)"),
  option('--dns-opt OPTION', 'list', 'resolv.conf option of containers', { key: 'dns-opts' }),
  option('--dns-search DOMAIN', 'list', 'DNS search domain of containers'),
  option('--ip ADDRESS', 'string', 'Host address that ports are published on (default: all)'),
  option('--mtu BYTES', 'integer', 'MTU of the default bridge (default 1500)'),
  option('--iptables', 'boolean', 'Manage firewall rules (default true)'),

  option('--registry-mirror URL', 'list', 'Mirror of Docker Hub, tried first', { key: 'registry-mirrors' }),
  option(
    '--insecure-registry HOST[:PORT]',
    'list',
    'Registry, or CIDR of registries, that may be used without verified TLS',
    { key: 'insecure-registries' },
  ),
  option(
    '--registry-certs DIR',
    'string',
    'Has a directory HOST[:PORT] per registry: its CAs (*.crt), client certificates (*.cert, *.key) (default /etc/holdfast/certs.d)',
  ),
  option('--max-concurrent-downloads N', 'integer', 'Layers downloaded in parallel (default 3)'),
  option('--max-concurrent-uploads N', 'integer', 'Layers uploaded in parallel (default 5)'),
  option('--max-download-attempts N', 'integer', 'Attempts at a download that makes no progress (default 5)'),
  option('-s, --storage-driver NAME', 'string', 'Only overlay2 is supported'),
];

export const options: readonly Option[] = [...ownOptions, ...dockerOptions];
