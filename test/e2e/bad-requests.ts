/** Requests that must be refused, for the comparison with a dockerd in the same run (parity.test.ts). */

export interface BadRequest {
  name: string;
  method: string;
  path: string;
  body?: unknown;
  /** Sent as it is, instead of JSON. */
  raw?: string;
  headers?: Record<string, string>;
}

const json = { 'Content-Type': 'application/json' };
const create = (name: string, body: unknown, query = ''): BadRequest => ({ name: `create: ${name}`, method: 'POST', path: `/containers/create${query}`, body });
const host = (name: string, hostConfig: Record<string, unknown>): BadRequest => create(name, { Image: 'busybox', Cmd: ['true'], HostConfig: hostConfig });
const config = (name: string, fields: Record<string, unknown>): BadRequest => create(name, { Image: 'busybox', Cmd: ['true'], ...fields });
const post = (path: string, body?: unknown): BadRequest => ({ name: `POST ${path}${body === undefined ? '' : ` ${JSON.stringify(body)}`}`, method: 'POST', path, body });
const get = (path: string): BadRequest => ({ name: `GET ${path}`, method: 'GET', path });
const del = (path: string): BadRequest => ({ name: `DELETE ${path}`, method: 'DELETE', path });

/** `running`, `stopped` and `paused` are containers of these names; `busybox` is an image. `{running}` stands for its id. */
export const badRequests: BadRequest[] = [
  // Paths and versions
  get('/nope'), get('/containers/running/nope'), post('/_ping'), del('/info'), get('/v1.99/info'), get('/v1.12/info'), get('/v1.99/nope'),
  get('/containers/json/'), { name: 'PATCH', method: 'PATCH', path: '/containers/running' },
  // Containers that are not there
  get('/containers/missing/json'), get('/containers/missing/logs?stdout=1'), get('/containers/missing/top'), get('/containers/missing/stats?stream=0'),
  post('/containers/missing/start'), post('/containers/missing/stop'), post('/containers/missing/kill'), post('/containers/missing/restart'),
  post('/containers/missing/pause'), post('/containers/missing/unpause'), post('/containers/missing/wait'), post('/containers/missing/rename?name=other'),
  post('/containers/missing/resize?h=10&w=10'), post('/containers/missing/update', {}), post('/containers/missing/exec', { Cmd: ['true'] }),
  del('/containers/missing'), get('/exec/missing/json'), post('/exec/missing/start', { Detach: true }), post('/exec/missing/resize?h=1&w=1'),
  // Wrong state
  post('/containers/stopped/pause'), post('/containers/stopped/unpause'), post('/containers/running/unpause'), post('/containers/paused/pause'),
  post('/containers/stopped/kill'), post('/containers/stopped/resize?h=10&w=10'), post('/containers/paused/start'), del('/containers/running'), del('/containers/paused'),
  get('/containers/stopped/top'), post('/containers/stopped/exec', { Cmd: ['true'] }), post('/containers/paused/exec', { Cmd: ['true'] }),
  // Parameters
  get('/containers/running/logs'), get('/containers/running/logs?stdout=0&stderr=0'), get('/containers/running/logs?stdout=1&since=abc'),
  get('/containers/running/logs?stdout=1&until=abc'), get('/containers/json?filters=nonsense'), get('/containers/json?filters={"foo":["bar"]}'),
  get('/containers/json?filters={"status":["nope"]}'), get('/containers/json?filters={"exited":["x"]}'), get('/containers/json?filters={"before":["missing"]}'),
  get('/containers/json?filters={"since":["missing"]}'), get('/containers/json?limit=abc'), get('/containers/json?filters={"health":["nope"]}'),
  get('/containers/json?filters={"is-task":["maybe"]}'), get('/containers/json?filters={"publish":["x"]}'), get('/containers/json?filters={"network":["missing"],"foo":["x"]}'),
  post('/containers/running/kill?signal=SIG42'), post('/containers/running/kill?signal=0x'), post('/containers/running/resize?h=abc&w=10'),
  post('/containers/running/resize?h=10&w=abc'), post('/containers/running/resize'), post('/containers/running/resize?h=-100&w=10'),
  post('/containers/running/stop?t=abc'), post('/containers/running/restart?t=abc'), post('/containers/stopped/wait?condition=never'),
  post('/containers/running/rename?name='), post('/containers/running/rename?name=running'), post('/containers/running/rename?name=stopped'),
  post('/containers/running/rename?name=x%20y'), post('/containers/running/rename'), get('/containers/running/top?ps_args=-o%20comm'),
  post('/containers/running/exec', { Cmd: [] }), post('/containers/running/exec', {}), post('/containers/running/exec', { Cmd: ['true'], User: 'nobody-of-that-name' }),
  post('/containers/running/exec', { Cmd: ['true'], DetachKeys: 'nonsense-keys' }), get('/events?since=abc'), get('/events?filters=nonsense'), get('/events?since=20&until=10'),
  // Bodies
  { name: 'create: no body', method: 'POST', path: '/containers/create', headers: json, raw: '' },
  { name: 'create: not JSON', method: 'POST', path: '/containers/create', headers: json, raw: '{' },
  { name: 'create: two documents', method: 'POST', path: '/containers/create', headers: json, raw: '{"Image":"busybox"}{"Image":"busybox"}' },
  { name: 'create: null', method: 'POST', path: '/containers/create', headers: json, raw: 'null' },
  { name: 'create: text', method: 'POST', path: '/containers/create', headers: { 'Content-Type': 'text/plain' }, raw: '{"Image":"busybox"}' },
  { name: 'create: wrong type', method: 'POST', path: '/containers/create', headers: json, raw: '{"Image":"busybox","Tty":"yes"}' },
  { name: 'create: number for a string', method: 'POST', path: '/containers/create', headers: json, raw: '{"Image":5}' },
  { name: 'create: object for a list', method: 'POST', path: '/containers/create', headers: json, raw: '{"Image":"busybox","Env":{}}' },
  { name: 'exec: not JSON', method: 'POST', path: '/containers/running/exec', headers: json, raw: 'nonsense' },
  { name: 'exec: text', method: 'POST', path: '/containers/running/exec', headers: { 'Content-Type': 'text/plain' }, raw: '{}' },
  { name: 'update: text', method: 'POST', path: '/containers/running/update', headers: { 'Content-Type': 'text/plain' }, raw: '{}' },
  { name: 'start: with a body', method: 'POST', path: '/containers/stopped/start', headers: json, raw: '{"Binds":["/a:/b"]}' },
  // Names and images
  create('empty', {}), create('missing image', { Image: 'missing-image' }), create('missing tag', { Image: 'busybox:missing' }), create('bad reference', { Image: 'UPPER/case' }),
  create('bad reference 2', { Image: 'a:b:c' }), create('name taken', { Image: 'busybox', Cmd: ['true'] }, '?name=running'), create('name of one letter', { Image: 'busybox', Cmd: ['true'] }, '?name=x'),
  create('name with a space', { Image: 'busybox', Cmd: ['true'] }, '?name=x%20y'), create('platform', { Image: 'busybox', Cmd: ['true'] }, '?platform=linux/arm64'),
  // HostConfig
  host('memory too small', { Memory: 1024 }), host('swap without memory', { MemorySwap: 100_000_000 }), host('swap below memory', { Memory: 100_000_000, MemorySwap: 50_000_000 }),
  host('reservation above memory', { Memory: 100_000_000, MemoryReservation: 200_000_000 }), host('swappiness', { MemorySwappiness: 200 }), host('cpus too many', { NanoCpus: 1_000_000_000_000 }),
  host('cpus negative', { NanoCpus: -1 }), host('cpus and quota', { NanoCpus: 1_000_000_000, CpuQuota: 50_000 }), host('cpu period', { CpuPeriod: 10 }), host('cpu quota', { CpuQuota: 10 }),
  host('cpuset', { CpusetCpus: 'x' }), host('cpuset not available', { CpusetCpus: '900' }), host('mems', { CpusetMems: 'x' }), host('blkio weight', { BlkioWeight: 5 }),
  host('oom score', { OomScoreAdj: 5000 }), host('restart policy', { RestartPolicy: { Name: 'sometimes' } }), host('restart with rm', { AutoRemove: true, RestartPolicy: { Name: 'always' } }),
  host('retries of always', { RestartPolicy: { Name: 'always', MaximumRetryCount: 3 } }), host('negative retries', { RestartPolicy: { Name: 'on-failure', MaximumRetryCount: -1 } }),
  host('runtime', { Runtime: 'missing' }), host('log driver', { LogConfig: { Type: 'missing' } }), host('log option', { LogConfig: { Type: 'json-file', Config: { nope: '1' } } }),
  host('log max-size', { LogConfig: { Type: 'json-file', Config: { 'max-size': 'x' } } }), host('bind without target', { Binds: ['/etc'] }), host('bind relative', { Binds: ['/etc:relative'] }),
  host('bind onto root', { Binds: ['/etc:/'] }), host('bind mode', { Binds: ['/etc:/x:nope'] }), host('bind twice', { Binds: ['/etc:/x', '/usr:/x'] }), host('volume name', { Binds: ['a$b:/x'] }),
  host('mount type', { Mounts: [{ Type: 'nope', Target: '/x' }] }), host('mount without source', { Mounts: [{ Type: 'bind', Target: '/x' }] }), host('mount of nothing', { Mounts: [{ Type: 'bind', Source: '/not/there', Target: '/x' }] }),
  host('mount without target', { Mounts: [{ Type: 'tmpfs' }] }), host('tmpfs with source', { Mounts: [{ Type: 'tmpfs', Source: '/etc', Target: '/x' }] }), host('tmpfs option', { Tmpfs: { '/x': 'nope' } }),
  host('security option', { SecurityOpt: ['nope'] }), host('seccomp profile', { SecurityOpt: ['seccomp={'] }), host('pid mode', { PidMode: 'nope' }), host('ipc mode', { IpcMode: 'nope' }),
  host('uts mode', { UTSMode: 'nope' }), host('userns mode', { UsernsMode: 'nope' }), host('cgroupns mode', { CgroupnsMode: 'nope' }), host('shm size', { ShmSize: -1 }),
  host('volumes from a missing container', { VolumesFrom: ['missing'] }), host('ports of host network', { NetworkMode: 'container:running', PortBindings: { '80/tcp': [{ HostPort: '80' }] } }),
  host('port key', { PortBindings: { 'x/tcp': [{ HostPort: '80' }] } }), host('port protocol', { PortBindings: { '80/nope': [{ HostPort: '80' }] } }), host('host port', { PortBindings: { '80/tcp': [{ HostPort: '99999' }] } }),
  host('extra host', { ExtraHosts: ['nocolon'] }), host('dns', { Dns: ['nonsense'] }), host('capability', { CapAdd: ['NOPE'] }), host('ulimit', { Ulimits: [{ Name: 'nope', Soft: 1, Hard: 1 }] }),
  host('links', { Links: ['missing:alias'] }), host('device cgroup rule', { DeviceCgroupRules: ['nope'] }), host('storage option', { StorageOpt: { size: '10G' } }), host('isolation', { Isolation: 'hyperv' }),
  host('static address', { NetworkMode: 'bridge' }),
  // Config
  config('stop signal', { StopSignal: 'NOPE' }), config('relative workdir', { WorkingDir: 'relative' }), config('hostname', { Hostname: 'not a name' }), config('exposed port', { ExposedPorts: { 'x/tcp': {} } }),
  config('health interval', { Healthcheck: { Test: ['CMD', 'true'], Interval: 100 } }), config('health timeout', { Healthcheck: { Test: ['CMD', 'true'], Timeout: 100 } }),
  config('health retries', { Healthcheck: { Test: ['CMD', 'true'], Retries: -1 } }), config('env', { Env: ['=x'] }), config('mac address', { MacAddress: 'nope' }),
  create('no command', { Image: 'bare' }),
  // Images, networks, volumes
  get('/images/missing/json'), get('/images/missing/history'), del('/images/missing'), post('/images/missing/tag?repo=x'), post('/images/busybox/tag?repo=UPPER'), post('/images/busybox/tag?repo='),
  get('/images/json?filters={"foo":["x"]}'), get('/images/json?filters={"dangling":["maybe"]}'), post('/images/create'), post('/images/create?fromSrc=-&repo=UPPER'), del('/images/busybox'),
  get('/networks/missing'), get('/networks?filters={"foo":["x"]}'), get('/volumes/missing'), del('/volumes/missing'), get('/volumes?filters={"foo":["x"]}'), post('/volumes/create', { Name: 'a' }), post('/volumes/create', { Name: 'x', Driver: 'missing' }),
];
