/** CVE-2021-41190: one document must not be an image to one reader and an index to another. */
import { expect, test } from 'vitest';
import { parseManifest } from '../../src/engine/images/registry/manifest.ts';
import { MalformedResponse } from '../../src/engine/images/registry/failure.ts';

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const INDEX = 'application/vnd.oci.image.index.v1+json';
const digest = `sha256:${'a'.repeat(64)}`;
const config = { mediaType: 'application/vnd.oci.image.config.v1+json', digest, size: 2 };
const manifests = [{ mediaType: MANIFEST, digest, size: 2, platform: { os: 'linux', architecture: 'amd64' } }];

test.each([
  ['with a configuration and manifests', { config, manifests }],
  ['with layers and manifests', { layers: [], manifests }],
  ['with all three', { config, layers: [], manifests }],
])('a document %s is refused whatever its type [manifest-ambiguous]', (_name, fields) => {
  for (const type of [MANIFEST, INDEX, 'application/json'])
    for (const mediaType of [MANIFEST, INDEX, undefined]) {
      const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...fields }));
      expect(() => parseManifest(bytes, type, 'app')).toThrow(MalformedResponse);
    }
});
