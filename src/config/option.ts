/** An option of the daemon: a flag, an environment variable and a key of daemon.json. Names are dockerd's, if any. */
import type { Kind } from './kinds.ts';

export interface Option {
  /** The key in daemon.json. */
  key: string;
  flag: string;
  short?: string;
  kind: Kind;
  /** Placeholder for the value in --help. */
  value?: string;
  help?: string;
  /** Not allowed in daemon.json. */
  flagOnly?: boolean;
  inert?: Inert;
}

/** Marks an option of dockerd that has no effect here. */
export interface Inert {
  /** Why, for a warning in the log or, if `rejected`, for the error. */
  reason: string;
  /** The value that describes what the daemon does anyway; it is accepted silently. */
  actual?: unknown;
  /** Ignoring other values would drop a protection: they are an error, not a warning. */
  rejected?: true;
}

/** HOLDFAST_DATA_ROOT for --data-root. */
export const variableOf = ({ flag }: Option): string => `HOLDFAST_${flag.toUpperCase().replaceAll('-', '_')}`;
