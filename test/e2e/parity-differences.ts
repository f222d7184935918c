/** Where Holdfast answers a bad request otherwise than Debian's dockerd 20.10, and why. */
export interface Difference {
  status: number;
  message: string | RegExp;
  reason: string;
}

const WORDS = 'the same refusal in the words of newer engines (28), whose API is announced here';
const CLASS =
  'an untyped error in 20.10, hence a 500 (or another class); newer engines give the class that it is, in their words';
const EARLY =
  '20.10 accepts it, and fails later or never; it is refused at once, as newer engines do or as the mistake that it is';
const OLDEST = '20.10 still serves API 1.12; the oldest here is 1.24, as in newer engines';
const NEWEST = '1.41 is the newest API of 20.10';
const DOMAIN = 'newer engines take an upper-case first component for a registry (distribution/reference)';
const SOURCE = '20.10 tries to fetch the empty URL; there is nothing to import from';

/** By the request's name. */
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
    reason: WORDS,
  },
  'POST /containers/stopped/pause': { status: 409, message: 'container <id> is not running', reason: WORDS },
  'POST /containers/paused/pause': { status: 409, message: 'container <id> is already paused', reason: WORDS },
  'POST /containers/stopped/kill': {
    status: 409,
    message: 'cannot kill container: stopped: container <id> is not running',
    reason: WORDS,
  },
  'DELETE /containers/running': {
    status: 409,
    message:
      'cannot remove container "running": container is running: stop the container before removing or force remove',
    reason: WORDS,
  },
  'DELETE /containers/paused': {
    status: 409,
    message: 'cannot remove container "paused": container is paused and must be unpaused first',
    reason: WORDS,
  },
  'GET /containers/running/logs?stdout=1&since=abc': {
    status: 400,
    message: 'invalid value for "since": strconv.ParseInt: parsing "abc": invalid syntax',
    reason: CLASS,
  },
  'GET /containers/running/logs?stdout=1&until=abc': {
    status: 400,
    message: 'invalid value for "until": strconv.ParseInt: parsing "abc": invalid syntax',
    reason: CLASS,
  },
  'GET /containers/json?filters=nonsense': { status: 400, message: 'invalid filter', reason: CLASS },
  'GET /containers/json?filters={"foo":["bar"]}': { status: 400, message: "invalid filter 'foo'", reason: WORDS },
  'GET /containers/json?filters={"status":["nope"]}': {
    status: 400,
    message:
      "invalid filter 'status=nope': invalid value for state (nope): must be one of created, running, paused, restarting, removing, exited, dead",
    reason: WORDS,
  },
  'GET /containers/json?filters={"exited":["x"]}': {
    status: 400,
    message: 'invalid filter \'exited=x\': strconv.Atoi: parsing "x": invalid syntax',
    reason: CLASS,
  },
  'GET /containers/json?filters={"before":["missing"]}': {
    status: 404,
    message: 'No such container: missing',
    reason: CLASS,
  },
  'GET /containers/json?limit=abc': {
    status: 400,
    message: 'strconv.Atoi: parsing "abc": invalid syntax',
    reason: CLASS,
  },
  'GET /containers/json?filters={"health":["nope"]}': {
    status: 400,
    message:
      "invalid filter 'health=nope': invalid value for health (nope): must be one of starting, healthy, unhealthy, none",
    reason: WORDS,
  },
  'GET /containers/json?filters={"is-task":["maybe"]}': {
    status: 400,
    message: "invalid filter 'is-task=[maybe]'",
    reason: WORDS,
  },
  'GET /containers/json?filters={"publish":["x"]}': {
    status: 400,
    message: 'error while looking up for publish x: invalid port',
    reason: CLASS,
  },
  'POST /containers/running/kill?signal=SIG42': {
    status: 400,
    message: 'cannot kill container: running: invalid signal: SIG42',
    reason: WORDS,
  },
  'POST /containers/running/kill?signal=0x': {
    status: 400,
    message: 'cannot kill container: running: invalid signal: 0x',
    reason: WORDS,
  },
  'POST /containers/running/resize?h=abc&w=10': {
    status: 400,
    message: 'invalid resize height "abc": invalid syntax',
    reason: WORDS,
  },
  'POST /containers/running/resize?h=10&w=abc': {
    status: 400,
    message: 'invalid resize width "abc": invalid syntax',
    reason: WORDS,
  },
  'POST /containers/running/resize': {
    status: 400,
    message: 'invalid resize height "": invalid syntax',
    reason: WORDS,
  },
  'POST /containers/running/resize?h=-100&w=10': {
    status: 400,
    message: 'invalid resize height "-100": value out of range',
    reason: EARLY,
  },
  'GET /containers/running/top?ps_args=-o%20comm': {
    status: 400,
    message: "couldn't find PID field in ps output",
    reason: CLASS,
  },
  'POST /containers/running/exec {"Cmd":["true"],"User":"nobody-of-that-name"}': {
    status: 400,
    message: 'unable to find user nobody-of-that-name: no matching entries in passwd file',
    reason: EARLY,
  },
  'create: no body': { status: 400, message: 'invalid JSON: EOF', reason: CLASS },
  'create: not JSON': { status: 400, message: 'invalid JSON: unexpected EOF', reason: CLASS },
  'create: two documents': { status: 400, message: 'unexpected content after JSON', reason: WORDS },
  'create: null': { status: 400, message: 'config cannot be empty in order to create a container', reason: WORDS },
  'create: text': {
    status: 400,
    message: "unsupported Content-Type header (text/plain): must be 'application/json'",
    reason: WORDS,
  },
  'create: wrong type': {
    status: 400,
    message: 'invalid JSON: json: cannot unmarshal string into Go struct field CreateRequest.Tty of type bool',
    reason: CLASS,
  },
  'create: number for a string': {
    status: 400,
    message: 'invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.Image of type string',
    reason: CLASS,
  },
  'create: object for a list': {
    status: 400,
    message: 'invalid JSON: json: cannot unmarshal object into Go struct field CreateRequest.Env of type []string',
    reason: CLASS,
  },
  'exec: not JSON': {
    status: 400,
    message: "invalid JSON: invalid character 'o' in literal null (expecting 'u')",
    reason: WORDS,
  },
  'create: bad reference': { status: 404, message: 'No such image: UPPER/case:latest', reason: DOMAIN },
  'create: platform': {
    status: 404,
    message:
      'image with reference busybox was found but its platform (linux/amd64) does not match the specified platform (linux/arm64)',
    reason: WORDS,
  },
  'create: cpus too many': { status: 400, message: /^range of CPUs is from 0\.01 to /, reason: WORDS },
  'create: restart policy': {
    status: 400,
    message:
      "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
    reason: WORDS,
  },
  'create: retries of always': {
    status: 400,
    message: "invalid restart policy: maximum retry count can only be used with 'on-failure'",
    reason: WORDS,
  },
  'create: negative retries': {
    status: 400,
    message: 'invalid restart policy: maximum retry count cannot be negative',
    reason: WORDS,
  },
  'create: runtime': { status: 400, message: 'unknown or invalid runtime name: missing', reason: WORDS },
  'create: log max-size': { status: 400, message: "invalid size: 'x'", reason: EARLY },
  'create: bind relative': {
    status: 400,
    message:
      "invalid volume specification: '/etc:relative': invalid mount config for type \"bind\": invalid mount path: 'relative' mount path must be absolute",
    reason: CLASS,
  },
  'create: bind onto root': {
    status: 400,
    message:
      "invalid volume specification: '/etc:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
    reason: CLASS,
  },
  'create: bind mode': { status: 400, message: 'invalid mode: nope', reason: CLASS },
  'create: tmpfs option': { status: 400, message: 'invalid tmpfs option ["nope"]', reason: EARLY },
  'create: security option': { status: 400, message: 'invalid --security-opt 1: "nope"', reason: CLASS },
  'create: seccomp profile': { status: 400, message: /^Decoding seccomp profile failed: /, reason: EARLY },
  'create: pid mode': { status: 400, message: 'invalid PID mode: nope', reason: EARLY },
  'create: ipc mode': { status: 400, message: 'invalid IPC mode: nope', reason: EARLY },
  'create: uts mode': { status: 400, message: 'invalid UTS mode: nope', reason: EARLY },
  'create: userns mode': { status: 400, message: 'invalid USER mode: nope', reason: EARLY },
  'create: port protocol': { status: 400, message: 'invalid proto: nope', reason: EARLY },
  'create: dns': { status: 400, message: 'IP address is not correctly formatted: nonsense', reason: EARLY },
  'create: ulimit': { status: 400, message: 'invalid ulimit type: nope', reason: EARLY },
  'create: device cgroup rule': { status: 400, message: "invalid device cgroup rule format: 'nope'", reason: EARLY },
  'create: storage option': {
    status: 400,
    message: "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
    reason: CLASS,
  },
  'create: isolation': {
    status: 400,
    message: "invalid isolation (hyperv): linux only supports 'default'",
    reason: CLASS,
  },
  'create: stop signal': { status: 400, message: 'invalid signal: NOPE', reason: WORDS },
  'create: hostname': { status: 400, message: 'invalid hostname format: not a name', reason: EARLY },
  'create: exposed port': { status: 400, message: 'invalid port specification: "x"', reason: EARLY },
  'create: mac address': { status: 400, message: 'invalid MAC address: nope', reason: EARLY },
  'create: no command': { status: 400, message: 'no command specified', reason: WORDS },
  'GET /images/missing/json': { status: 404, message: 'No such image: missing:latest', reason: WORDS },
  'POST /images/busybox/tag?repo=UPPER': {
    status: 400,
    message: 'invalid reference format: repository name (library/UPPER) must be lowercase',
    reason: CLASS,
  },
  'POST /images/busybox/tag?repo=': { status: 400, message: 'invalid reference format', reason: CLASS },
  'GET /images/json?filters={"dangling":["maybe"]}': {
    status: 400,
    message: "invalid filter 'dangling=[maybe]'",
    reason: WORDS,
  },
  'POST /images/create': { status: 400, message: 'invalid reference format', reason: SOURCE },
  'POST /images/create?fromSrc=-&repo=UPPER': {
    status: 400,
    message: 'invalid reference format: repository name (library/UPPER) must be lowercase',
    reason: WORDS,
  },
  'POST /containers/stopped/wait?condition=never': {
    status: 400,
    message: 'invalid condition: "never"',
    reason: EARLY,
  },
  'POST /containers/stopped/resize?h=10&w=10': { status: 409, message: 'container <id> is not running', reason: WORDS },
  'GET /containers/stopped/top': { status: 409, message: 'container <id> is not running', reason: WORDS },
  'POST /containers/stopped/exec {"Cmd":["true"]}': {
    status: 409,
    message: 'container <id> is not running',
    reason: WORDS,
  },
  'GET /containers/json?filters={"since":["missing"]}': {
    status: 404,
    message: 'No such container: missing',
    reason: CLASS,
  },
  'GET /containers/json?filters={"network":["missing"],"foo":["x"]}': {
    status: 400,
    message: "invalid filter 'foo'",
    reason: WORDS,
  },
  'GET /images/json?filters={"foo":["x"]}': { status: 400, message: "invalid filter 'foo'", reason: WORDS },
  'GET /networks?filters={"foo":["x"]}': { status: 400, message: "invalid filter 'foo'", reason: WORDS },
  'GET /volumes?filters={"foo":["x"]}': { status: 400, message: "invalid filter 'foo'", reason: WORDS },
  'POST /containers/running/stop?t=abc': {
    status: 400,
    message: 'strconv.Atoi: parsing "abc": invalid syntax',
    reason: CLASS,
  },
  'POST /containers/running/restart?t=abc': {
    status: 400,
    message: 'strconv.Atoi: parsing "abc": invalid syntax',
    reason: CLASS,
  },
  'GET /events?since=abc': {
    status: 400,
    message: 'invalid value for "since": strconv.ParseInt: parsing "abc": invalid syntax',
    reason: CLASS,
  },
  'GET /events?filters=nonsense': { status: 400, message: 'invalid filter', reason: CLASS },
  'exec: text': {
    status: 400,
    message: "unsupported Content-Type header (text/plain): must be 'application/json'",
    reason: WORDS,
  },
  'update: text': {
    status: 400,
    message: "unsupported Content-Type header (text/plain): must be 'application/json'",
    reason: WORDS,
  },
  'create: empty': { status: 400, message: 'config cannot be empty in order to create a container', reason: WORDS },
  'create: cpus negative': { status: 400, message: /^range of CPUs is from 0\.01 to /, reason: WORDS },
};
