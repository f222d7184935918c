/** Images: import, load, list, tag, remove. */
import type { Readable } from 'node:stream';
import type { Image } from './image.ts';

export interface ImageFilters {
  dangling?: boolean;
  labels: string[];
  references: string[];
  before?: string;
  since?: string;
  until?: string[];
}

export type Deletion = { Untagged: string } | { Deleted: string };

export class Images {
  /** By id, id prefix or name. @throws NotFound `No such image: NAME:TAG`, InvalidParameter `invalid reference format` */
  resolve(_reference: string): Image { throw new Error('unwritten'); }
  find(_reference: string): Image | undefined { throw new Error('unwritten'); }
  list(_filters: ImageFilters, _options: { all: boolean }): Image[] { throw new Error('unwritten'); }
  /** A rootfs tar (any compression) becomes a one-layer image. */
  import(_archive: Readable, _options: { repo: string; tag: string; message: string; changes: string[]; platform?: string }): Promise<Image> { throw new Error('unwritten'); }
  /** A docker-archive (any compression, several images). Yields Docker's lines: `Loaded image: x:1`. */
  load(_archive: Readable): AsyncIterable<string> { throw new Error('unwritten'); }
  tag(_reference: string, _repo: string, _tag: string): Promise<void> { throw new Error('unwritten'); }
  remove(_reference: string, _options: { force: boolean; noprune: boolean }): Promise<Deletion[]> { throw new Error('unwritten'); }
  history(_reference: string): { Id: string; Created: number; CreatedBy: string; Tags: string[] | null; Size: number; Comment: string }[] { throw new Error('unwritten'); }
}
