/** Names of the files that daemon and shim share, relative to a container's two directories. */

/** In the container's directory (data root). */
export const SPEC_FILE = 'spec.json';
export const JOURNAL_FILE = 'journal';
export const LOCK_FILE = 'lock';
export const SHIM_LOG_FILE = 'shim.log';

/** In its run directory (exec root). */
export const CTL_SOCKET = 'ctl';
export const FD_SOCKET = 'fd';
/** See bell-format.ts. */
export const BELL_FILE = 'bell';
/** `GENERATION.keeper`: JSON that names the keeper's process by `pid` and `startTime`. */
export const KEEPER_SUFFIX = '.keeper';
