/** Checks of the registry settings. Each returns the value to use. @throws ConfigError */
import { ConfigError } from './error.ts';

export function checkMirror(mirror: string): string {
  const invalid = (why: string): ConfigError =>
    new ConfigError(`invalid registry mirror ${JSON.stringify(mirror)}: ${why}`);
  if (!URL.canParse(mirror)) throw invalid('it is not a URL');
  const url = new URL(mirror);
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw invalid(`${url.protocol.slice(0, -1)} is not http or https`);
  if (url.search || url.hash) throw invalid('it has a query or a fragment');
  if (url.username || url.password) throw invalid('it contains a user or a password');
  return mirror.endsWith('/') ? mirror : `${mirror}/`;
}

export function checkInsecureRegistry(registry: string): string {
  if (registry.includes('://')) throw new ConfigError(`insecure registry ${registry} should not contain '://'`);
  if (registry.startsWith('-') || registry.endsWith('-') || registry === '')
    throw new ConfigError(`invalid insecure registry ${JSON.stringify(registry)}`);
  return registry;
}
