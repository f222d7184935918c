/**
 * What a registry answers when it refuses, and what the network says when it cannot be asked; in the words of Docker's
 * (Go's) clients.
 */
import { EngineError } from '../../../model/errors.ts';

/** The registry refused. `code` is the OCI distribution-spec's, '' where it gave none. */
export class RegistryRefusal extends EngineError {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** It could not be asked at all. */
export class RegistryUnreachable extends EngineError {
  /** `why` is Go's text of the cause alone. */
  constructor(
    method: string,
    url: string,
    readonly why: string,
    options?: ErrorOptions,
  ) {
    super(`${asked(method, url)}: ${why}`, options);
  }
}

/** It answered with what is against the protocol, or with bytes that are not what their digest says. */
export class MalformedResponse extends EngineError {}

/** How Go's http.Client introduces an error: `Get "https://…"`. */
export const asked = (method: string, url: string): string => `${method[0]}${method.slice(1).toLowerCase()} "${url}"`;

/** distribution/registry/client/errors.go: the words for a refusal. */
export function refusal(
  status: number,
  statusText: string,
  body: string,
  challenges: { scheme: string; parameters: Map<string, string> }[],
): RegistryRefusal {
  if (status < 400 || status >= 500)
    return new RegistryRefusal(status, '', `received unexpected HTTP status: ${status} ${statusText}`.trim());
  const complaint = challenges.find(({ scheme }) => scheme === 'bearer')?.parameters.get('error');
  if (complaint === 'insufficient_scope')
    return new RegistryRefusal(status, 'DENIED', 'denied: requested access to the resource is denied');
  if (complaint === 'invalid_token')
    return new RegistryRefusal(status, 'UNAUTHORIZED', 'unauthorized: authentication required');
  const told = parsed(body);
  const errors = Array.isArray(told?.errors)
    ? told.errors.map(({ code, message }) => ({
        code: String(code ?? 'UNKNOWN'),
        message: clean(String(message ?? '')),
      }))
    : [];
  const [first] = errors;
  if (first)
    return new RegistryRefusal(
      status,
      first.code,
      errors.length === 1 ? words(first) : `errors:\n${errors.map((error) => `${words(error)}\n`).join('')}`,
    );
  if (status === 401)
    return new RegistryRefusal(
      status,
      'UNAUTHORIZED',
      `unauthorized: ${typeof told?.details === 'string' ? clean(told.details) : 'authentication required'}`,
    );
  if (status === 403)
    return new RegistryRefusal(status, 'DENIED', 'denied: requested access to the resource is denied');
  if (status === 429)
    return new RegistryRefusal(
      status,
      'TOOMANYREQUESTS',
      `toomanyrequests: ${typeof told?.details === 'string' ? clean(told.details) : 'too many requests'}`,
    );
  return new RegistryRefusal(status, '', `received unexpected HTTP status: ${status} ${statusText}`.trim());
}

interface Told {
  errors?: { code?: unknown; message?: unknown }[];
  details?: unknown;
}

// What is not JSON says nothing: the status alone must do.
function parsed(body: string): Told | null {
  try {
    return JSON.parse(body) as Told | null;
  } catch {
    return null;
  }
}

const words = ({ code, message }: { code: string; message: string }): string =>
  `${clean(code).toLowerCase().replaceAll('_', ' ')}: ${message || clean(code).toLowerCase().replaceAll('_', ' ')}`;

const MAX_WORDS = 1000;
// A registry's words are shown on terminals: no escape sequences.
const clean = (text: string): string => text.replace(/[^\P{Cc}\n]/gu, '').slice(0, MAX_WORDS);

/** Go's text for an error of Node's net, tls or undici. */
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
      return `dial tcp ${at}: i/o timeout`;
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

// Node tries several addresses and gathers what each said; undici wraps what Node says.
function innermost(error: unknown): NetError {
  const { cause, errors } = error as { cause?: unknown; errors?: unknown[] };
  if (Array.isArray(errors) && errors.length > 0) return innermost(errors[0]);
  return cause instanceof Error ? innermost(cause) : (error as NetError);
}
