/** Layers laid over each other. overlayfs, Documentation/filesystems/overlayfs.rst. */
import { closeSync, constants, openSync } from 'node:fs';
import { mount } from '../../sys/mount.ts';
import { SystemFault } from '../../model/errors.ts';

/**
 * The upper layer stays readable on its own (`docker diff`, commit), and a mount that leaked elsewhere does not block
 * the next.
 */
const OPTIONS = 'index=off,redirect_dir=off,metacopy=off';
/** mount(2) takes one page of options, with its NUL. */
const MAX_OPTIONS = 4095;
const O_PATH = 0o10000000;

/** Where what is written goes. */
export interface Writable {
  upper: string;
  work: string;
}

/**
 * Mounts `lower` (topmost first) and, above them, what is writable; read-only without, and then of two layers at least.
 * Where the names are too long for the options, or have what means something in them, descriptors stand for them.
 */
export function overlay(target: string, lower: string[], writable?: Writable): void {
  const options = optionsOf(lower, writable);
  const paths = [...lower, ...(writable ? [writable.upper, writable.work] : [])];
  if (Buffer.byteLength(options) <= MAX_OPTIONS && !paths.some((path) => /[,:\\]/.test(path)))
    return mount('overlay', target, 'overlay', 0, options);
  const open: number[] = [];
  const stand = (path: string): string => {
    open.push(openSync(path, O_PATH | constants.O_DIRECTORY));
    return `/proc/self/fd/${open.at(-1)}`;
  };
  try {
    const short = optionsOf(lower.map(stand), writable && { upper: stand(writable.upper), work: stand(writable.work) });
    if (short.length > MAX_OPTIONS)
      throw new SystemFault(`an image of ${lower.length} layers cannot be mounted: too many layers`);
    mount('overlay', target, 'overlay', 0, short);
  } finally {
    open.forEach((fd) => closeSync(fd));
  }
}

const optionsOf = (lower: string[], writable?: Writable): string =>
  `${OPTIONS},lowerdir=${lower.join(':')}${writable ? `,upperdir=${writable.upper},workdir=${writable.work}` : ''}`;
