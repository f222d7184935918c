/** Who asks a registry: what clients send in X-Registry-Auth, and what registries demand in WWW-Authenticate. */

/** Docker's AuthConfig. */
export interface Credentials {
  username: string;
  password: string;
  /** A refresh token, in place of the password. */
  identityToken: string;
  /** A bearer token, sent as it is. */
  registryToken: string;
}

export const ANONYMOUS: Credentials = { username: '', password: '', identityToken: '', registryToken: '' };

export interface AuthConfig {
  username?: unknown;
  password?: unknown;
  auth?: unknown;
  identitytoken?: unknown;
  registrytoken?: unknown;
  serveraddress?: unknown;
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '');

/** Of the JSON object that clients send; `auth` is base64 of `user:password`, and counts where the two are missing. */
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
 * From the header's value (base64 of either alphabet). What cannot be read is nobody's, as in Docker
 * (api/types/registry/authconfig.go).
 */
export function decodeCredentials(header: string | undefined): Credentials {
  try {
    const config = JSON.parse(Buffer.from(header ?? '', 'base64').toString()) as AuthConfig | null;
    return config && typeof config === 'object' ? credentialsOf(config) : ANONYMOUS;
  } catch {
    return ANONYMOUS;
  }
}

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

/** RFC 9110 §11.6.1; several challenges in one header or in several. */
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
