/** Registry authentication: credentials in X-Registry-Auth, challenges in WWW-Authenticate. */

/** Docker's AuthConfig. */
export interface Credentials {
  username: string;
  password: string;
  /** A refresh token, used instead of the password. */
  identityToken: string;
  /** A bearer token, sent unchanged. */
  registryToken: string;
}

export const ANONYMOUS: Credentials = { username: '', password: '', identityToken: '', registryToken: '' };

/** The JSON object that clients send, unchecked. */
export interface AuthConfig {
  username?: unknown;
  password?: unknown;
  auth?: unknown;
  identitytoken?: unknown;
  registrytoken?: unknown;
  serveraddress?: unknown;
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '');

/** Reads an AuthConfig. `auth`, base64 of `user:password`, applies if there is no `username`. */
export function credentialsOf(config: AuthConfig): Credentials {
  const [, user = '', secret = ''] = /^([^:]*):(.*)$/s.exec(Buffer.from(text(config.auth), 'base64').toString()) ?? [];
  const named = text(config.username) !== '';
  return {
    username: named ? text(config.username) : user,
    password: named ? text(config.password) : secret.replace(/\0+$/, ''),
    identityToken: text(config.identitytoken),
    registryToken: text(config.registrytoken),
  };
}

/**
 * Decodes X-Registry-Auth (base64 in either alphabet). A malformed header means anonymous access, as in Docker
 * (moby api/types/registry/authconfig.go).
 */
export function decodeCredentials(header: string | undefined): Credentials {
  try {
    const config = JSON.parse(Buffer.from(header ?? '', 'base64').toString()) as AuthConfig | null;
    return config && typeof config === 'object' ? credentialsOf(config) : ANONYMOUS;
  } catch {
    return ANONYMOUS;
  }
}

/** The header value for Basic authentication. */
export const basic = ({ username, password }: Pick<Credentials, 'username' | 'password'>): string =>
  `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;

export interface Challenge {
  /** Lower case. */
  scheme: string;
  /** Names in lower case. */
  parameters: Map<string, string>;
}

const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const PARAMETER = new RegExp(`^\\s*(${TOKEN})\\s*=\\s*(?:"((?:[^"\\\\]|\\\\.)*)"|(${TOKEN}))\\s*(,|$)?`);
const SCHEME = new RegExp(`^[\\s,]*(${TOKEN})(?:\\s+|$|,)`);

/** Parses WWW-Authenticate (RFC 9110 §11.6.1): several challenges in one header line or in several. */
export function parseChallenges(header: string | string[] | undefined): Challenge[] {
  const challenges: Challenge[] = [];
  for (const line of header === undefined ? [] : [header].flat()) {
    let rest = line;
    for (let scheme = SCHEME.exec(rest); scheme; scheme = SCHEME.exec(rest)) {
      rest = rest.slice(scheme[0].length);
      const parameters = new Map<string, string>();
      for (let found = PARAMETER.exec(rest); found; found = PARAMETER.exec(rest)) {
        parameters.set(found[1]!.toLowerCase(), found[2] === undefined ? found[3]! : found[2].replace(/\\(.)/g, '$1'));
        rest = rest.slice(found[0].length);
      }
      challenges.push({ scheme: scheme[1]!.toLowerCase(), parameters });
    }
  }
  return challenges;
}

/** The `error` parameter of the Bearer challenge (RFC 6750 §3). */
export const bearerError = (challenges: Challenge[]): string | undefined =>
  challenges.find(({ scheme }) => scheme === 'bearer')?.parameters.get('error');
