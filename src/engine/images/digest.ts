/** Digests and the chain of layers. */
import { createHash } from 'node:crypto';

export const sha256 = (bytes: string | Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** Names a layer together with all below it. OCI image-spec, config.md. */
export const chainId = (below: string, diffId: string): string => (below ? sha256(`${below} ${diffId}`) : diffId);

/** The chain IDs of all layers, lowest first. */
export function chainIds(diffIds: string[]): string[] {
  const chains: string[] = [];
  for (const diffId of diffIds) chains.push(chainId(chains.at(-1) ?? '', diffId));
  return chains;
}
