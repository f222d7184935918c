/** What is known of images' and layers' forms in registries: Docker's distribution metadata. */
import type { Db } from './database.ts';

/** A layer as a registry has it. */
export interface BlobRow {
  diffId: string;
  digest: string;
  mediaType: string;
  size: number;
  /** Where it was seen: `docker.io/library/busybox`. */
  repository: string;
}

export interface ManifestRow {
  digest: string;
  imageId: string;
  mediaType: string;
  /** As hashed. */
  bytes: Buffer;
}

export class DistributionRows {
  readonly #add;
  readonly #forget;
  readonly #ofLayer;
  readonly #knows;
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
  /** It is there no more. */
  forget = (row: BlobRow): void => void this.#forget.run(row);
  /** The latest first. */
  ofLayer = (diffId: string): BlobRow[] => this.#ofLayer.all(diffId) as BlobRow[];
  /** Whether a layer that came by this blob is here. */
  knows = (digest: string): boolean => this.#knows.get(digest) !== undefined;
  addManifest = (row: ManifestRow): void => void this.#addManifest.run(row);
  /** The latest first. They go with the image. */
  ofImage = (imageId: string): ManifestRow[] => this.#ofImage.all(imageId) as ManifestRow[];
  /** Takes away what is known of layers that are gone. */
  sweep = (): void => void this.#sweep.run();
}
