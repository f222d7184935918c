/** Reading resolv.conf. */
import { isIP } from 'node:net';

/** The settings of resolv.conf(5). */
export interface ResolverSettings {
  servers: string[];
  search: string[];
  options: string[];
}

/** As in Docker, for hosts without a server that a container could reach. */
export const PUBLIC_SERVERS = ['8.8.8.8', '8.8.4.4'];

/** resolv.conf(5): the last `search` counts, `options` add up. */
export function parseResolvConf(text: string): ResolverSettings & { other: string[] } {
  const result: ResolverSettings & { other: string[] } = { servers: [], search: [], options: [], other: [] };
  for (const line of text.split('\n')) {
    const [keyword, ...values] = line.trim().split(/\s+/);
    if (!keyword || keyword.startsWith('#') || keyword.startsWith(';')) continue;
    if (keyword === 'nameserver')
      result.servers.push(...values.slice(0, 1).filter((server) => isIP(server.replace(/%.*$/, ''))));
    else if (keyword === 'search' || keyword === 'domain') result.search = values.length > 0 ? values : result.search;
    else if (keyword === 'options') result.options.push(...values);
    else result.other.push(line);
  }
  return result;
}
