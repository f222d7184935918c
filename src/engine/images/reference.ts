/**
 * Image references: `[host[:port]/]path[:tag][@digest]`, by the grammar and with the error texts of
 * distribution/reference.
 */
import { InvalidParameter } from '../../model/errors.ts';
import { matchPath } from './path-match.ts';

/** A repository and what of it is meant, fully spelled: `docker.io/library/busybox`. */
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
/** Hex digits of each digest algorithm that Docker knows. */
const DIGEST_LENGTHS: Record<string, number> = { sha256: 64, sha384: 96, sha512: 128 };

/**
 * A name as a person writes it (`busybox`, `localhost:5000/x:1`), spelled out. No tag is added.
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
 * What a client may name an image by: an image's own digest (64 hex digits, or `sha256:` and 64) or a reference.
 * @throws InvalidParameter
 */
export function parseAnyReference(text: string): { id: string } | Reference {
  if (IDENTIFIER.test(text)) return { id: `sha256:${text}` };
  return isDigest(text) ? { id: text } : parseReference(text);
}

// The first part is a host only if it looks like one; else it is a user's name on the default registry.
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

/** Whether this is `algorithm:hex` of an algorithm that is known, with the right number of digits. */
export function isDigest(text: string): boolean {
  const [algorithm = '', hex = ''] = text.split(/:(.*)/s);
  return DIGEST_LENGTHS[algorithm] === hex.length && /^[a-f0-9]+$/.test(hex);
}

// go-digest's texts.
function checkDigest(text: string): string {
  const [algorithm = '', hex = ''] = text.split(/:(.*)/s);
  const length = DIGEST_LENGTHS[algorithm];
  if (length === undefined) throw new InvalidParameter('unsupported digest algorithm');
  if (hex.length !== length) throw new InvalidParameter('invalid checksum digest length');
  if (!/^[a-f0-9]+$/.test(hex)) throw new InvalidParameter('invalid checksum digest format');
  return text;
}

/** Whether this may be a registry's name: `host[:port]`. */
export const isDomain = (text: string): boolean => DOMAIN.test(text);

/** @throws InvalidParameter `invalid tag format` */
export function withTag(reference: Reference, text: string): Reference {
  if (!TAG.test(text)) throw new InvalidParameter('invalid tag format');
  return { ...reference, tag: text };
}

/** Adds `:latest` where neither tag nor digest is given. */
export const tagNameOnly = (reference: Reference): Reference =>
  reference.tag || reference.digest ? reference : { ...reference, tag: DEFAULT_TAG };

/** `docker.io/library/busybox`. */
export const repositoryOf = ({ domain, path }: Reference): string => `${domain}/${path}`;

/** `docker.io/library/busybox:latest`; what the store names images by. */
export const canonicalString = (reference: Reference): string => repositoryOf(reference) + suffix(reference);

/** `busybox`. */
export function familiarName({ domain, path }: Reference): string {
  if (domain !== DEFAULT_DOMAIN) return `${domain}/${path}`;
  return path.startsWith(OFFICIAL_PREFIX) && !path.slice(OFFICIAL_PREFIX.length).includes('/')
    ? path.slice(OFFICIAL_PREFIX.length)
    : path;
}

/** `busybox:latest`; what people see. */
export const familiarString = (reference: Reference): string => familiarName(reference) + suffix(reference);

const suffix = ({ tag, digest }: Reference): string => (tag ? `:${tag}` : '') + (digest ? `@${digest}` : '');

/**
 * A reference for an image to be named by, from the `repo` and `tag` of a request; undefined for no repo.
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
 * Whether a glob matches the familiar spelling, with or without tag. @throws InvalidParameter `syntax error in pattern`
 */
export const familiarMatch = (pattern: string, reference: Reference): boolean =>
  matchPath(pattern, familiarString(reference)) || matchPath(pattern, familiarName(reference));

/** Whether `text` is the beginning of image id `id` (`sha256:…`), with or without the algorithm. */
export const isIdPrefix = (id: string, text: string): boolean =>
  id.startsWith(text) || id.slice(id.indexOf(':') + 1).startsWith(text);

/** Docker's short form of an id: 12 digits. */
export const shortId = (id: string): string => id.slice(id.indexOf(':') + 1).slice(0, 12);
