/** Platforms in queries, as JSON of the OCI image specification (moby daemon/server/httputils/form.go). */
import type { Platform } from '../engine/images/registry/manifest.ts';
import { InvalidParameter } from '../model/errors.ts';
import type { Call } from './call.ts';
import { syntaxError } from './go-json-syntax.ts';

const ONLY_ONE = 'multiple platform parameters not supported';

/** The query parameter `platform` of clients since API `since`. @throws InvalidParameter */
export function queryPlatform(call: Call, since: string): Platform | undefined {
  const text = call.text('platform');
  return text === '' || !call.atLeast(since) ? undefined : decodePlatform(text);
}

/** The same for a parameter that may be repeated, but need not be supported more than once. */
export function onlyQueryPlatform(call: Call, since: string): Platform | undefined {
  const { platform } = call.query;
  const platforms = Array.isArray(platform) && call.atLeast(since) ? platform.map(decodePlatform) : [];
  if (platforms.length > 1) throw new InvalidParameter(ONLY_ONE);
  return platforms[0];
}

function decodePlatform(text: string): Platform {
  const { os, architecture, variant, ...others } = parse(text);
  const hasMore = Boolean(variant || others['os.version'] || others['os.features']);
  if (!os && !architecture && hasMore)
    throw new InvalidParameter('optional platform fields provided, but OS and Architecture are missing');
  if (!os || !architecture) throw new InvalidParameter('both OS and Architecture must be provided');
  return { os, architecture, ...(variant && { variant }) };
}

function parse(text: string): Partial<Platform> {
  const failed = 'failed to parse platform: ';
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new InvalidParameter(syntaxError(text, failed));
  }
  const fields = (value ?? {}) as Record<string, unknown>;
  const isPlatform =
    typeof fields === 'object' && ['os', 'architecture', 'variant'].every((name) => isText(fields[name]));
  if (!isPlatform) throw new InvalidParameter(`${failed}json: cannot unmarshal into Go value of type v1.Platform`);
  return fields;
}

const isText = (value: unknown): boolean => value === undefined || value === null || typeof value === 'string';
