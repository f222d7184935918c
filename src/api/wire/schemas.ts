/** The contract's schemas as types: what the functions here return is checked against openapi.yaml by tsc. */
import type { components } from '../openapi.d.ts';

export type Schemas = components['schemas'];

/** Whether the client speaks this API version or a newer one. */
export type Speaks = (version: string) => boolean;
