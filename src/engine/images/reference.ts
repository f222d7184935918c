/**
 * Image references, `[host[:port]/]path[:tag][@digest]`, with the grammar and error texts of
 * github.com/distribution/reference.
 */
import { InvalidParameter } from '../../model/errors.ts';
import { matchPath } from './path-match.ts';

/** A normalized reference: `docker.io/library/busybox`, with a tag or digest. */
export interface Reference {
  /** Host (and port) of the registry. */
  domain: string;
  /** Path within it. */
  path: string;
  tag?: string;
  digest?: string;
}

const DEFAULT_DOMAIN = 'docker.io';
const LEGACY_DEFAULT_DOMAIN = 'index.docker.io';
const OFFICIAL_PREFIX = 'library/';
const DEFAULT_TAG = 'latest';
const MAX_PATH = 255;

const component = '[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*';
const path = `${component}(?:/${component})*`;
const label = '(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])';
const domain = `(?:${label}(?:\\.${label})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?`;
const tag = '[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}';
const digest = '[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}';

const REFERENCE = new RegExp(`^(${domain})/(${path})(?::(${tag}))?(?:@(${digest}))?$`);
const TAG = new RegExp(`^${tag}$`);
const DOMAIN = new RegExp(`^${domain}$`);
const IDENTIFIER = /^[a-f0-9]{64}$/;
/** The number of hex digits per supported digest algorithm. */
const DIGEST_LENGTHS: Record<string, number> = { sha256: 64, sha384: 96, sha512: 128 };

/**
 * Parses and normalizes a reference as users write it (`busybox`, `localhost:5000/x:1`). Adds no tag.
 * @throws InvalidParameter `invalid reference format`, …
 */
export function parseReference(text: string): Reference {
  if (IDENTIFIER.test(text))
    throw new InvalidParameter(`invalid repository name (${text}), cannot specify 64-byte hexadecimal strings`);
  const { domain, remainder } = splitDomain(text);
  const name = remainder.split(':', 1)[0]!;
  if (name.toLowerCase() !== name)
    throw new InvalidParameter(`invalid reference format: repository name (${name}) must be lowercase`);
  const match = REFERENCE.exec(`${domain}/${remainder}`);
  if (!match) throw new InvalidParameter('invalid reference format');
  if (match[2]!.length > MAX_PATH)
    throw new InvalidParameter(`repository name must not be more than ${MAX_PATH} characters`);
  const reference: Reference = { domain: match[1]!, path: match[2]! };
  if (match[3] !== undefined) reference.tag = match[3];
  if (match[4] !== undefined) reference.digest = checkDigest(match[4]);
  return reference;
}

/**
 * Parses an image id (64 hex digits, with or without `sha256:`) or a reference.
 * @throws InvalidParameter
 */
export function parseAnyReference(text: string): { id: string } | Reference {
  if (IDENTIFIER.test(text)) return { id: `sha256:${text}` };
  return isDigest(text) ? { id: text } : parseReference(text);
}

// The first component is a host only if it looks like one; otherwise it belongs to the path on the default registry.
function splitDomain(text: string): { domain: string; remainder: string } {
  const slash = text.indexOf('/');
  if (slash < 0) return { domain: DEFAULT_DOMAIN, remainder: OFFICIAL_PREFIX + text };
  const first = text.slice(0, slash);
  const rest = text.slice(slash + 1);
  const isHost = first === 'localhost' || /[.:]/.test(first) || first.toLowerCase() !== first;
  const domain = !isHost || first === LEGACY_DEFAULT_DOMAIN ? DEFAULT_DOMAIN : first;
  const remainder = isHost ? rest : text;
  return {
    domain,
    remainder: domain === DEFAULT_DOMAIN && !remainder.includes('/') ? OFFICIAL_PREFIX + remainder : remainder,
  };
}

/** Whether `text` is `algorithm:hex` with a supported algorithm and its number of digits. */
export function isDigest(text: string): boolean {
  const [algorithm = '', hex = ''] = text.split(/:(.*)/s);
  return DIGEST_LENGTHS[algorithm] === hex.length && /^[a-f0-9]+$/.test(hex);
}

// Error texts of github.com/opencontainers/go-digest.
function checkDigest(text: string): string {
  const [algorithm = '', hex = ''] = text.split(/:(.*)/s);
  const length = DIGEST_LENGTHS[algorithm];
  if (length === undefined) throw new InvalidParameter('unsupported digest algorithm');
  if (hex.length !== length) throw new InvalidParameter('invalid checksum digest length');
  if (!/^[a-f0-9]+$/.test(hex)) throw new InvalidParameter('invalid checksum digest format');
  return text;
}

/** Whether `text` has the form of a registry domain, `host[:port]`. */
export const isDomain = (text: string): boolean => DOMAIN.test(text);

/** Replaces the tag. @throws InvalidParameter `invalid tag format` */
export function withTag(reference: Reference, text: string): Reference {
  if (!TAG.test(text)) throw new InvalidParameter('invalid tag format');
  return { ...reference, tag: text };
}

/** Adds the tag `latest` to a reference with neither tag nor digest. */
export const tagNameOnly = (reference: Reference): Reference =>
  reference.tag || reference.digest ? reference : { ...reference, tag: DEFAULT_TAG };

/** `docker.io/library/busybox`. */
export const repositoryOf = ({ domain, path }: Reference): string => `${domain}/${path}`;

/** `docker.io/library/busybox:latest`; the store's form. */
export const canonicalString = (reference: Reference): string => repositoryOf(reference) + suffix(reference);

/** The short form without tag and digest: `busybox`. */
export function familiarName({ domain, path }: Reference): string {
  if (domain !== DEFAULT_DOMAIN) return `${domain}/${path}`;
  return path.startsWith(OFFICIAL_PREFIX) && !path.slice(OFFICIAL_PREFIX.length).includes('/')
    ? path.slice(OFFICIAL_PREFIX.length)
    : path;
}

/** The short form: `busybox:latest`. */
export const familiarString = (reference: Reference): string => familiarName(reference) + suffix(reference);

const suffix = ({ tag, digest }: Reference): string => (tag ? `:${tag}` : '') + (digest ? `@${digest}` : '');

/**
 * The name to give an image, from a request's `repo` and `tag`; undefined if `repo` is empty.
 * @throws InvalidParameter
 */
export function targetReference(repo: string, tag: string): Reference | undefined {
  if (repo === '') return undefined;
  const reference = parseReference(repo);
  if (reference.digest) throw new InvalidParameter('refusing to create a tag with a digest reference');
  const target = tag ? withTag(reference, tag) : tagNameOnly(reference);
  if (familiarName(target) === 'sha256')
    throw new InvalidParameter('refusing to create an ambiguous tag using digest algorithm as name');
  return target;
}

/**
 * Whether a pattern matches the short form, with or without tag.
 * @throws InvalidParameter `syntax error in pattern`
 */
export const familiarMatch = (pattern: string, reference: Reference): boolean =>
  matchPath(pattern, familiarString(reference)) || matchPath(pattern, familiarName(reference));

/** Whether `text`, with or without `sha256:`, is a prefix of image id `id`. */
export const isIdPrefix = (id: string, text: string): boolean =>
  id.startsWith(text) || id.slice(id.indexOf(':') + 1).startsWith(text);
