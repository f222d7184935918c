/**
 * An image's configuration, read as Docker reads it (Go's encoding/json). Whoever made the image wrote it; a label that
 * is a number would break every client's list.
 */
import { InvalidParameter } from '../../model/errors.ts';
import { parseRfc3339 } from './go-time.ts';
import type { ImageConfig } from './image.ts';
import { isDigest } from './reference.ts';

/**
 * A field may be absent or null, in any case, and fields that are not named may be anything. `words`: a list of
 * strings, or one alone (Docker's strslice).
 */
type Form =
  | 'string'
  | 'bool'
  | 'int'
  | 'time'
  | 'words'
  | { list: Form }
  | { map: Form }
  | { struct: Readonly<Record<string, Form>> };

const STRINGS: Form = { list: 'string' };
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
    Cmd: 'words',
    Healthcheck: HEALTHCHECK,
    ArgsEscaped: 'bool',
    Image: 'string',
    Volumes: SET,
    WorkingDir: 'string',
    Entrypoint: 'words',
    NetworkDisabled: 'bool',
    MacAddress: 'string',
    OnBuild: STRINGS,
    Labels: { map: 'string' },
    StopSignal: 'string',
    StopTimeout: 'int',
    Shell: 'words',
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
 * @throws InvalidParameter `invalid image JSON: cannot unmarshal number into config.Labels.a of type string`, and for
 * what is no image of this host's kind
 */
export function readConfig(value: unknown): ImageConfig {
  const config = read(value, IMAGE, []) as Partial<ImageConfig> | null;
  if (!config?.rootfs) throw new InvalidParameter('invalid image JSON, no RootFS key');
  const diffIds = config.rootfs.diff_ids ?? [];
  if (!diffIds.every(isDigest)) throw new InvalidParameter('invalid image JSON: diff_ids are no digests');
  const os = config.os || 'linux';
  if (os !== 'linux') throw new InvalidParameter(`cannot load ${os} image on linux`);
  return { ...config, os, architecture: config.architecture ?? '', rootfs: { type: 'layers', diff_ids: diffIds } };
}

/** Of bytes that were checked when they came. */
export const parseConfig = (bytes: Buffer): ImageConfig => readConfig(JSON.parse(bytes.toString()));

/** The value as it is meant: fields by their own names, those that nobody knows left out. */
function read(value: unknown, form: Form, path: readonly string[]): unknown {
  if (value === null || value === undefined) return null;
  if (form === 'words') return typeof value === 'string' ? [value] : read(value, STRINGS, path);
  if (typeof form === 'string') return isScalar(value, form) ? value : refuse(value, form, path);
  if ('list' in form)
    return Array.isArray(value)
      ? value.map((item) => read(item, form.list, path) ?? nothing(form.list))
      : refuse(value, 'list', path);
  if (typeof value !== 'object' || Array.isArray(value)) return refuse(value, 'map' in form ? 'map' : 'struct', path);
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, item]): [string, unknown][] => {
      const [name, inner] = 'map' in form ? [key, form.map] : (fieldOf(form.struct, key) ?? []);
      if (name === undefined || inner === undefined) return [];
      return [[name, read(item, inner, [...path, name]) ?? ('map' in form ? nothing(inner) : null)]];
    }),
  );
}

/** What null is among others of its form. */
function nothing(form: Form): unknown {
  switch (form) {
    case 'string':
    case 'time':
      return '';
    case 'bool':
      return false;
    case 'int':
      return 0;
    case 'words':
      return [];
    default:
      return 'list' in form ? [] : {};
  }
}

const fieldOf = (struct: Readonly<Record<string, Form>>, key: string): [string, Form] | undefined =>
  Object.hasOwn(struct, key)
    ? [key, struct[key]!]
    : Object.entries(struct).find(([name]) => name.toLowerCase() === key.toLowerCase());

function isScalar(value: unknown, form: 'string' | 'bool' | 'int' | 'time'): boolean {
  switch (form) {
    case 'bool':
      return typeof value === 'boolean';
    case 'int':
      return Number.isInteger(value);
    case 'string':
      return typeof value === 'string';
    case 'time':
      return typeof value === 'string' && (value === '' || parseRfc3339(value) !== undefined);
  }
}

function refuse(value: unknown, type: string, path: readonly string[]): never {
  throw new InvalidParameter(
    `invalid image JSON: cannot unmarshal ${Array.isArray(value) ? 'array' : typeof value} into ${path.join('.') || 'an image'} of type ${type}`,
  );
}
