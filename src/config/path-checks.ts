/** Checks of paths and of the API's addresses. Each returns the value to use. @throws ConfigError */
import { isAbsolute, normalize } from 'node:path';
import { ConfigError } from './error.ts';

/** sun_path has 108 bytes, the last of which is NUL. unix(7) */
const MAX_SOCKET_PATH = 107;
/** A container's control socket is EXEC-ROOT/c/ID/ctl, with 16 digits of the id. */
const CONTAINER_SOCKET_SUFFIX = '/c/'.length + 16 + '/ctl'.length;
/** Bytes. */
export const MAX_EXEC_ROOT = MAX_SOCKET_PATH - CONTAINER_SOCKET_SUFFIX;

export function absolute(key: string, path: string): string {
  if (!isAbsolute(path)) throw new ConfigError(`invalid ${key}: ${JSON.stringify(path)} must be an absolute path`);
  return path;
}

/** The root directory, normalized. */
export function checkRoot(key: string, path: string): string {
  const clean = normalize(absolute(key, path)).replace(/(.)\/$/, '$1');
  // overlayfs separates its lower directories by colons and its options by commas.
  if (/[:,\s"\\]/.test(clean))
    throw new ConfigError(
      `invalid ${key}: ${JSON.stringify(path)} must not contain white space, quotes, backslashes, colons or commas`,
    );
  return clean;
}

/** Checks the two roots against each other, and that socket paths below the exec-root fit. */
export function checkRoots(dataRoot: string, execRoot: string): void {
  const within = (inner: string, outer: string): boolean => `${inner}/`.startsWith(`${outer}/`);
  if (within(dataRoot, execRoot) || within(execRoot, dataRoot))
    throw new ConfigError(
      `data-root ${dataRoot} and exec-root ${execRoot} must not be the same directory, nor one inside the other`,
    );
  const length = Buffer.byteLength(execRoot);
  if (length > MAX_EXEC_ROOT)
    throw new ConfigError(
      `invalid exec-root: ${execRoot} has ${length} bytes, and ${MAX_EXEC_ROOT} is the most: socket paths below it are limited to ${MAX_SOCKET_PATH} bytes`,
    );
}

/** @param fallback the socket that `unix://` without a path means */
export function checkHost(host: string, fallback: string): string {
  if (host.startsWith('fd://')) return host;
  const invalid = (why: string): ConfigError => new ConfigError(`invalid host ${JSON.stringify(host)}: ${why}`);
  if (!host.startsWith('unix://')) {
    const [scheme] = /^[a-z]+:\/\//.exec(host) ?? [];
    throw invalid(scheme ? `${scheme} is not served, only unix:// and fd://` : 'it must begin with unix:// or fd://');
  }
  const path = host.slice('unix://'.length) || fallback;
  if (!isAbsolute(path)) throw invalid("the socket's path must be absolute, as in unix:///run/holdfast/holdfast.sock");
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH)
    throw invalid(`the socket's path is longer than ${MAX_SOCKET_PATH} bytes`);
  return `unix://${path}`;
}
