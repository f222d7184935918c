/**
 * Validates an image configuration as Docker does by decoding it with Go's encoding/json. The image's author controls
 * it; for example, a label that is a number would break every client's image list.
 */
import { InvalidParameter } from '../../model/errors.ts';
import { parseExactJson } from '../../protocol/exact-json.ts';
import { parseRfc3339 } from './go-time.ts';
import type { ImageConfig } from './image.ts';
import { isDigest } from './reference.ts';

/**
 * The expected type of a value. Any field may be absent or null, and unknown fields are ignored. `strslice`: a list of
 * strings or a single one (moby api/types/strslice).
 */
type Form =
  | 'string'
  | 'bool'
  | 'int'
  | 'time'
  | 'strslice'
  | { list: Form }
  | { map: Form }
  | { struct: Readonly<Record<string, Form>> };

const STRINGS: Form = { list: 'string' };
/** Go's map[string]struct{}. */
const SET: Form = { map: { struct: {} } };

const HEALTHCHECK: Form = {
  struct: { Test: STRINGS, Interval: 'int', Timeout: 'int', StartPeriod: 'int', StartInterval: 'int', Retries: 'int' },
};

const CONFIG: Form = {
  struct: {
    Hostname: 'string',
    Domainname: 'string',
    User: 'string',
    AttachStdin: 'bool',
    AttachStdout: 'bool',
    AttachStderr: 'bool',
    ExposedPorts: SET,
    Tty: 'bool',
    OpenStdin: 'bool',
    StdinOnce: 'bool',
    Env: STRINGS,
    Cmd: 'strslice',
    Healthcheck: HEALTHCHECK,
    ArgsEscaped: 'bool',
    Image: 'string',
    Volumes: SET,
    WorkingDir: 'string',
    Entrypoint: 'strslice',
    NetworkDisabled: 'bool',
    MacAddress: 'string',
    OnBuild: STRINGS,
    Labels: { map: 'string' },
    StopSignal: 'string',
    StopTimeout: 'int',
    Shell: 'strslice',
  },
};

const IMAGE: Form = {
  struct: {
    architecture: 'string',
    os: 'string',
    variant: 'string',
    'os.version': 'string',
    'os.features': STRINGS,
    created: 'time',
    author: 'string',
    comment: 'string',
    docker_version: 'string',
    container: 'string',
    container_config: CONFIG,
    config: CONFIG,
    rootfs: { struct: { type: 'string', diff_ids: STRINGS } },
    history: {
      list: {
        struct: { created: 'time', created_by: 'string', author: 'string', comment: 'string', empty_layer: 'bool' },
      },
    },
  },
};

/**
 * Validates a parsed configuration.
 * @throws InvalidParameter `invalid image JSON: cannot unmarshal number into config.Labels.a of type string`, and for
 * images of other operating systems
 */
export function readConfig(value: unknown): ImageConfig {
  const config = read(value, IMAGE, []) as Partial<ImageConfig> | null;
  if (!config?.rootfs) throw new InvalidParameter('invalid image JSON, no RootFS key');
  // Null in JSON stays null.
  const diffIds = (config.rootfs.diff_ids as string[] | null) ?? [];
  if (!diffIds.every(isDigest)) throw new InvalidParameter('invalid image JSON: diff_ids are no digests');
  const os = config.os || 'linux';
  if (os !== 'linux') throw new InvalidParameter(`cannot load ${os} image on linux`);
  return { ...config, os, architecture: config.architecture ?? '', rootfs: { type: 'layers', diff_ids: diffIds } };
}

/** Parses a stored configuration. */
export const parseConfig = (bytes: Buffer): ImageConfig => readConfig(parseExactJson(bytes.toString()));

// Converts a value: drops unknown fields, and renames fields whose case differs.
function read(value: unknown, form: Form, path: readonly string[]): unknown {
  if (value === null || value === undefined) return null;
  if (form === 'strslice') return typeof value === 'string' ? [value] : read(value, STRINGS, path);
  if (typeof form === 'string') return isScalar(value, form) ? value : refuse(value, form, path);
  if ('list' in form) {
    if (!Array.isArray(value)) return refuse(value, 'list', path);
    return value.map((item) => read(item, form.list, path) ?? zeroValue(form.list));
  }
  const isMap = 'map' in form;
  if (typeof value !== 'object' || Array.isArray(value)) return refuse(value, isMap ? 'map' : 'struct', path);
  const entries: [string, unknown][] = [];
  for (const [key, item] of Object.entries(value)) {
    const [name, inner] = isMap ? [key, form.map] : (fieldOf(form.struct, key) ?? []);
    if (name === undefined || inner === undefined) continue;
    entries.push([name, read(item, inner, [...path, name]) ?? (isMap ? zeroValue(inner) : null)]);
  }
  return Object.fromEntries(entries);
}

// Go's zero value, which null decodes to within lists and maps.
function zeroValue(form: Form): unknown {
  switch (form) {
    case 'string':
    case 'time':
      return '';
    case 'bool':
      return false;
    case 'int':
      return 0;
    case 'strslice':
      return [];
    default:
      return 'list' in form ? [] : {};
  }
}

// As encoding/json, prefers the exact name and then ignores case.
const fieldOf = (struct: Readonly<Record<string, Form>>, key: string): [string, Form] | undefined =>
  Object.hasOwn(struct, key)
    ? [key, struct[key]!]
    : Object.entries(struct).find(([name]) => name.toLowerCase() === key.toLowerCase());

function isScalar(value: unknown, form: 'string' | 'bool' | 'int' | 'time'): boolean {
  switch (form) {
    case 'bool':
      return typeof value === 'boolean';
    case 'int':
      return typeof value === 'bigint' || Number.isInteger(value);
    case 'string':
      return typeof value === 'string';
    case 'time':
      return typeof value === 'string' && (value === '' || parseRfc3339(value) !== undefined);
  }
}

function refuse(value: unknown, type: string, path: readonly string[]): never {
  const actual = Array.isArray(value) ? 'array' : typeof value;
  const target = path.join('.') || 'an image';
  throw new InvalidParameter(`invalid image JSON: cannot unmarshal ${actual} into ${target} of type ${type}`);
}
