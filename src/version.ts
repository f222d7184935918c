/** Set by the bundler from package.json. */
declare const HOLDFAST_VERSION: string | undefined;

export const VERSION = typeof HOLDFAST_VERSION === 'undefined' ? '0.0.0-dev' : HOLDFAST_VERSION;

/** The newest supported API version: 1.52 removes NetworkSettings.IPAddress, also for clients that never negotiate. */
export const API_VERSION = '1.51';
export const MIN_API_VERSION = '1.24';
