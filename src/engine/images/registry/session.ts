/**
 * Authenticated requests to one repository: fetches a token when the registry demands one (distribution-spec;
 * distribution docs/content/spec/auth/{token,oauth}.md).
 */
import { ANONYMOUS, basic, bearerError, parseChallenges, type Challenge, type Credentials } from './credentials.ts';
import { MalformedResponse, refusal, RegistryRefusal, requestLabel } from './failure.ts';
import { discard, readAll, type RegistryResponse, type RegistryRequest, type Transport } from './transport.ts';

const CLIENT_ID = 'docker';
const MAX_ERROR_BYTES = 64 * 1024;
const MAX_TOKEN_BYTES = 1024 * 1024;
/** The lifetime of a token without `expires_in`, and the minimum for others (docs/content/spec/auth/token.md). */
const DEFAULT_TOKEN_SECONDS = 60;

/** Leaves time for the request that a token is sent with. */
const USABLE_SHARE = 0.9;

interface Token {
  header: string;
  /** Wall ms. */
  expires: number;
}

export class Session {
  readonly #credentials: Credentials;
  readonly #scopes: Set<string>;
  #token: Promise<Token> | undefined;
  #basic = false;
  #challenge: Challenge | undefined;
  /** The refresh token, if one was requested and issued. */
  identityToken = '';

  /**
   * @param scopes `repository:PATH:pull`, …
   * @param options.offline requests a refresh token
   */
  constructor(
    readonly transport: Transport,
    credentials: Credentials,
    scopes: string[],
    private readonly options: { offline: boolean } = { offline: false },
  ) {
    // A mirror must not receive the registry's credentials.
    this.#credentials = transport.isMirror ? ANONYMOUS : credentials;
    this.#scopes = new Set(scopes);
  }

