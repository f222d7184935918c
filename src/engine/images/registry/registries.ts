/**
 * What is asked of a registry besides images: who one is (`docker login`), what a name leads to, what there is (`docker
 * search`).
 */
import { EngineError, InvalidParameter, NotFound, Unauthorized, Forbidden } from '../../../model/errors.ts';
import { readConfig } from '../config-form.ts';
import type { ImageConfig } from '../image.ts';
import { familiarName, tagNameOnly, type Reference } from '../reference.ts';
import { ANONYMOUS, type Credentials } from './credentials.ts';
import type { Endpoints } from './endpoints.ts';
import { MalformedResponse, RegistryRefusal } from './failure.ts';
import { MAX_CONFIG, parseManifest, type Descriptor, type Platform } from './manifest.ts';
import { Repository } from './repository.ts';
import { Session, STATUS_TEXT } from './session.ts';
import { discard, readAll } from './transport.ts';

export interface SearchResult {
  name: string;
  description: string;
  starCount: number;
  isOfficial: boolean;
  isAutomated: boolean;
}

const HUB = 'docker.io';
/** The old index: the one registry that can be searched by everybody (moby registry/config.go). */
const INDEX = 'index.docker.io';
const MAX_RESULTS = 8 * 1024 * 1024;

export class Registries {
  constructor(private readonly endpoints: Endpoints) {}

  /**
   * Whether a registry knows somebody. Returns a token to be used in place of the password: a new one where it gives
   * one, else the one that was shown. @throws Unauthorized
   */
  async login(address: string, credentials: Credentials): Promise<string> {
    const host = serverOf(address);
    const transport = await this.endpoints.registry(host);
    const session = new Session(transport, credentials, [], { offline: credentials.identityToken === '' });
    const answer = await session.send('v2/', { method: 'GET' }).catch((error: unknown) => {
      throw error instanceof RegistryRefusal && (error.status === 401 || error.status === 403)
        ? new Unauthorized(error.message, { cause: error })
        : error;
    });
    if (answer.status !== 200) {
      await discard(answer);
      const why =
        `login attempt to ${transport.base.href}v2/ failed with status: ${answer.status} ${STATUS_TEXT[answer.status] ?? ''}`.trim();
      throw answer.status === 401 ? new Unauthorized(why) : new EngineError(why);
    }
    await discard(answer);
    return session.identityToken || credentials.identityToken;
  }

  /** What a name leads to, and for which platforms it has something. @throws NotFound, Unauthorized, Forbidden */
  async inspect(
    reference: Reference,
    credentials: Credentials,
    signal: AbortSignal,
  ): Promise<{ descriptor: Descriptor; platforms: Platform[] }> {
    const asked = tagNameOnly(reference);
    const name = familiarName(reference);
    const repository = new Repository(
      await this.endpoints.registry(reference.domain),
      reference.path,
      credentials,
      'pull',
    );
    try {
      const top = await repository.manifest(asked.digest ?? asked.tag!, signal);
      const manifest = parseManifest(top.bytes, top.mediaType, name);
      const mediaType = (JSON.parse(top.bytes.toString()) as { mediaType?: string }).mediaType ?? top.mediaType;
      const descriptor = { mediaType, digest: top.digest, size: top.bytes.length };
      if (manifest.kind === 'index')
        return { descriptor, platforms: manifest.manifests.flatMap(({ platform }) => (platform ? [platform] : [])) };
      const bytes = await repository.document(manifest.config, MAX_CONFIG, signal);
      return { descriptor, platforms: [platformOf(bytes)] };
    } catch (error) {
      throw error instanceof RegistryRefusal ? asOurs(error) : error;
    }
  }

  /**
   * Searches the index that `term` names (`HOST/WORDS`, else Docker Hub's). @throws EngineError when there is none:
   * most registries have no search
   */
  async search(term: string, limit: number, credentials: Credentials): Promise<SearchResult[]> {
    const slash = term.indexOf('/');
    const first = slash < 0 ? '' : term.slice(0, slash);
    const isHost = first === 'localhost' || /[.:]/.test(first);
    const host = isHost && first !== HUB && first !== INDEX ? first : INDEX;
    const words = isHost ? term.slice(slash + 1) : term;
    const transport = await this.endpoints.registry(host);
    const session = new Session(transport, credentials.username === '' ? ANONYMOUS : credentials, []);
    const answer = await session.send(
      `v1/search?${new URLSearchParams({ q: words.replace(/^library\//, ''), n: String(limit) }).toString()}`,
      { method: 'GET', headers: { 'x-docker-token': 'true' } },
    );
    if (answer.status !== 200) {
      await discard(answer);
      throw new EngineError(`Unexpected status code ${answer.status}`);
    }
    return results(await readAll(answer, MAX_RESULTS));
  }
}

function results(bytes: Buffer): SearchResult[] {
  let told: { results?: unknown } | null;
  try {
    told = JSON.parse(bytes.toString()) as { results?: unknown } | null;
  } catch (error) {
    throw new MalformedResponse(`error decoding registry search results: ${(error as Error).message}`);
  }
  const list = Array.isArray(told?.results) ? (told.results as Record<string, unknown>[]) : [];
  return list
    .filter((each) => typeof each?.name === 'string')
    .map((each) => ({
      name: each.name as string,
      description: typeof each.description === 'string' ? each.description : '',
      starCount: typeof each.star_count === 'number' ? each.star_count : 0,
      isOfficial: each.is_official === true,
      isAutomated: each.is_automated === true,
    }));
}

// `https://index.docker.io/v1/` is what the CLI calls Docker Hub.
function serverOf(address: string): string {
  const host = address.replace(/^https?:\/\//, '').replace(/\/.*$/, '');
  if (host === '' || host === INDEX || host === HUB) return HUB;
  if (!URL.canParse(`https://${host}/`))
    throw new InvalidParameter(`invalid registry address ${JSON.stringify(address)}`);
  return host;
}

function platformOf(bytes: Buffer): Platform {
  let config: Partial<ImageConfig> | null = null;
  try {
    config = JSON.parse(bytes.toString()) as Partial<ImageConfig> | null;
  } catch {
    // No image's: it has no platform to tell.
  }
  const { architecture = '', os = '', variant } = config ? { ...config } : {};
  if (config?.rootfs) readConfig({ ...config, os: 'linux' });
  return { architecture, os, ...(variant ? { variant } : {}) };
}

// Here a registry's status is the answer's (moby httpstatus: statusCodeFromDistributionError).
function asOurs(error: RegistryRefusal): EngineError {
  const kinds: Record<number, new (message: string, options?: ErrorOptions) => EngineError> = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
  };
  const kind =
    error.code === 'DENIED'
      ? Forbidden
      : error.code === 'UNAUTHORIZED' || (error.status === 401 && error.code === '')
        ? Unauthorized
        : (kinds[error.status] ?? EngineError);
  return new kind(error.message, { cause: error });
}

/** For the words of a search that asks for too much or too little (moby daemon/search). @throws InvalidParameter */
export function checkSearchLimit(limit: number): number {
  const [DEFAULT, MAX] = [25, 100];
  if (limit === 0) return DEFAULT;
  if (limit < 1 || limit > MAX) throw new InvalidParameter(`limit ${limit} is outside the range of [1, ${MAX}]`);
  return limit;
}
