/** JSON of registries' responses. */
import type { Descriptor, Platform } from '../../engine/images/registry/manifest.ts';
import type { SearchResult } from '../../engine/images/registry/registries.ts';
import type { Schemas } from './schemas.ts';

export const loggedIn = (identityToken: string): Schemas['AuthResponse'] => ({
  Status: 'Login Succeeded',
  IdentityToken: identityToken || undefined,
});

export const distributionInspect = (found: {
  descriptor: Descriptor;
  platforms: Platform[];
}): Schemas['DistributionInspect'] => ({ Descriptor: found.descriptor, Platforms: found.platforms });

/** An item of GET /images/search. */
export const searchResult = (found: SearchResult): Schemas['ImageSearchResult'] => ({
  star_count: found.starCount,
  is_official: found.isOfficial,
  name: found.name,
  is_automated: found.isAutomated,
  description: found.description,
});
