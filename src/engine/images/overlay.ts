/** Overlay mounts (Linux Documentation/filesystems/overlayfs.rst). */
import { closeSync, constants, openSync } from 'node:fs';
import { mount } from '../../sys/mount.ts';
import { SystemFault } from '../../model/errors.ts';

/**
 * Without redirects and metadata-only copies, the upper directory is readable on its own (diff, commit); without an
 * index, a mount that leaked into another namespace does not make the next one fail.
 */
const OPTIONS = 'index=off,redirect_dir=off,metacopy=off';
/** mount(2) takes one page of options, including the NUL. */
const MAX_OPTIONS = 4095;
const O_PATH = 0o10000000;

/** The directories of a writable mount. */
export interface Writable {
  upper: string;
  work: string;
}

/**
 * Mounts the layers `lower` (topmost first) and `writable` above them; without it, read-only, which takes at least two
 * layers. Paths that are too long for the options, or contain separators, are replaced by descriptors.
 * @throws SystemFault when even descriptors are too long
 */
export function overlay(target: string, lower: string[], writable?: Writable): void {
  const options = optionsOf(lower, writable);
  const paths = [...lower, ...(writable ? [writable.upper, writable.work] : [])];
  const hasSeparator = paths.some((path) => /[,:\\]/.test(path));
  if (Buffer.byteLength(options) <= MAX_OPTIONS && !hasSeparator) {
    mount('overlay', target, 'overlay', 0, options);
    return;
  }
  const open: number[] = [];
  const viaDescriptor = (path: string): string => {
    const fd = openSync(path, O_PATH | constants.O_DIRECTORY);
    open.push(fd);
    return `/proc/self/fd/${fd}`;
  };
  try {
    const short = optionsOf(
      lower.map(viaDescriptor),
      writable && { upper: viaDescriptor(writable.upper), work: viaDescriptor(writable.work) },
    );
    if (short.length > MAX_OPTIONS)
      throw new SystemFault(`an image of ${lower.length} layers cannot be mounted: too many layers`);
    mount('overlay', target, 'overlay', 0, short);
  } finally {
    open.forEach((fd) => closeSync(fd));
  }
}

const optionsOf = (lower: string[], writable?: Writable): string =>
  `${OPTIONS},lowerdir=${lower.join(':')}${writable ? `,upperdir=${writable.upper},workdir=${writable.work}` : ''}`;
