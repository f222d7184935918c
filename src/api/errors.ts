/** The only place where errors become HTTP statuses. */
import {
  Conflict,
  Forbidden,
  InvalidParameter,
  NotFound,
  NotImplemented,
  NotModified,
  Unauthorized,
  Unavailable,
} from '../model/errors.ts';
import { atLeast } from './version.ts';

/** Older API versions get errors as plain text (moby daemon/server/server.go). */
const FIRST_WITH_JSON_ERRORS = '1.24';

// moby daemon/server/httpstatus/status.go. Any other error is a 500, even when the client is to blame.
const statuses = [
  [NotFound, 404],
  [InvalidParameter, 400],
  [Conflict, 409],
  [Unauthorized, 401],
  [Unavailable, 503],
  [Forbidden, 403],
  [NotModified, 304],
  [NotImplemented, 501],
] as const;

export function httpStatusOf(error: unknown): number {
  const known = statuses.find(([kind]) => error instanceof kind);
  if (known) return known[1];
  // Fastify's own rejections of a request. Docker never sends 413, 414 or 415.
  const { statusCode } = error as { statusCode?: number };
  return statusCode !== undefined && statusCode >= 400 && statusCode < 500 ? 400 : 500;
}

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

export interface ErrorBody {
  contentType: string;
  text: string;
}

/** The body of an error response in the form that the client's API version expects. */
export function errorBody(error: unknown, apiVersion: string): ErrorBody {
  const message = messageOf(error);
  // Exactly `application/json`: docker compares with == and prints the raw body when a charset follows.
  if (atLeast(apiVersion, FIRST_WITH_JSON_ERRORS))
    return { contentType: 'application/json', text: `${JSON.stringify({ message })}\n` };
  return { contentType: 'text/plain; charset=utf-8', text: `${message}\n` };
}

/** The same error, its message starting with `prefix`. */
export function withPrefix(error: unknown, prefix: string): unknown {
  if (error instanceof Error && !error.message.startsWith(prefix)) error.message = `${prefix}${error.message}`;
  return error;
}
