/** Docker's distribution metadata: which blobs and manifests in registries correspond to local layers and images. */
import type { Db } from './database.ts';

/** A layer as stored in a registry. */
export interface BlobRow {
  diffId: string;
  digest: string;
  mediaType: string;
  size: number;
  /** A repository that contains it: `docker.io/library/busybox`. */
  repository: string;
}

export interface ManifestRow {
  digest: string;
  imageId: string;
  mediaType: string;
  /** The bytes that `digest` is the hash of. */
  bytes: Buffer;
}

export class DistributionRows {
  readonly #add;
  readonly #forget;
  readonly #ofLayer;
  readonly #knows;
  readonly #isBlobOf;
  readonly #addManifest;
  readonly #ofImage;
  readonly #sweep;

  constructor(db: Db) {
    this.#add = db.prepare(
      'INSERT INTO blobs (diff_id, digest, media_type, size, repository) VALUES (@diffId, @digest, @mediaType, @size, @repository) ON CONFLICT DO UPDATE SET media_type = excluded.media_type, size = excluded.size',
    );
    this.#forget = db.prepare(
      'DELETE FROM blobs WHERE diff_id = @diffId AND digest = @digest AND repository = @repository',
    );
    this.#ofLayer = db.prepare(
      'SELECT diff_id AS diffId, digest, media_type AS mediaType, size, repository FROM blobs WHERE diff_id = ? ORDER BY rowid DESC',
    );
    this.#knows = db.prepare('SELECT 1 FROM blobs WHERE digest = ? LIMIT 1').pluck();
    this.#isBlobOf = db.prepare('SELECT 1 FROM blobs WHERE digest = ? AND diff_id = ? LIMIT 1').pluck();
    this.#addManifest = db.prepare(
      'INSERT INTO manifests (digest, image_id, media_type, bytes) VALUES (@digest, @imageId, @mediaType, @bytes) ON CONFLICT DO NOTHING',
    );
    this.#ofImage = db.prepare(
      'SELECT digest, image_id AS imageId, media_type AS mediaType, bytes FROM manifests WHERE image_id = ? ORDER BY rowid DESC',
    );
    this.#sweep = db.prepare(
      "DELETE FROM blobs WHERE diff_id NOT IN (SELECT diff_id FROM layers WHERE phase = 'ready')",
    );
  }

  add = (row: BlobRow): void => void this.#add.run(row);
  /** The repository no longer contains the blob. */
  forget = (row: BlobRow): void => void this.#forget.run(row);
  /** Newest first. */
  ofLayer = (diffId: string): BlobRow[] => this.#ofLayer.all(diffId) as BlobRow[];
  /** Whether a local layer was downloaded as this blob. */
  knows = (digest: string): boolean => this.#knows.get(digest) !== undefined;
  /** Whether the layer was downloaded or uploaded as this blob. */
  isBlobOf = (digest: string, diffId: string): boolean => this.#isBlobOf.get(digest, diffId) !== undefined;
  addManifest = (row: ManifestRow): void => void this.#addManifest.run(row);
  /** Newest first. Deleted together with the image. */
  ofImage = (imageId: string): ManifestRow[] => this.#ofImage.all(imageId) as ManifestRow[];
  /** Deletes the blobs of layers that no longer exist. */
  sweep = (): void => void this.#sweep.run();
}
