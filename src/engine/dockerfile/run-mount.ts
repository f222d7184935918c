/** `RUN --mount`, read as BuildKit does (frontend/dockerfile/instructions/commands_runmount.go). */
import { InvalidParameter } from '../../model/errors.ts';
import { parseSize } from '../spec/sizes.ts';
import { csvFields } from './csv-fields.ts';
import { suggestion } from './suggestion.ts';

export type MountType = 'bind' | 'cache' | 'tmpfs' | 'secret' | 'ssh';
export type Sharing = 'shared' | 'private' | 'locked';

export interface RunMount {
  type: MountType;
  /** A stage, an image or a named context; ''. */
  from: string;
  source: string;
  target: string;
  readOnly: boolean;
  id: string;
  sharing: Sharing | '';
  required: boolean;
  /** Bytes; undefined: no limit. */
  size?: number;
  mode?: number;
  uid?: number;
  gid?: number;
  /** Of a secret: the variable that gets it. */
  env?: string;
}

const TYPES: readonly string[] = ['bind', 'cache', 'tmpfs', 'secret', 'ssh'] satisfies MountType[];
const SHARINGS: readonly string[] = ['shared', 'private', 'locked'] satisfies Sharing[];
const KEYS = [
  'type', 'from', 'source', 'target', 'readonly', 'id', 'sharing', 'required', 'size', 'mode', 'uid', 'gid', 'env',
  'src', 'dst', 'destination', 'ro', 'rw', 'readwrite',
]; // prettier-ignore

/** What can be checked before variables are known. @throws InvalidParameter */
export function checkMounts(texts: string[]): void {
  for (const text of texts)
    for (const field of fieldsOf(text)) {
      const [key, value] = halves(field);
      if (key === 'from' && value !== undefined && /\$./.test(value))
        throw new InvalidParameter("'from' doesn't support variable expansion, define alias stage instead");
    }
}

/** The stage, image or context that a mount takes its files from; '' for none. Needs no variables. */
export function mountFrom(text: string): string {
  const fields = new Map(fieldsOf(text).map(halves));
  return fields.get('type') === 'tmpfs' ? '' : (fields.get('from') ?? '');
}

/**
 * @param expand expands the variables of a value
 * @throws InvalidParameter
 */
export function parseMount(text: string, expand: (word: string) => string): RunMount {
  const mount: RunMount = {
    type: 'bind',
    from: '',
    source: '',
    target: '',
    readOnly: false,
    id: '',
    sharing: '',
    required: false,
  };
  let accessGiven = false;
  for (const field of fieldsOf(text)) {
    const [key, written] = halves(field);
    const value = written === undefined ? undefined : expand(written);
    if (set(mount, key, value, field)) accessGiven = true;
  }
  if (!accessGiven) mount.readOnly = mount.type !== 'cache' && mount.type !== 'tmpfs';
  check(mount);
  return mount;
}

/** Returns whether the field says if the mount is read-only. */
function set(mount: RunMount, key: string, given: string | undefined, field: string): boolean {
  const needsValue = !['readonly', 'ro', 'readwrite', 'rw', 'required'].includes(key);
  if (given === undefined && needsValue)
    throw new InvalidParameter(`invalid field '${field}' must be a key=value pair`);
  const value = given ?? 'true';
  switch (key) {
    case 'type':
      if (!TYPES.includes(value.toLowerCase()))
        throw new InvalidParameter(`unsupported mount type ${JSON.stringify(value)}${suggestion(value, TYPES, true)}`);
      mount.type = value.toLowerCase() as MountType;
      return false;
    case 'from':
      mount.from = value;
      return false;
    case 'source':
    case 'src':
      mount.source = value;
      return false;
    case 'target':
    case 'dst':
    case 'destination':
      mount.target = value;
      return false;
    case 'readonly':
    case 'ro':
      mount.readOnly = boolean(key, value);
      return true;
    case 'readwrite':
    case 'rw':
      mount.readOnly = !boolean(key, value);
      return true;
    case 'required':
      only(mount, key, ['secret', 'ssh']);
      mount.required = boolean(key, value);
      return false;
    case 'size':
      only(mount, key, ['tmpfs']);
      mount.size = size(key, value);
      return false;
    case 'id':
      mount.id = value;
      return false;
    case 'sharing':
      if (!SHARINGS.includes(value.toLowerCase()))
        throw new InvalidParameter(
          `unsupported sharing value ${JSON.stringify(value)}${suggestion(value, SHARINGS, true)}`,
        );
      mount.sharing = value.toLowerCase() as Sharing;
      return false;
    case 'mode':
      mount.mode = unsigned(key, value, 8);
      return false;
    case 'uid':
      mount.uid = unsigned(key, value, 10);
      return false;
    case 'gid':
      mount.gid = unsigned(key, value, 10);
      return false;
    case 'env':
      mount.env = value;
      return false;
    default:
      throw new InvalidParameter(`unexpected key '${key}' in '${field}'${suggestion(key, KEYS, true)}`);
  }
}

function check(mount: RunMount): void {
  const { type } = mount;
  if (type === 'bind' || type === 'tmpfs')
    for (const key of ['mode', 'uid', 'gid'] as const)
      if (mount[key] !== undefined)
        throw new InvalidParameter(`${key} not allowed for ${JSON.stringify(type)} type mounts`);
  if (type === 'secret') checkSecret(mount);
  if (mount.sharing !== '' && type !== 'cache')
    throw new InvalidParameter(`invalid cache sharing set for ${type} mount`);
}

function checkSecret({ from, sharing, source, target, id, env }: RunMount): void {
  if (from !== '') throw new InvalidParameter('secret mount should not have a from');
  if (sharing !== '') throw new InvalidParameter('secret mount should not define sharing');
  if (source === '' && target === '' && id === '' && env === undefined)
    throw new InvalidParameter('invalid secret mount. one of source, target required');
  if (source !== '' && id !== '') throw new InvalidParameter("both source and id can't be set");
}

function only({ type }: RunMount, key: string, types: MountType[]): void {
  if (!types.includes(type)) throw new InvalidParameter(`unexpected key '${key}' for mount type '${type}'`);
}

// As Go's strconv.ParseBool.
function boolean(key: string, value: string): boolean {
  if (['1', 't', 'T', 'TRUE', 'true', 'True'].includes(value)) return true;
  if (['0', 'f', 'F', 'FALSE', 'false', 'False'].includes(value)) return false;
  throw new InvalidParameter(`invalid value for ${key}: ${value}`);
}

function size(key: string, value: string): number {
  const bytes = parseSize(value, 1024);
  if (bytes === undefined) throw new InvalidParameter(`invalid value for ${key}: ${value}`);
  return bytes;
}

function unsigned(key: string, value: string, base: 8 | 10): number {
  const digits = base === 8 ? /^[0-7]+$/ : /^\d+$/;
  const number = digits.test(value) ? parseInt(value, base) : NaN;
  if (!(number < 2 ** 32)) throw new InvalidParameter(`invalid value ${value} for ${key}`);
  return number;
}

function fieldsOf(text: string): string[] {
  try {
    return csvFields(text);
  } catch (error) {
    throw new InvalidParameter(`failed to parse csv mounts: ${(error as Error).message}`);
  }
}

function halves(field: string): [key: string, value: string | undefined] {
  const at = field.indexOf('=');
  return at < 0 ? [field.toLowerCase(), undefined] : [field.slice(0, at).toLowerCase(), field.slice(at + 1)];
}
