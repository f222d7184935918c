/** What registries answered, as Docker's JSON. */
import type { Descriptor, Platform } from '../../engine/images/registry/manifest.ts';
import type { SearchResult } from '../../engine/images/registry/registries.ts';
import type { Schemas } from './schemas.ts';

export const loggedIn = (identityToken: string): Schemas['AuthResponse'] => ({
  Status: 'Login Succeeded',
  ...(identityToken !== '' && { IdentityToken: identityToken }),
});

export const distributionInspect = ({
  descriptor,
  platforms,
}: {
  descriptor: Descriptor;
  platforms: Platform[];
}): Schemas['DistributionInspect'] => ({ Descriptor: descriptor, Platforms: platforms });

/** An item of GET /images/search. */
export const searchResult = ({
  name,
  description,
  starCount,
  isOfficial,
  isAutomated,
}: SearchResult): Schemas['ImageSearchResult'] => ({
  star_count: starCount,
  is_official: isOfficial,
  name,
  is_automated: isAutomated,
  description,
});
