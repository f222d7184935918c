/** A request's path: strips the API version, and makes an image name with slashes one path parameter. */
import type { IncomingMessage } from 'node:http';
import { API_VERSION } from '../version.ts';

const versions = new WeakMap<IncomingMessage, string>();

/** The API version in the request's path; the newest without one. */
export const versionOf = (request: IncomingMessage): string => versions.get(request) ?? API_VERSION;

/** The path without its query, which may hold secrets that do not belong in a log. */
export const pathOf = (request: IncomingMessage): string => request.url!.replace(/\?.*$/, '');

/** The URL for routing: `/v1.43/images/a/b/json` → `/images/a%2Fb/json`. The version is kept for `versionOf`. */
export function rewriteUrl(request: IncomingMessage): string {
  return escapeNames(stripVersion(request, stripOrigin(request.url!)));
}

/** Clients of a proxy send an absolute URL. */
export const stripOrigin = (url: string): string => url.replace(/^https?:\/\/[^/?]*(?=\/)/i, '');

function stripVersion(request: IncomingMessage, url: string): string {
  const [, version, rest] = /^\/v([0-9.]+)(\/.*)$/.exec(url) ?? [];
  if (version === undefined || rest === undefined) return url;
  versions.set(request, version);
  return rest;
}

/** /images/NAME/ACTION */
const IMAGE_ACTION = /^\/images\/(?<name>.+?)(?<action>\/(?:json|history|tag|push|get))(?<query>\?.*)?$/;
/** /images/NAME; not /images/json and the like. */
const IMAGE = /^\/images\/(?<name>(?!(?:json|create|load|get|prune|search)(?:\?|$)).+?)(?<query>\?.*)?$/;
/** /containers/NAME/ACTION */
const CONTAINER_ACTION =
  /^\/containers\/(?<name>.+?)(?<action>\/(?:json|changes|archive|export|top|logs|stats|resize|start|stop|restart|kill|update|rename|pause|unpause|attach|attach\/ws|wait|exec))(?<query>\?.*)?$/;
/** /containers/PARENT/ALIAS, of a DELETE. */
const LINK = /^\/containers\/(?<name>[^/?]+(?:\/|%2[fF])[^/?]+)(?<query>\?.*)?$/;
const DISTRIBUTION = /^\/distribution\/(?<name>.+)(?<action>\/json)(?<query>\?.*)?$/;

function escapeNames(url: string): string {
  // The one path that Docker serves with a slash at its end too.
  if (/^\/networks\/(\?|$)/.test(url)) return url.replace('/networks/', '/networks');
  const image = (IMAGE_ACTION.exec(url) ?? IMAGE.exec(url))?.groups;
  if (image) return `/images/${joinNamed(image)}`;
  const distribution = DISTRIBUTION.exec(url)?.groups;
  if (distribution) return `/distribution/${joinNamed(distribution)}`;
  // Containers are also known by the names of links: /containers/PARENT/ALIAS/json.
  const container = (CONTAINER_ACTION.exec(url) ?? LINK.exec(url))?.groups;
  if (container) return `/containers/${joinNamed(container)}`;
  // Elsewhere an escaped slash counts as a slash, as in Go.
  if (/^\/(containers|exec)\//.test(url)) return url.replace(/^[^?]*/, (path) => path.replace(/%2f/gi, '/'));
  return url;
}

const joinNamed = ({ name = '', action = '', query = '' }: Record<string, string | undefined>): string =>
  `${name.replaceAll('/', '%2F')}${action}${query}`;
