/** The schemas of openapi.yaml as types, so that tsc checks responses against them. */
import type { components } from '../openapi.d.ts';

export type Schemas = components['schemas'];

/** Whether the request's API version is `version` or newer. */
export type Supports = (version: string) => boolean;
