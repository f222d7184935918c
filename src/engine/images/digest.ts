/** Digests, and chain IDs of layers (OCI image-spec, config.md, "Layer ChainID"). */
import { createHash } from 'node:crypto';

/** `sha256:` and the digest in hex. */
export const sha256 = (bytes: string | Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** Identifies a layer together with all layers below it; `below` is their chain ID, '' for none. */
export const chainId = (below: string, diffId: string): string => (below ? sha256(`${below} ${diffId}`) : diffId);

/** The chain IDs of all layers, lowest first. */
export function chainIds(diffIds: string[]): string[] {
  const chains: string[] = [];
  for (const diffId of diffIds) chains.push(chainId(chains.at(-1) ?? '', diffId));
  return chains;
}
