/** Errors of registry requests, worded as Docker's (Go's) client words them. */
import { EngineError } from '../../../model/errors.ts';
import { bearerError, type Challenge } from './credentials.ts';

const DENIED = 'denied: requested access to the resource is denied';
const MAX_CHARS = 1000;

/** The registry refused. `code` is an error code of the OCI distribution-spec, '' if the response had none. */
export class RegistryRefusal extends EngineError {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** The registry could not be reached, or the connection broke. */
export class RegistryUnreachable extends EngineError {
  /** @param why Go's text for the cause alone */
  constructor(
    method: string,
    url: string,
    readonly why: string,
    options?: ErrorOptions,
  ) {
    super(`${requestLabel(method, url)}: ${why}`, options);
  }
}

/** The response violates the protocol, or its content does not match its digest. */
export class MalformedResponse extends EngineError {}

/** The start of an error of Go's http.Client: `Get "https://…"`. */
export const requestLabel = (method: string, url: string): string =>
  `${method[0]}${method.slice(1).toLowerCase()} "${url}"`;

/** The error for a refusing response (distribution/registry/client/errors.go). */
export function refusal(status: number, statusText: string, body: string, challenges: Challenge[]): RegistryRefusal {
  const unexpected = `received unexpected HTTP status: ${status} ${statusText}`.trim();
  if (status < 400 || status >= 500) return new RegistryRefusal(status, '', unexpected);
  switch (bearerError(challenges)) {
    case 'insufficient_scope':
      return new RegistryRefusal(status, 'DENIED', DENIED);
    case 'invalid_token':
      return new RegistryRefusal(status, 'UNAUTHORIZED', 'unauthorized: authentication required');
  }
  const { errors, details } = parseBody(body);
  const [first] = errors;
  if (first) {
    const message =
      errors.length === 1 ? errorLine(first) : `errors:\n${errors.map((each) => `${errorLine(each)}\n`).join('')}`;
    return new RegistryRefusal(status, first.code, message);
  }
  switch (status) {
    case 401:
      return new RegistryRefusal(status, 'UNAUTHORIZED', `unauthorized: ${details ?? 'authentication required'}`);
    case 403:
      return new RegistryRefusal(status, 'DENIED', DENIED);
    case 429:
      return new RegistryRefusal(status, 'TOOMANYREQUESTS', `toomanyrequests: ${details ?? 'too many requests'}`);
    default:
      return new RegistryRefusal(status, '', unexpected);
  }
}

interface ErrorEntry {
  code: string;
  message: string;
}

// Ignores a body that is not JSON: then the status alone determines the error.
function parseBody(body: string): { errors: ErrorEntry[]; details?: string } {
  let document: { errors?: { code?: unknown; message?: unknown }[]; details?: unknown } | null;
  try {
    document = JSON.parse(body) as typeof document;
  } catch {
    return { errors: [] };
  }
  const errors = Array.isArray(document?.errors) ? document.errors : [];
  return {
    errors: errors.map(({ code, message }) => ({ code: toText(code ?? 'UNKNOWN'), message: clean(toText(message)) })),
    ...(typeof document?.details === 'string' && { details: clean(document.details) }),
  };
}

function toText(value: unknown): string {
  if (value === null || value === undefined) return '';
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function errorLine({ code, message }: ErrorEntry): string {
  const label = clean(code).toLowerCase().replaceAll('_', ' ');
  return `${label}: ${message || label}`;
}

// The text is shown on terminals: removes control characters, so that it has no escape sequences.
const clean = (text: string): string => text.replace(/[^\P{Cc}\n]/gu, '').slice(0, MAX_CHARS);

/** Go's text for an error of Node's net and tls or of undici. */
export function goText(error: unknown, url: URL): string {
  const { code = '', message = '', address, port } = innermost(error);
  const at = address ? `${address.includes(':') ? `[${address}]` : address}:${port ?? ''}` : url.host;
  switch (code) {
    case 'ECONNREFUSED':
      return `dial tcp ${at}: connect: connection refused`;
    case 'EHOSTUNREACH':
      return `dial tcp ${at}: connect: no route to host`;
    case 'ENETUNREACH':
      return `dial tcp ${at}: connect: network is unreachable`;
    case 'ETIMEDOUT':
    case 'UND_ERR_CONNECT_TIMEOUT':
      return `dial tcp ${at}: i/o timeout`;
    case 'ENOTFOUND':
      return `dial tcp: lookup ${url.hostname}: no such host`;
    case 'EAI_AGAIN':
      return `dial tcp: lookup ${url.hostname}: Temporary failure in name resolution`;
    case 'UND_ERR_HEADERS_TIMEOUT':
      return 'net/http: timeout awaiting response headers';
    case 'UND_ERR_BODY_TIMEOUT':
      return 'net/http: request canceled (timeout while reading body)';
    case 'ECONNRESET':
    case 'UND_ERR_SOCKET':
      return message.includes('other side closed') ? 'EOF' : 'read: connection reset by peer';
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
    case 'UNABLE_TO_GET_ISSUER_CERT':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
      return 'tls: failed to verify certificate: x509: certificate signed by unknown authority';
    case 'CERT_HAS_EXPIRED':
      return 'tls: failed to verify certificate: x509: certificate has expired or is not yet valid';
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
      return `tls: failed to verify certificate: x509: certificate is not valid for ${url.hostname}`;
    default:
      return /wrong version number|packet length too long|http request/i.test(message)
        ? 'http: server gave HTTP response to HTTPS client'
        : message || code;
  }
}

interface NetError {
  code?: string;
  message?: string;
  address?: string;
  port?: number;
}

// Node collects the errors of several addresses in an AggregateError; undici wraps Node's errors.
function innermost(error: unknown): NetError {
  const { cause, errors } = error as { cause?: unknown; errors?: unknown[] };
  if (Array.isArray(errors) && errors.length > 0) return innermost(errors[0]);
  return cause instanceof Error ? innermost(cause) : (error as NetError);
}