  /** Adds a scope to the next token. */
  addScope(scope: string): void {
    if (this.#scopes.has(scope)) return;
    this.#scopes.add(scope);
    this.#token = undefined;
  }

  /**
   * Sends a request; if the registry demands authentication, obtains a token and sends it again.
   * @throws RegistryUnreachable, MalformedResponse, and RegistryRefusal of the token server
   */
  async send(target: string | URL, request: RegistryRequest): Promise<RegistryResponse> {
    const first = await this.#sendAuthorized(target, request);
    if (first.status !== 401 || !isSameOrigin(first.url, this.transport) || !isReplayable(request)) return first;
    const challenges = parseChallenges(first.headers['www-authenticate']);
    if (this.#isFinal(challenges)) return first;
    try {
      if (!this.#chooseScheme(challenges)) return first;
      await discard(first);
      await this.#authorization();
    } catch (error) {
      await discard(first);
      throw error instanceof RegistryRefusal ? prefixed(error, requestLabel(request.method, first.url.href)) : error;
    }
    return this.#sendAuthorized(target, request);
  }

  /** As `send`, but requires one of `statuses`. @throws RegistryRefusal */
  async sendExpecting(statuses: number[], target: string | URL, request: RegistryRequest): Promise<RegistryResponse> {
    const response = await this.send(target, request);
    if (statuses.includes(response.status)) return response;
    throw await refusalOf(response);
  }

  // Whether the registry refused an authorization that cannot be improved.
  #isFinal(challenges: Challenge[]): boolean {
    if (this.#basic || this.#credentials.registryToken !== '') return true;
    return this.#token !== undefined && bearerError(challenges) === 'insufficient_scope';
  }

  async #sendAuthorized(target: string | URL, request: RegistryRequest): Promise<RegistryResponse> {
    const isForeign = target instanceof URL && !isSameOrigin(target, this.transport);
    const authorization = isForeign ? undefined : await this.#authorization();
    return this.transport.send(target, {
      ...request,
      headers: { ...request.headers, ...(authorization && { authorization }) },
    });
  }

  async #authorization(): Promise<string | undefined> {
    if (this.#credentials.registryToken !== '') return `Bearer ${this.#credentials.registryToken}`;
    if (this.#basic) return basic(this.#credentials);
    if (!this.#challenge) return undefined;
    const token = await this.#token?.catch(() => undefined);
    if (token && Date.now() < token.expires) return token.header;
    this.#token = this.#fetchToken(this.#challenge);
    return (await this.#token).header;
  }

  // Prefers Bearer to Basic, as Docker does. Returns false if neither is offered.
  #chooseScheme(challenges: Challenge[]): boolean {
    const bearer = challenges.find(({ scheme, parameters }) => scheme === 'bearer' && parameters.has('realm'));
    if (bearer) {
      this.#challenge = bearer;
      this.#token = undefined;
      return true;
    }
    if (!challenges.some(({ scheme }) => scheme === 'basic')) return false;
    if (!hasLogin(this.#credentials)) throw new RegistryRefusal(401, '', 'no basic auth credentials');
    this.#basic = true;
    return true;
  }

  async #fetchToken({ parameters }: Challenge): Promise<Token> {
    const realm = this.transport.resolve(parameters.get('realm')!, this.transport.base);
    const service = parameters.get('service') ?? '';
    const response = await (this.#credentials.identityToken === ''
      ? this.#requestToken(realm, service)
      : this.#refreshToken(realm, service));
    if (response.status !== 200) throw await refusalOf(response);
    return this.#parseToken(await readAll(response, MAX_TOKEN_BYTES), realm);
  }

  // docs/content/spec/auth/oauth.md
  #refreshToken(realm: URL, service: string): Promise<RegistryResponse> {
    const form = new URLSearchParams({
      grant_type: 'refresh_token',
      service,
      client_id: CLIENT_ID,
      scope: [...this.#scopes].join(' '),
      refresh_token: this.#credentials.identityToken,
    });
    return this.transport.send(realm, {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: form.toString(),
    });
  }

  // docs/content/spec/auth/token.md
  #requestToken(realm: URL, service: string): Promise<RegistryResponse> {
    const query = realm.searchParams;
    if (service !== '') query.append('service', service);
    for (const scope of this.#scopes) query.append('scope', scope);
    if (this.options.offline) {
      query.append('offline_token', 'true');
      query.append('client_id', CLIENT_ID);
    }
    const isNamed = hasLogin(this.#credentials);
    if (isNamed) query.append('account', this.#credentials.username);
    return this.transport.send(realm, {
      method: 'GET',
      ...(isNamed && { headers: { authorization: basic(this.#credentials) } }),
    });
  }

  #parseToken(bytes: Buffer, realm: URL): Token {
    let document: { token?: unknown; access_token?: unknown; refresh_token?: unknown; expires_in?: unknown } | null;
    try {
      document = JSON.parse(bytes.toString()) as typeof document;
    } catch (error) {
      throw new MalformedResponse(`unable to decode token response of ${realm.origin}: ${(error as Error).message}`);
    }
    const token = document?.access_token || document?.token;
    if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token))
      throw new MalformedResponse('authorization server did not include a token in the response');
    if (typeof document?.refresh_token === 'string') this.identityToken = document.refresh_token;
    const lifetime = typeof document?.expires_in === 'number' ? document.expires_in : 0;
    const usableMs = Math.max(lifetime, DEFAULT_TOKEN_SECONDS) * 1000 * USABLE_SHARE;
    return { header: `Bearer ${token}`, expires: Date.now() + usableMs };
  }
}

// As in Docker, a user name without a password, or the reverse, is anonymous (distribution
// registry/client/auth/session.go).
const hasLogin = ({ username, password }: Credentials): boolean => username !== '' && password !== '';
const isSameOrigin = (url: URL, transport: Transport): boolean => url.origin === transport.base.origin;
// A stream that was read cannot be sent again; its sender makes sure that the session has a token before.
const isReplayable = ({ body }: RegistryRequest): boolean =>
  body === undefined || typeof body === 'string' || Buffer.isBuffer(body);

/** The error for a refusing response. */
export async function refusalOf(response: RegistryResponse): Promise<RegistryRefusal> {
  const body = await readAll(response, MAX_ERROR_BYTES).catch(() => Buffer.alloc(0));
  return refusal(
    response.status,
    STATUS_TEXT[response.status] ?? '',
    body.toString(),
    parseChallenges(response.headers['www-authenticate']),
  );
}

// Go's http.Client prefixes a token server's refusal with the original request. Without the error code, which would
// make callers translate the text.
const prefixed = (error: RegistryRefusal, label: string): RegistryRefusal =>
  new RegistryRefusal(error.status, '', `${label}: ${error.message}`);

export const STATUS_TEXT: Record<number, string> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  409: 'Conflict',
  410: 'Gone',
  413: 'Request Entity Too Large',
  416: 'Requested Range Not Satisfiable',
  429: 'Too Many Requests',
  500: 'Internal Server Error',
  501: 'Not Implemented',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
};
