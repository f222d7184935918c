/** Whether an image's configuration has the types that it is read by. Whoever made the image wrote it; a label that is a number would break every client's list. */
import { InvalidParameter } from '../errors.ts';
import { parseRfc3339 } from './go-time.ts';

/** A field may be absent or null, as in Go, and fields that are not named may be anything. */
type Form = 'string' | 'bool' | 'int' | 'time' | { list: Form } | { map: Form } | { struct: Readonly<Record<string, Form>> };

const STRINGS: Form = { list: 'string' };
const SET: Form = { map: { struct: {} } };

const HEALTHCHECK: Form = { struct: { Test: STRINGS, Interval: 'int', Timeout: 'int', StartPeriod: 'int', StartInterval: 'int', Retries: 'int' } };

const CONFIG: Form = { struct: {
  Hostname: 'string', Domainname: 'string', User: 'string', AttachStdin: 'bool', AttachStdout: 'bool', AttachStderr: 'bool', ExposedPorts: SET, Tty: 'bool', OpenStdin: 'bool', StdinOnce: 'bool',
  Env: STRINGS, Cmd: STRINGS, Healthcheck: HEALTHCHECK, ArgsEscaped: 'bool', Image: 'string', Volumes: SET, WorkingDir: 'string', Entrypoint: STRINGS, NetworkDisabled: 'bool', MacAddress: 'string',
  OnBuild: STRINGS, Labels: { map: 'string' }, StopSignal: 'string', StopTimeout: 'int', Shell: STRINGS,
} };

const IMAGE: Form = { struct: {
  architecture: 'string', os: 'string', variant: 'string', 'os.version': 'string', 'os.features': STRINGS, created: 'time', author: 'string', comment: 'string', docker_version: 'string', container: 'string',
  container_config: CONFIG, config: CONFIG, history: { list: { struct: { created: 'time', created_by: 'string', author: 'string', comment: 'string', empty_layer: 'bool' } } },
} };

/** @throws InvalidParameter `invalid image JSON: cannot unmarshal number into config.Labels.a of type string` */
export function checkForm(config: unknown): void {
  check(config, IMAGE, []);
}

function check(value: unknown, form: Form, path: readonly string[]): void {
  if (value === null || value === undefined) return;
  if (typeof form === 'string') {
    if (!isScalar(value, form)) refuse(value, form, path);
  } else if ('list' in form) {
    if (!Array.isArray(value)) return refuse(value, 'list', path);
    // In Go an empty one: nobody here takes it for that.
    for (const item of value) {
      if (item === null) refuse(item, 'list without null', path);
      check(item, form.list, path);
    }
  } else {
    if (typeof value !== 'object' || Array.isArray(value)) return refuse(value, 'map' in form ? 'map' : 'struct', path);
    for (const [key, item] of Object.entries(value)) {
      const [name, inner] = 'map' in form ? [key, form.map] : fieldOf(form.struct, key) ?? [];
      if (name !== undefined && inner !== undefined) check(item, inner, [...path, name]);
    }
  }
}

/** In any case: so clients find it. */
const fieldOf = (struct: Readonly<Record<string, Form>>, key: string): [string, Form] | undefined =>
  Object.entries(struct).find(([name]) => name.toLowerCase() === key.toLowerCase());

function isScalar(value: unknown, form: 'string' | 'bool' | 'int' | 'time'): boolean {
  switch (form) {
    case 'bool': return typeof value === 'boolean';
    case 'int': return Number.isInteger(value);
    case 'string': return typeof value === 'string';
    case 'time': return typeof value === 'string' && (value === '' || parseRfc3339(value) !== undefined);
  }
}

function refuse(value: unknown, type: string, path: readonly string[]): never {
  throw new InvalidParameter(`invalid image JSON: cannot unmarshal ${Array.isArray(value) ? 'array' : typeof value} into ${path.join('.') || 'an image'} of type ${type}`);
}
