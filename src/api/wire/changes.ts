/** A container's changes as Docker's JSON. */
import type { Change } from '../../engine/images/upper-diff.ts';
import type { components } from '../openapi.d.ts';

/** null when there are none: Go's encoding of a nil slice. */
export const filesystemChanges = (changes: Change[]): components['schemas']['FilesystemChange'][] | null =>
  changes.length > 0
    ? changes.map(({ path, kind }) => ({ Path: Buffer.from(path, 'latin1').toString(), Kind: kind }))
    : null;
