/**
 * How a layer says that what the layers below have is gone: in an archive by names that begin so, on disk by
 * overlayfs's marks.
 */
import type { Stats } from 'node:fs';

export const WHITEOUT = '.wh.';
/** In a directory of which nothing below counts. */
export const OPAQUE = '.wh..wh..opq';
/** On such a directory. */
export const OPAQUE_XATTR = 'trusted.overlay.opaque';

/** The mark for a name that is gone. */
export const isWhiteout = (found: Stats): boolean => found.isCharacterDevice() && found.rdev === 0;
