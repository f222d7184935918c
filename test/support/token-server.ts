/**
 * A token server for a test's registry: it authenticates users and signs tokens that the registry trusts. See
 * docs/spec/auth/{token,oauth,jwt}.md of the distribution project.
 */
import { execFileSync } from 'node:child_process';
import { createPrivateKey, randomUUID, sign, X509Certificate, type KeyObject } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PASSWORD, USER } from './registry.ts';

const SERVICE = 'test-registry';
const ISSUER = 'test-issuer';
const SECONDS = 300;

interface Access {
  type: string;
  name: string;
  actions: string[];
}

/** A request for a token. */
export interface Demand {
  method: string;
  /** Parameters of the query or the form. */
  asked: URLSearchParams;
  /** The authenticated user; '' for an anonymous request. */
  user: string;
}

const encoded = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

/** Grants USER everything on `USER/…`, and everyone pulls of `public/…`. */
export class TokenServer implements AsyncDisposable {
  readonly demands: Demand[] = [];
  /** The user of each valid refresh token. */
  readonly #refresh = new Map<string, string>();

  private constructor(
    private readonly server: Server,
    private readonly root: string,
    private readonly key: KeyObject,
    private readonly certificate: X509Certificate,
  ) {}

  static async start(): Promise<TokenServer> {
    const root = mkdtempSync(join(tmpdir(), 'holdfast-tokens-'));
    const file = (name: string): string => join(root, name);
    execFileSync(
      'openssl',
      [
        ...'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=tokens'.split(' '),
        ...['-keyout', file('key.pem'), '-out', file('cert.pem')],
      ],
      { stdio: 'ignore' },
    );
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const tokens = new TokenServer(
      server,
      root,
      createPrivateKey(readFileSync(file('key.pem'))),
      new X509Certificate(readFileSync(file('cert.pem'))),
    );
    server.on('request', (request, response) => void tokens.#answer(request, response));
    return tokens;
  }

  /** The `auth` option for startRegistry. */
  get auth(): { realm: string; service: string; issuer: string; certificate: string } {
    return {
      realm: `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/token`,
      service: SERVICE,
      issuer: ISSUER,
      certificate: join(this.root, 'cert.pem'),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
    rmSync(this.root, { recursive: true, force: true });
  }

  /** A bearer token that grants `access`, whatever the user's rights are. */
  token(subject: string, access: Access[]): string {
    const now = Math.floor(Date.now() / 1000);
    const head = { typ: 'JWT', alg: 'ES256', x5c: [this.certificate.raw.toString('base64')] };
    const claims = {
      iss: ISSUER,
      sub: subject,
      aud: SERVICE,
      exp: now + SECONDS,
      nbf: now - 10,
      iat: now,
      jti: randomUUID(),
      access,
    };
    const body = `${encoded(head)}.${encoded(claims)}`;
    return `${body}.${sign('sha256', Buffer.from(body), { key: this.key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
  }

  /** Invalidates all refresh tokens. */
  revoke(): void {
    this.#refresh.clear();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const url = new URL(request.url!, 'http://tokens');
    const isForm = request.method === 'POST';
    const asked = isForm ? new URLSearchParams(Buffer.concat(chunks).toString()) : url.searchParams;
    const user = isForm ? this.#byForm(asked) : byBasic(request.headers.authorization);
    this.demands.push({ method: request.method!, asked, user: user ?? '' });
    response.setHeader('content-type', 'application/json');
    if (url.pathname !== '/token' || asked.get('service') !== SERVICE) return void response.writeHead(404).end('{}');
    if (user === undefined)
      return void response.writeHead(401).end(JSON.stringify({ details: 'incorrect username or password' }));
    const scopes = (isForm ? (asked.get('scope') ?? '').split(' ') : asked.getAll('scope')).filter(
      (scope) => scope !== '',
    );
    const token = this.token(
      user,
      scopes.map((scope) => allowed(scope, user)).filter(({ actions }) => actions.length > 0),
    );
    const wantsRefresh = !isForm && user !== '' && asked.get('offline_token') === 'true';
    // OAuth2 calls the token access_token, the older GET protocol calls it token. A refresh token stays valid when it
    // is used, so no new one is issued (RFC 6749 §6).
    response.end(
      JSON.stringify({
        ...(isForm ? { access_token: token } : { token }),
        expires_in: SECONDS,
        ...(wantsRefresh && { refresh_token: this.#newRefresh(user) }),
      }),
    );
  }

  #newRefresh(user: string): string {
    const token = `refresh-${randomUUID()}`;
    this.#refresh.set(token, user);
    return token;
  }

  #byForm(form: URLSearchParams): string | undefined {
    return form.get('grant_type') === 'refresh_token' && form.get('client_id')
      ? this.#refresh.get(form.get('refresh_token') ?? '')
      : undefined;
  }
}

/** The user; '' without credentials, undefined with wrong ones. */
function byBasic(header: string | undefined): string | undefined {
  if (header === undefined) return '';
  return header === `Basic ${Buffer.from(`${USER}:${PASSWORD}`).toString('base64')}` ? USER : undefined;
}

function allowed(scope: string, user: string): Access {
  const [type = '', name = '', actions = ''] = scope.split(':');
  const may = (action: string): boolean =>
    (user !== '' && name.startsWith(`${user}/`)) || (name.startsWith('public/') && action === 'pull');
  return { type, name, actions: actions.split(',').filter(may) };
}
