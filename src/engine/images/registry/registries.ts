/** Registry operations apart from pull and push: login, inspection of a reference, search. */
import { EngineError, InvalidParameter, NotFound, Unauthorized, Forbidden } from '../../../model/errors.ts';
import { readConfig } from '../config-form.ts';
import type { ImageConfig } from '../image.ts';
import { familiarName, tagNameOnly, type Reference } from '../reference.ts';
import { ANONYMOUS, type Credentials } from './credentials.ts';
import type { Endpoints } from './endpoints.ts';
import { MalformedResponse, RegistryRefusal } from './failure.ts';
import { MAX_CONFIG_BYTES, parseManifest, type Descriptor, type Platform } from './manifest.ts';
import { Repository } from './repository.ts';
import { Session, STATUS_TEXT } from './session.ts';
import { discard, readAll, type Transport } from './transport.ts';

export interface SearchResult {
  name: string;
  description: string;
  starCount: number;
  isOfficial: boolean;
  isAutomated: boolean;
}

interface Inspected {
  descriptor: Descriptor;
  platforms: Platform[];
}

const HUB = 'docker.io';
/** The host of Docker Hub's v1 API, which search uses (moby registry/config.go). */
const INDEX = 'index.docker.io';
const MAX_RESULTS_BYTES = 8 * 1024 * 1024;

export class Registries {
  constructor(private readonly endpoints: Endpoints) {}

  /**
   * Verifies credentials. Returns the token to use instead of the password: a new one if the registry issued one,
   * otherwise the given one.
   * @throws Unauthorized
   */
  async login(address: string, credentials: Credentials): Promise<string> {
    const transport = await this.endpoints.registry(serverOf(address));
    const session = new Session(transport, credentials, [], { offline: credentials.identityToken === '' });
    const response = await session.send('v2/', { method: 'GET' }).catch((error: unknown) => {
      const isUnauthorized = error instanceof RegistryRefusal && (error.status === 401 || error.status === 403);
      throw isUnauthorized ? new Unauthorized(error.message, { cause: error }) : error;
    });
    await discard(response);
    const { status } = response;
    if (status !== 200) {
      const url = `${transport.base.href}v2/`;
      const message = `login attempt to ${url} failed with status: ${status} ${STATUS_TEXT[status] ?? ''}`.trim();
      throw status === 401 ? new Unauthorized(message) : new EngineError(message);
    }
    return session.identityToken || credentials.identityToken;
  }

  /**
   * The manifest or index of a reference, and its platforms; from a mirror if one has it.
   * @throws NotFound, Unauthorized, Forbidden of the registry itself
   */
  async inspect(reference: Reference, credentials: Credentials, signal: AbortSignal): Promise<Inspected> {
    const endpoints = await this.endpoints.toPull(reference.domain);
    for (const transport of endpoints.slice(0, -1)) {
      try {
        return await this.#inspectAt(transport, reference, credentials, signal);
      } catch {
        signal.throwIfAborted();
      }
    }
    return this.#inspectAt(endpoints.at(-1)!, reference, credentials, signal);
  }

  async #inspectAt(
    transport: Transport,
    reference: Reference,
    credentials: Credentials,
    signal: AbortSignal,
  ): Promise<Inspected> {
    const asked = tagNameOnly(reference);
    const name = familiarName(reference);
    const repository = new Repository(transport, reference.path, credentials, 'pull');
    try {
      const top = await repository.manifest(asked.digest ?? asked.tag!, signal);
      const manifest = parseManifest(top.bytes, top.mediaType, name);
      const mediaType = (JSON.parse(top.bytes.toString()) as { mediaType?: string }).mediaType ?? top.mediaType;
      const descriptor = { mediaType, digest: top.digest, size: top.bytes.length };
      if (manifest.kind === 'index')
        return { descriptor, platforms: manifest.manifests.flatMap(({ platform }) => (platform ? [platform] : [])) };
      const bytes = await repository.config(manifest.config, MAX_CONFIG_BYTES, signal);
      return { descriptor, platforms: [platformOf(bytes)] };
    } catch (error) {
      throw error instanceof RegistryRefusal ? withRegistryStatus(error) : error;
    }
  }

  /**
   * Searches a registry's v1 index.
   * @param term `[HOST/]TERM`; Docker Hub by default
   * @throws EngineError when the registry has no search, as most
   */
  async search(term: string, limit: number, credentials: Credentials): Promise<SearchResult[]> {
    const slash = term.indexOf('/');
    const first = slash < 0 ? '' : term.slice(0, slash);
    const isHost = first === 'localhost' || /[.:]/.test(first);
    const host = isHost && first !== HUB && first !== INDEX ? first : INDEX;
    const query = (isHost ? term.slice(slash + 1) : term).replace(/^library\//, '');
    const transport = await this.endpoints.registry(host);
    const session = new Session(transport, credentials.username === '' ? ANONYMOUS : credentials, []);
    const parameters = new URLSearchParams({ q: query, n: String(limit) });
    const response = await session.send(`v1/search?${parameters.toString()}`, {
      method: 'GET',
      headers: { 'x-docker-token': 'true' },
    });
    if (response.status !== 200) {
      await discard(response);
      throw new EngineError(`Unexpected status code ${response.status}`);
    }
    return parseResults(await readAll(response, MAX_RESULTS_BYTES));
  }
}

function parseResults(bytes: Buffer): SearchResult[] {
  let document: { results?: unknown } | null;
  try {
    document = JSON.parse(bytes.toString()) as typeof document;
  } catch (error) {
    throw new MalformedResponse(`error decoding registry search results: ${(error as Error).message}`);
  }
  const results = Array.isArray(document?.results) ? (document.results as (Record<string, unknown> | null)[]) : [];
  return results.flatMap((each) => {
    if (typeof each?.name !== 'string') return [];
    return [
      {
        name: each.name,
        description: typeof each.description === 'string' ? each.description : '',
        starCount: typeof each.star_count === 'number' ? each.star_count : 0,
        isOfficial: each.is_official === true,
        isAutomated: each.is_automated === true,
      },
    ];
  });
}

// The CLI's address of Docker Hub is `https://index.docker.io/v1/`.
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
    // Not an image's configuration: no platform.
  }
  const { architecture = '', os = '', variant } = config ? { ...config } : {};
  if (config?.rootfs) readConfig({ ...config, os: 'linux' });
  return { architecture, os, ...(variant ? { variant } : {}) };
}

// Inspection passes the registry's status on (moby api/server/httpstatus, statusCodeFromDistributionError).
function withRegistryStatus(error: RegistryRefusal): EngineError {
  return new (errorClassOf(error))(error.message, { cause: error });
}

function errorClassOf({ code, status }: RegistryRefusal): typeof EngineError {
  if (code === 'DENIED') return Forbidden;
  if (code === 'UNAUTHORIZED' || (status === 401 && code === '')) return Unauthorized;
  switch (status) {
    case 401:
      return Unauthorized;
    case 403:
      return Forbidden;
    case 404:
      return NotFound;
    default:
      return EngineError;
  }
}

/** Checks the limit of a search; 0 means the default (moby registry/search_session.go). @throws InvalidParameter */
export function checkSearchLimit(limit: number): number {
  const [DEFAULT, MAX] = [25, 100];
  if (limit === 0) return DEFAULT;
  if (limit < 1 || limit > MAX) throw new InvalidParameter(`limit ${limit} is outside the range of [1, ${MAX}]`);
  return limit;
}
