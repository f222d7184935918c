/** Where Holdfast intentionally answers a bad request differently from Debian's dockerd 20.10, and why. */
export interface Difference {
  status: number;
  message: string | RegExp;
  reason: string;
}

const MESSAGE = 'the same refusal with the message of Docker 28, whose API version Holdfast announces';
const STATUS =
  '20.10 returns an untyped error as status 500 or a wrong status; Docker 28 returns this status and message';
const ACCEPTED =
  '20.10 accepts the mistake and fails later or never; Holdfast refuses it at once, as Docker 28 does in most cases';
const OLDEST = '20.10 still serves API 1.12; the oldest version that Holdfast serves is 1.24, as in Docker 28';
const NEWEST = '1.41 is the newest API version of 20.10';
const DOMAIN = 'Docker 28 takes an upper-case first component for a registry (distribution/reference)';
const SOURCE = '20.10 tries to fetch the empty URL; Holdfast refuses it as an invalid reference';

/** Keyed by the name of the request in bad-requests.ts. */
export const differences: Record<string, Difference> = {
  'GET /v1.99/info': {
    status: 400,
    message: 'client version 1.99 is too new. Maximum supported API version is 1.51',
    reason: NEWEST,
  },
  'GET /v1.12/info': {
    status: 400,
    message:
      'client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version',
    reason: OLDEST,
  },
  'POST /containers/missing/kill': {
    status: 404,
    message: 'cannot kill container: missing: No such container: missing',
    reason: MESSAGE,
  },
  'POST /containers/stopped/pause': { status: 409, message: 'container <id> is not running', reason: MESSAGE },
  'POST /containers/paused/pause': { status: 409, message: 'container <id> is already paused', reason: MESSAGE },
  'POST /containers/stopped/kill': {
    status: 409,
    message: 'cannot kill container: stopped: container <id> is not running',
    reason: MESSAGE,
  },
  'DELETE /containers/running': {
    status: 409,
    message:
      'cannot remove container "running": container is running: stop the container before removing or force remove',
    reason: MESSAGE,
  },
  'DELETE /containers/paused': {
    status: 409,
    message: 'cannot remove container "paused": container is paused and must be unpaused first',
    reason: MESSAGE,
  },
  'GET /containers/running/logs?stdout=1&since=abc': {
    status: 400,
    message: 'invalid value for "since": strconv.ParseInt: parsing "abc": invalid syntax',
    reason: STATUS,
  },
  'GET /containers/running/logs?stdout=1&until=abc': {
    status: 400,
    message: 'invalid value for "until": strconv.ParseInt: parsing "abc": invalid syntax',
    reason: STATUS,
  },
  'GET /containers/json?filters=nonsense': { status: 400, message: 'invalid filter', reason: STATUS },
  'GET /containers/json?filters={"foo":["bar"]}': { status: 400, message: "invalid filter 'foo'", reason: MESSAGE },
  'GET /containers/json?filters={"status":["nope"]}': {
    status: 400,
    message:
      "invalid filter 'status=nope': invalid value for state (nope): must be one of created, running, paused, restarting, removing, exited, dead",
    reason: MESSAGE,
  },
  'GET /containers/json?filters={"exited":["x"]}': {
    status: 400,
    message: 'invalid filter \'exited=x\': strconv.Atoi: parsing "x": invalid syntax',
    reason: STATUS,
  },
  'GET /containers/json?filters={"before":["missing"]}': {
    status: 404,
    message: 'No such container: missing',
    reason: STATUS,
  },
  'GET /containers/json?limit=abc': {
    status: 400,
    message: 'strconv.Atoi: parsing "abc": invalid syntax',
    reason: STATUS,
  },
  'GET /containers/json?filters={"health":["nope"]}': {
    status: 400,
    message:
      "invalid filter 'health=nope': invalid value for health (nope): must be one of starting, healthy, unhealthy, none",
    reason: MESSAGE,
  },
  'GET /containers/json?filters={"is-task":["maybe"]}': {
    status: 400,
    message: "invalid filter 'is-task=[maybe]'",
    reason: MESSAGE,
  },
  'GET /containers/json?filters={"publish":["x"]}': {
    status: 400,
    message: 'error while looking up for publish x: invalid port',
    reason: STATUS,
  },
  'POST /containers/running/kill?signal=SIG42': {
    status: 400,
    message: 'cannot kill container: running: invalid signal: SIG42',
    reason: MESSAGE,
  },
  'POST /containers/running/kill?signal=0x': {
    status: 400,
    message: 'cannot kill container: running: invalid signal: 0x',
    reason: MESSAGE,
  },
  'POST /containers/running/resize?h=abc&w=10': {
    status: 400,
    message: 'invalid resize height "abc": invalid syntax',
    reason: MESSAGE,
  },
  'POST /containers/running/resize?h=10&w=abc': {
    status: 400,
    message: 'invalid resize width "abc": invalid syntax',
    reason: MESSAGE,
  },
  'POST /containers/running/resize': {
    status: 400,
    message: 'invalid resize height "": invalid syntax',
    reason: MESSAGE,
  },
  'POST /containers/running/resize?h=-100&w=10': {
    status: 400,
    message: 'invalid resize height "-100": value out of range',
    reason: ACCEPTED,
  },
  'GET /containers/running/top?ps_args=-o%20comm': {
    status: 400,
    message: "couldn't find PID field in ps output",
    reason: STATUS,
  },
  'POST /containers/running/exec {"Cmd":["true"],"User":"nobody-of-that-name"}': {
    status: 400,
    message: 'unable to find user nobody-of-that-name: no matching entries in passwd file',
    reason: ACCEPTED,
  },
  'create: no body': { status: 400, message: 'invalid JSON: EOF', reason: STATUS },
  'create: not JSON': { status: 400, message: 'invalid JSON: unexpected EOF', reason: STATUS },
  'create: two documents': { status: 400, message: 'unexpected content after JSON', reason: MESSAGE },
  'create: null': { status: 400, message: 'config cannot be empty in order to create a container', reason: MESSAGE },
  'create: text instead of JSON': {
    status: 400,
    message: "unsupported Content-Type header (text/plain): must be 'application/json'",
    reason: MESSAGE,
  },
  'create: wrong type': {
    status: 400,
    message: 'invalid JSON: json: cannot unmarshal string into Go struct field CreateRequest.Tty of type bool',
    reason: STATUS,
  },
  'create: number for a string': {
    status: 400,
    message: 'invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.Image of type string',
    reason: STATUS,
  },
  'create: object for a list': {
    status: 400,
    message: 'invalid JSON: json: cannot unmarshal object into Go struct field CreateRequest.Env of type []string',
    reason: STATUS,
  },
  'exec: not JSON': {
    status: 400,
    message: "invalid JSON: invalid character 'o' in literal null (expecting 'u')",
    reason: MESSAGE,
  },
  'create: bad reference': { status: 404, message: 'No such image: UPPER/case:latest', reason: DOMAIN },
  'create: platform': {
    status: 404,
    message:
      'image with reference busybox was found but its platform (linux/amd64) does not match the specified platform (linux/arm64)',
    reason: MESSAGE,
  },
  'create: cpus too many': { status: 400, message: /^range of CPUs is from 0\.01 to /, reason: MESSAGE },
  'create: restart policy': {
    status: 400,
    message:
      "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
    reason: MESSAGE,
  },
  'create: retries of always': {
    status: 400,
    message: "invalid restart policy: maximum retry count can only be used with 'on-failure'",
    reason: MESSAGE,
  },
  'create: negative retries': {
    status: 400,
    message: 'invalid restart policy: maximum retry count cannot be negative',
    reason: MESSAGE,
  },
  'create: runtime': { status: 400, message: 'unknown or invalid runtime name: missing', reason: MESSAGE },
  'create: log max-size': { status: 400, message: "invalid size: 'x'", reason: ACCEPTED },
  'create: bind relative': {
    status: 400,
    message:
      "invalid volume specification: '/etc:relative': invalid mount config for type \"bind\": invalid mount path: 'relative' mount path must be absolute",
    reason: STATUS,
  },
  'create: bind onto root': {
    status: 400,
    message:
      "invalid volume specification: '/etc:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
    reason: STATUS,
  },
  'create: bind mode': { status: 400, message: 'invalid mode: nope', reason: STATUS },
  'create: tmpfs option': { status: 400, message: 'invalid tmpfs option ["nope"]', reason: ACCEPTED },
  'create: security option': { status: 400, message: 'invalid --security-opt 1: "nope"', reason: STATUS },
  'create: seccomp profile': { status: 400, message: /^Decoding seccomp profile failed: /, reason: ACCEPTED },
  'create: pid mode': { status: 400, message: 'invalid PID mode: nope', reason: ACCEPTED },
  'create: ipc mode': { status: 400, message: 'invalid IPC mode: nope', reason: ACCEPTED },
  'create: uts mode': { status: 400, message: 'invalid UTS mode: nope', reason: ACCEPTED },
  'create: userns mode': { status: 400, message: 'invalid USER mode: nope', reason: ACCEPTED },
  'create: port protocol': { status: 400, message: 'invalid proto: nope', reason: ACCEPTED },
  'create: dns': { status: 400, message: 'IP address is not correctly formatted: nonsense', reason: ACCEPTED },
  'create: ulimit': { status: 400, message: 'invalid ulimit type: nope', reason: ACCEPTED },
  'create: device cgroup rule': { status: 400, message: "invalid device cgroup rule format: 'nope'", reason: ACCEPTED },
  'create: storage option': {
    status: 400,
    message: "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
    reason: STATUS,
  },
  'create: isolation': {
    status: 400,
    message: "invalid isolation (hyperv): linux only supports 'default'",
    reason: STATUS,
  },
  'create: stop signal': { status: 400, message: 'invalid signal: NOPE', reason: MESSAGE },
  'create: hostname': { status: 400, message: 'invalid hostname format: not a name', reason: ACCEPTED },
  'create: exposed port': { status: 400, message: 'invalid port specification: "x"', reason: ACCEPTED },
  'create: mac address': { status: 400, message: 'invalid MAC address: nope', reason: ACCEPTED },
  'create: no command': { status: 400, message: 'no command specified', reason: MESSAGE },
  'GET /images/missing/json': { status: 404, message: 'No such image: missing:latest', reason: MESSAGE },
  'POST /images/busybox/tag?repo=UPPER': {
    status: 400,
    message: 'invalid reference format: repository name (library/UPPER) must be lowercase',
    reason: STATUS,
  },
  'POST /images/busybox/tag?repo=': { status: 400, message: 'invalid reference format', reason: STATUS },
  'GET /images/json?filters={"dangling":["maybe"]}': {
    status: 400,
    message: "invalid filter 'dangling=[maybe]'",
    reason: MESSAGE,
  },
  'POST /images/create': { status: 400, message: 'invalid reference format', reason: SOURCE },
  'POST /images/create?fromSrc=-&repo=UPPER': {
    status: 400,
    message: 'invalid reference format: repository name (library/UPPER) must be lowercase',
    reason: MESSAGE,
  },
  'POST /containers/stopped/wait?condition=never': {
    status: 400,
    message: 'invalid condition: "never"',
    reason: ACCEPTED,
  },
  'POST /containers/stopped/resize?h=10&w=10': {
    status: 409,
    message: 'container <id> is not running',
    reason: MESSAGE,
  },
  'GET /containers/stopped/top': { status: 409, message: 'container <id> is not running', reason: MESSAGE },
  'POST /containers/stopped/exec {"Cmd":["true"]}': {
    status: 409,
    message: 'container <id> is not running',
    reason: MESSAGE,
  },
  'GET /containers/json?filters={"since":["missing"]}': {
    status: 404,
    message: 'No such container: missing',
    reason: STATUS,
  },
  'GET /containers/json?filters={"network":["missing"],"foo":["x"]}': {
    status: 400,
    message: "invalid filter 'foo'",
    reason: MESSAGE,
  },
  'GET /images/json?filters={"foo":["x"]}': { status: 400, message: "invalid filter 'foo'", reason: MESSAGE },
  'GET /networks?filters={"foo":["x"]}': { status: 400, message: "invalid filter 'foo'", reason: MESSAGE },
  'GET /volumes?filters={"foo":["x"]}': { status: 400, message: "invalid filter 'foo'", reason: MESSAGE },
  'POST /containers/running/stop?t=abc': {
    status: 400,
    message: 'strconv.Atoi: parsing "abc": invalid syntax',
    reason: STATUS,
  },
  'POST /containers/running/restart?t=abc': {
    status: 400,
    message: 'strconv.Atoi: parsing "abc": invalid syntax',
    reason: STATUS,
  },
  'GET /events?since=abc': {
    status: 400,
    message: 'invalid value for "since": strconv.ParseInt: parsing "abc": invalid syntax',
    reason: STATUS,
  },
  'GET /events?filters=nonsense': { status: 400, message: 'invalid filter', reason: STATUS },
  'exec: text instead of JSON': {
    status: 400,
    message: "unsupported Content-Type header (text/plain): must be 'application/json'",
    reason: MESSAGE,
  },
  'update: text instead of JSON': {
    status: 400,
    message: "unsupported Content-Type header (text/plain): must be 'application/json'",
    reason: MESSAGE,
  },
  'create: empty': { status: 400, message: 'config cannot be empty in order to create a container', reason: MESSAGE },
  'create: cpus negative': { status: 400, message: /^range of CPUs is from 0\.01 to /, reason: MESSAGE },
};
