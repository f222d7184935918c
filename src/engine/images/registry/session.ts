/**
 * Asking one registry for one repository as somebody: tokens are fetched when they are demanded. distribution-spec;
 * distribution's docs/spec/auth/{token,oauth}.md.
 */
import { ANONYMOUS, basic, parseChallenges, type Challenge, type Credentials } from './credentials.ts';
import { asked as introduced, refusal, MalformedResponse, RegistryRefusal } from './failure.ts';
import { discard, readAll, type Answer, type Asked, type Transport } from './transport.ts';

const CLIENT_ID = 'docker';
const MAX_ERROR = 64 * 1024;
const MAX_TOKEN = 1024 * 1024;
/** Of a token that does not say how long it is good (docs/spec/auth/token.md). */
const DEFAULT_TOKEN_SECONDS = 60;

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
  /** A refresh token, where one was asked for and given. */
  identityToken = '';

  /** @param scopes `repository:PATH:pull`, … */
  constructor(
    readonly transport: Transport,
    credentials: Credentials,
    scopes: string[],
    private readonly options: { offline: boolean } = { offline: false },
  ) {
    // What is a registry's is not its mirror's.
    this.#credentials = transport.isMirror ? ANONYMOUS : credentials;
    this.#scopes = new Set(scopes);
  }

  /** Asks to be allowed this as well. */
  widen(scope: string): void {
    if (this.#scopes.has(scope)) return;
    this.#scopes.add(scope);
    this.#token = undefined;
  }

  /** @throws RegistryUnreachable, or what came of asking for a token */
  async send(target: string | URL, asked: Asked): Promise<Answer> {
    const first = await this.#send(target, asked);
    // A body that was read cannot be sent again: whoever streams one has asked before.
    if (
      first.status !== 401 ||
      !isHere(first.url, this.transport) ||
      (asked.body !== undefined && typeof asked.body !== 'string' && !Buffer.isBuffer(asked.body))
    )
      return first;
    const challenges = parseChallenges(first.headers['www-authenticate']);
    const wasAsked = this.#basic || this.#token !== undefined || this.#credentials.registryToken !== '';
    const complaint = challenges.find(({ scheme }) => scheme === 'bearer')?.parameters.get('error');
    if (wasAsked && (this.#basic || this.#credentials.registryToken !== '' || complaint === 'insufficient_scope'))
      return first;
    try {
      if (!this.#choose(challenges)) return first;
      await discard(first);
      await this.#authorization();
    } catch (error) {
      await discard(first);
      throw error instanceof RegistryRefusal ? worded(error, introduced(asked.method, first.url.href)) : error;
    }
    return this.#send(target, asked);
  }

  /** As `send`, for what must succeed. @throws RegistryRefusal */
  async demand(target: string | URL, asked: Asked, statuses: number[]): Promise<Answer> {
    const answer = await this.send(target, asked);
    if (statuses.includes(answer.status)) return answer;
    throw await refused(answer);
  }

  async #send(target: string | URL, asked: Asked): Promise<Answer> {
    const authorization =
      target instanceof URL && !isHere(target, this.transport) ? undefined : await this.#authorization();
    return this.transport.send(target, {
      ...asked,
      headers: { ...asked.headers, ...(authorization && { authorization }) },
    });
  }

  async #authorization(): Promise<string | undefined> {
    if (this.#credentials.registryToken !== '') return `Bearer ${this.#credentials.registryToken}`;
    if (this.#basic) return basic(this.#credentials);
    if (!this.#challenge) return undefined;
    const token = await this.#token?.catch(() => undefined);
    if (token && Date.now() < token.expires) return token.header;
    this.#token = this.#fetch(this.#challenge);
    return (await this.#token).header;
  }

  // Bearer before Basic, as Docker.
  #choose(challenges: Challenge[]): boolean {
    const bearer = challenges.find(({ scheme, parameters }) => scheme === 'bearer' && parameters.has('realm'));
    if (bearer) {
      this.#challenge = bearer;
      this.#token = undefined;
      return true;
    }
    if (!challenges.some(({ scheme }) => scheme === 'basic')) return false;
    if (!isSomebody(this.#credentials)) throw new RegistryRefusal(401, '', 'no basic auth credentials');
    this.#basic = true;
    return true;
  }

  async #fetch({ parameters }: Challenge): Promise<Token> {
    const realm = this.transport.resolve(parameters.get('realm')!, this.transport.base);
    const service = parameters.get('service') ?? '';
    const scopes = [...this.#scopes];
    const { username, identityToken } = this.#credentials;
    const named = isSomebody(this.#credentials);
    let answer: Answer;
    if (identityToken !== '') {
      const form = new URLSearchParams({
        grant_type: 'refresh_token',
        service,
        client_id: CLIENT_ID,
        scope: scopes.join(' '),
        refresh_token: identityToken,
      });
      answer = await this.transport.send(realm, {
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: form.toString(),
      });
    } else {
      if (service !== '') realm.searchParams.append('service', service);
      for (const scope of scopes) realm.searchParams.append('scope', scope);
      if (this.options.offline) {
        realm.searchParams.append('offline_token', 'true');
        realm.searchParams.append('client_id', CLIENT_ID);
      }
      if (named) realm.searchParams.append('account', username);
      answer = await this.transport.send(realm, {
        method: 'GET',
        ...(named && { headers: { authorization: basic(this.#credentials) } }),
      });
    }
    if (answer.status !== 200) throw await refused(answer);
    return this.#read(await readAll(answer, MAX_TOKEN), realm);
  }

  #read(bytes: Buffer, realm: URL): Token {
    let told: { token?: unknown; access_token?: unknown; refresh_token?: unknown; expires_in?: unknown } | null;
    try {
      told = JSON.parse(bytes.toString()) as typeof told;
    } catch (error) {
      throw new MalformedResponse(`unable to decode token response of ${realm.origin}: ${(error as Error).message}`);
    }
    const token = told?.access_token || told?.token;
    if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token))
      throw new MalformedResponse('authorization server did not include a token in the response');
    if (typeof told?.refresh_token === 'string') this.identityToken = told.refresh_token;
    const seconds = Math.max(typeof told?.expires_in === 'number' ? told.expires_in : 0, DEFAULT_TOKEN_SECONDS);
    // Some of its life is left for the request that it goes with.
    return { header: `Bearer ${token}`, expires: Date.now() + seconds * 900 };
  }
}

// As Docker: half of the two is nobody (distribution's registry/client/auth/session.go).
const isSomebody = ({ username, password }: Credentials): boolean => username !== '' && password !== '';
const isHere = (url: URL, transport: Transport): boolean => url.origin === transport.base.origin;

/** What an answer that says no comes to. */
export async function refused(answer: Answer): Promise<RegistryRefusal> {
  const body = await readAll(answer, MAX_ERROR).catch(() => Buffer.alloc(0));
  return refusal(
    answer.status,
    STATUS_TEXT[answer.status] ?? '',
    body.toString(),
    parseChallenges(answer.headers['www-authenticate']),
  );
}

// Go's http.Client tells what it was that asked for a token in vain. The words are all that is left: no code to be
// translated by.
const worded = (error: RegistryRefusal, words: string): RegistryRefusal =>
  new RegistryRefusal(error.status, '', `${words}: ${error.message}`);

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
