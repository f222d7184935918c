/** A request's path: the API version in front of it, and names of images, whose slashes are not the path's. */
import type { IncomingMessage } from 'node:http';
import { API_VERSION } from '../version.ts';

const versions = new WeakMap<IncomingMessage, string>();

/** The version that the client speaks: the path's, or else the newest. */
export const versionOf = (request: IncomingMessage): string => versions.get(request) ?? API_VERSION;

/** What was asked for, without its query: that may hold what a log should not. */
export const pathOf = (request: IncomingMessage): string => request.url!.replace(/\?.*$/, '');

/**
 * The URL that routes know. `/v1.43/x` is `/x` of that version; image names keep their slashes as %2F, so that they are
 * one parameter.
 */
export function rewriteUrl(request: IncomingMessage): string {
  // A proxy's client names the server too.
  const asked = request.url!.replace(/^https?:\/\/[^/?]*(?=\/)/i, '');
  const found = /^\/v([0-9.]+)(\/.*)$/.exec(asked);
  if (found) versions.set(request, found[1]!);
  const url = found ? found[2]! : asked;
  const distributed = /^\/distribution\/(.+)\/json(\?.*)?$/.exec(url);
  if (distributed) return `/distribution/${distributed[1]!.replaceAll('/', '%2F')}/json${distributed[2] ?? ''}`;
  const named =
    /^\/images\/(.+?)\/(json|history|tag|push|get)(\?.*)?$/.exec(url) ??
    /^\/images\/((?!(?:json|create|load|get|prune|search)(?:\?|$)).+?)()(\?.*)?$/.exec(url);
  // Elsewhere an escaped slash is a slash, as in Go: /containers/a%2Fb/json leads nowhere.
  if (!named)
    return /^\/(containers|exec)\//.test(url) ? url.replace(/^[^?]*/, (path) => path.replace(/%2f/gi, '/')) : url;
  const [, name = '', verb = '', query = ''] = named;
  return `/images/${name.replaceAll('/', '%2F')}${verb && `/${verb}`}${query}`;
}
