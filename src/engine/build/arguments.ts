/** Build arguments: those before the first FROM, those of the platform, and those every build may be given. */
import { atLines } from '../dockerfile/dockerfile-error.ts';
import type { Dockerfile } from '../dockerfile/dockerfile.ts';
import { expandWord } from '../dockerfile/words.ts';
import type { Platform } from './graph.ts';

/** May be given without ARG, and do not enter keys or the image's history. */
const PROXIES = ['http_proxy', 'https_proxy', 'ftp_proxy', 'no_proxy', 'all_proxy'];

export const formatPlatform = ({ os, architecture, variant }: Platform): string =>
  [os, architecture, ...(variant ? [variant] : [])].join('/');

/** TARGETPLATFORM and the like, for FROM and for stages that declare them. */
export function platformArguments(target: Platform, build: Platform, stage: string): Map<string, string> {
  const of = (name: string, platform: Platform): [string, string][] => [
    [`${name}PLATFORM`, formatPlatform(platform)],
    [`${name}OS`, platform.os],
    [`${name}OSVERSION`, ''],
    [`${name}ARCH`, platform.architecture],
    [`${name}VARIANT`, platform.variant ?? ''],
  ];
  return new Map([...of('BUILD', build), ...of('TARGET', target), ['TARGETSTAGE', stage || 'default']]);
}

/**
 * The arguments of the whole file with their values: the given ones, else the defaults. One without either has none.
 * @param predefined what platformArguments() says
 * @throws DockerfileError
 */
export function globalArguments(
  file: Dockerfile,
  given: ReadonlyMap<string, string>,
  predefined: ReadonlyMap<string, string>,
): Map<string, string> {
  const values = new Map([...predefined].map(([name, value]) => [name, given.get(name) ?? value]));
  for (const { instruction, arguments: declared } of file.globalArguments)
    atLines(instruction.lines, () => {
      for (const { key, value } of declared) {
        const known =
          given.get(key) ?? (value === undefined ? undefined : expandWord(value, values, { escape: file.escape }));
        if (known !== undefined) values.set(key, known);
      }
    });
  return values;
}

/** The proxies among the given arguments, as the environment of RUN has them: in both cases. */
export function proxyEnvironment(given: ReadonlyMap<string, string>): Record<string, string> {
  const proxies: Record<string, string> = {};
  for (const [name, value] of [...given].sort(([a], [b]) => (a < b ? -1 : 1)))
    if (PROXIES.includes(name.toLowerCase())) {
      proxies[name.toUpperCase()] = value;
      proxies[name.toLowerCase()] = value;
    }
  return proxies;
}
