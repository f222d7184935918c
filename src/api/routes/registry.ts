/** What goes between here and registries: pull, push, login, search, /distribution. */
import { Forbidden, InvalidParameter } from '../../model/errors.ts';
import { hostArchitecture, machines } from '../../engine/architecture.ts';
import type { Report } from '../../engine/images/progress.ts';
import { parseReference, withTag, type Reference } from '../../engine/images/reference.ts';
import {
  credentialsOf,
  decodeCredentials,
  type AuthConfig,
  type Credentials,
} from '../../engine/images/registry/credentials.ts';
import type { Platform } from '../../engine/images/registry/manifest.ts';
import { checkSearchLimit } from '../../engine/images/registry/registries.ts';
import type { Call, Handler } from '../call.ts';
import { messageOf } from '../errors.ts';
import { booleanFilter, checkFilterKeys } from '../query.ts';
import { errorLine, progressLine } from '../wire/progress.ts';
import { distributionInspect, loggedIn, searchResult } from '../wire/registry.ts';

/** POST /images/create?fromImage */
export async function pull(call: Call): Promise<void> {
  const reference = pulled(call.text('fromImage'), call.text('tag'));
  const platform = platformOf(call.text('platform'));
  await progress(call, (report, signal) =>
    call.engine.puller.pull(
      reference,
      { credentials: credentials(call), ...(platform && { platform }) },
      report,
      signal,
    ),
  );
}

export const registryHandlers: Record<string, Handler> = {
  async ImagePush(call) {
    const name = parseReference(call.param('name'));
    const reference = call.text('tag') === '' ? name : withTag(name, call.text('tag'));
    await call.ignoreBody();
    await progress(call, (report, signal) => call.engine.pusher.push(reference, credentials(call), report, signal));
  },

  async SystemAuth(call) {
    const config = await call.body<AuthConfig>();
    const IdentityToken = await call.engine.registries.login(String(config.serveraddress ?? ''), credentialsOf(config));
    call.json(loggedIn(IdentityToken));
  },

  async DistributionInspect(call) {
    call.json(
      distributionInspect(
        await call.engine.registries.inspect(parseReference(call.param('name')), credentials(call), call.gone()),
      ),
    );
  },

  async ImageSearch(call) {
    const filters = call.filters();
    checkFilterKeys(filters, ['is-automated', 'is-official', 'stars']);
    const [official, automated] = [booleanFilter(filters, 'is-official'), booleanFilter(filters, 'is-automated')];
    const stars = Math.max(0, ...(filters.get('stars') ?? []).map(starsOf));
    if (call.text('term') === '') throw new InvalidParameter('Search term is empty');
    const found = await call.engine.registries.search(
      call.text('term'),
      checkSearchLimit(call.number('limit') ?? 0),
      credentials(call),
    );
    const wanted = found.filter(
      (each) =>
        (official === undefined || each.isOfficial === official) &&
        (automated === undefined || each.isAutomated === automated) &&
        each.starCount >= stars,
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

// A digest travels as a tag; without either, all tags are meant (moby image_routes.go).
function pulled(image: string, tag: string): Reference {
  const reference = parseReference(image.replace(/:$/, ''));
  if (reference.domain === 'docker.io' && reference.path === 'library/scratch')
    throw new Forbidden("'scratch' is a reserved name");
  if (tag === '') return reference;
  return tag.includes(':') ? parseReference(`${image.replace(/[:@][^/]*$/, '')}@${tag}`) : withTag(reference, tag);
}

/** `os[/arch[/variant]]`. */
function platformOf(text: string): Platform | undefined {
  if (text === '') return undefined;
  const [os = '', machine = hostArchitecture, variant] = text.toLowerCase().split('/');
  if (!/^[a-z0-9_.-]+$/.test(os) || text.split('/').length > 3)
    throw new InvalidParameter(
      `${JSON.stringify(text)} is an invalid component of "${text}": platform specifier component must match "^[A-Za-z0-9_.-]+(?:\\([A-Za-z0-9_.-]*\\))?$": invalid argument`,
    );
  // One word may be either: `arm64` is `linux/arm64`.
  const isSystem = text.includes('/') || os === 'linux' || os === 'windows';
  return isSystem
    ? { os, architecture: machines[machine] ?? machine, ...(variant && { variant }) }
    : { os: 'linux', architecture: machines[os] ?? os };
}

/**
 * Runs `work`; its first line sends the head, so that what goes wrong before is an answer with a status, as in Docker.
 */
async function progress(call: Call, work: (report: Report, signal: AbortSignal) => Promise<void>): Promise<void> {
  const gone = new AbortController();
  const { raw } = call.reply;
  raw.on('close', () => raw.writableFinished || gone.abort(new Error('context canceled')));
  const lines: string[] = [];
  let wake = (): void => undefined;
  let ended = false;
  const done = work((each) => {
    lines.push(progressLine(each));
    wake();
  }, gone.signal).finally(() => {
    ended = true;
    wake();
  });
  done.catch(() => undefined);
  const more = async (): Promise<void> => {
    if (lines.length === 0 && !ended) await new Promise<void>((resolve) => (wake = resolve));
  };
  await more();
  if (lines.length === 0) return done;
  await call.stream(
    'application/json',
    async (write) => {
      for (await more(); lines.length > 0; await more()) await write(lines.shift()!);
      await done.catch((error: unknown) => write(errorLine(messageOf(error))));
    },
    gone,
  );
}
