/**
 * Whiteouts: how a layer hides files of the layers below. Archives use special names (OCI image-spec, layer.md),
 * overlayfs a 0:0 character device and an extended attribute (Linux Documentation/filesystems/overlayfs.rst).
 */
import type { Stats } from 'node:fs';

/** Prefix of a hidden file's name in an archive. */
export const WHITEOUT = '.wh.';
/** In an archive, a file in an opaque directory: it hides everything the layers below have in it. */
export const OPAQUE = '.wh..wh..opq';
/** `y` on an opaque directory on disk. */
export const OPAQUE_XATTR = 'trusted.overlay.opaque';

/** Whether a file on disk is a whiteout. */
export const isWhiteout = (found: Stats): boolean => found.isCharacterDevice() && found.rdev === 0;
