/** The mounts of RUN, with BuildKit's defaults (frontend/dockerfile/dockerfile2llb/convert_runmount.go). */
import { posix } from 'node:path';
import { InvalidParameter } from '../../model/errors.ts';
import type { RunMount } from '../dockerfile/run-mount.ts';
import type { Mount, Source } from './graph.ts';

const SECRETS = '/run/secrets/';
const SSH_SOCKET = '/run/buildkit/ssh_agent.';
const SECRET_MODE = 0o400;
const SSH_MODE = 0o600;
const CACHE_MODE = 0o755;

/**
 * @param source what `from` names; undefined if it is not given
 * @param directory the working directory
 * @throws InvalidParameter
 */
export function mountOf(mount: RunMount, source: Source | undefined, directory: string): Mount {
  const { type, id, readOnly, required, size, uid = 0, gid = 0, mode } = mount;
  if (type === 'secret') return secret(mount, directory);
  if (type === 'ssh') {
    const target = mount.target === '' ? `${SSH_SOCKET}0` : posix.resolve('/', directory, mount.target);
    return { type, target, id: id || 'default', required, uid, gid, mode: mode ?? SSH_MODE };
  }
  const target = posix.resolve('/', directory, mount.target);
  if (target === '/') throw new InvalidParameter(`invalid mount target ${JSON.stringify(target)}`);
  if (type === 'tmpfs') return { type, target, size };
  const path = posix.resolve('/', mount.source);
  if (type === 'bind') return { type, target, source: source ?? { kind: 'context', name: '' }, path, readOnly };
  const owner = { uid, gid, mode: mode ?? CACHE_MODE };
  return { type, target, source, path, id: id || target, sharing: mount.sharing || 'shared', owner, readOnly };
}

function secret(
  { source, target: given, id: givenId, env, required, uid = 0, gid = 0, mode }: RunMount,
  directory: string,
): Mount {
  const id = givenId || source || posix.basename(given) || (env ?? '');
  // With a variable alone there is no file.
  const isFile = given !== '' || env === undefined;
  const name = given === '' ? SECRETS + posix.basename(id) : posix.resolve('/', directory, given);
  return {
    type: 'secret',
    target: isFile ? name : '',
    env: env ?? '',
    id,
    required,
    uid,
    gid,
    mode: mode ?? SECRET_MODE,
  };
}
