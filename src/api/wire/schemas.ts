/** The schemas of openapi.yaml as types, so that tsc checks responses against them. */
import type { components } from '../openapi.d.ts';

/** The contract's types of a value: it has no type for integers beyond 2^53, of which `Call.json` writes all digits. */
export type Wire<T> = T extends bigint ? number : T extends object ? { [K in keyof T]: Wire<T[K]> } : T;

export const wire = <T>(value: T): Wire<T> => value as Wire<T>;

export type Schemas = components['schemas'];

/** Whether the request's API version is `version` or newer. */
export type Supports = (version: string) => boolean;
