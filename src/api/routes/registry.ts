/** Operations that talk to registries: pull, push, login, search, /distribution. */
import { Forbidden, InvalidParameter } from '../../model/errors.ts';
import { parsePlatform } from '../../engine/images/platform.ts';
import type { Report } from '../../engine/images/progress.ts';
import { parseReference, withTag, type Reference } from '../../engine/images/reference.ts';
import {
  credentialsOf,
  decodeCredentials,
  type AuthConfig,
  type Credentials,
} from '../../engine/images/registry/credentials.ts';
import { checkSearchLimit } from '../../engine/images/registry/registries.ts';
import type { Call, Handler } from '../call.ts';
import { messageOf } from '../errors.ts';
import { queryPlatform } from '../platform.ts';
import { booleanFilter, checkFilterKeys } from '../query.ts';
import { errorLine, progressLine } from '../wire/progress.ts';
import { distributionInspect, loggedIn, searchResult } from '../wire/registry.ts';

/** POST /images/create?fromImage */
export async function pull(call: Call): Promise<void> {
  const reference = pullReference(call.text('fromImage'), call.text('tag'));
  const platform = call.text('platform') && parsePlatform(call.text('platform'));
  const options = { credentials: credentials(call), ...(platform && { platform }) };
  await streamProgress(call, (report, signal) => call.engine.puller.pull(reference, options, report, signal));
}

export const registryHandlers: Record<string, Handler> = {
  async ImagePush(call) {
    const name = parseReference(call.param('name'));
    const reference = call.text('tag') === '' ? name : withTag(name, call.text('tag'));
    const platform = queryPlatform(call, '1.46');
    if (platform) call.engine.images.resolve(call.param('name'), platform);
    await call.ignoreBody();
    await streamProgress(call, (report, signal) =>
      call.engine.pusher.push(reference, credentials(call), report, signal),
    );
  },

  async SystemAuth(call) {
    const config = await call.body<AuthConfig & { serveraddress?: string }>();
    const identityToken = await call.engine.registries.login(config.serveraddress ?? '', credentialsOf(config));
    call.json(loggedIn(identityToken));
  },

  async DistributionInspect(call) {
    const reference = parseReference(call.param('name'));
    const found = await call.engine.registries.inspect(reference, credentials(call), call.clientGone());
    call.json(distributionInspect(found));
  },

  async ImageSearch(call) {
    const filters = call.filters();
    checkFilterKeys(filters, ['is-automated', 'is-official', 'stars']);
    const official = booleanFilter(filters, 'is-official');
    const automated = booleanFilter(filters, 'is-automated');
    const stars = Math.max(0, ...(filters.get('stars') ?? []).map(starsOf));
    if (call.text('term') === '') throw new InvalidParameter('Search term is empty');
    const found = await call.engine.registries.search(
      call.text('term'),
      checkSearchLimit(call.number('limit') ?? 0),
      credentials(call),
    );
    const wanted = found.filter(
      (result) =>
        (official === undefined || result.isOfficial === official) &&
        (automated === undefined || result.isAutomated === automated) &&
        result.starCount >= stars,
    );
    call.json(wanted.map(searchResult));
  },
};

function starsOf(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidParameter(`invalid filter 'stars=[${text}]'`);
  return Number(text);
}

const credentials = (call: Call): Credentials => decodeCredentials(header(call, 'x-registry-auth'));
const header = (call: Call, name: string): string | undefined => [call.request.headers[name]].flat()[0];

/** `tag` may hold a digest; without either, all tags of the repository are pulled (moby image_routes.go). */
function pullReference(image: string, tag: string): Reference {
  const reference = parseReference(image.replace(/:$/, ''));
  if (reference.domain === 'docker.io' && reference.path === 'library/scratch')
    throw new Forbidden("'scratch' is a reserved name");
  if (tag === '') return reference;
  const isDigest = tag.includes(':');
  return isDigest ? parseReference(`${image.replace(/[:@][^/]*$/, '')}@${tag}`) : withTag(reference, tag);
}

/**
 * Runs `work` and streams what it reports. The head is sent with the first line, so that an error before it becomes a
 * response with a status, as in Docker; a later error becomes the last line.
 */
async function streamProgress(call: Call, work: (report: Report, signal: AbortSignal) => Promise<void>): Promise<void> {
  const gone = new AbortController();
  const { raw } = call.reply;
  raw.on('close', () => {
    if (!raw.writableFinished) gone.abort(new Error('context canceled'));
  });
  const lines = new LineQueue();
  const done = work((progress) => lines.push(progressLine(progress)), gone.signal).finally(() => lines.end());
  done.catch(() => undefined); // Awaited below, perhaps after the rejection.
  const first = await lines.next();
  if (first === undefined) return done;
  await call.stream(
    'application/json',
    async (write) => {
      for (let line: string | undefined = first; line !== undefined; line = await lines.next()) await write(line);
      await done.catch((error: unknown) => write(errorLine(messageOf(error))));
    },
    gone,
  );
}

/** Lines from a producer that does not wait, for one consumer. */
class LineQueue {
  readonly #lines: string[] = [];
  #ended = false;
  #wake = (): void => undefined;

  push(line: string): void {
    this.#lines.push(line);
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** undefined at the end. */
  async next(): Promise<string | undefined> {
    if (this.#lines.length === 0 && !this.#ended) await new Promise<void>((resolve) => (this.#wake = resolve));
    return this.#lines.shift();
  }
}
