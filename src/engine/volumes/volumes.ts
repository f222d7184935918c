/** Volumes of the local driver. */
export interface Volume {
  name: string;
  driver: string;
  created: string;
  mountpoint: string;
  labels: Record<string, string>;
  options: Record<string, string>;
  anonymous: boolean;
}

export class Volumes {
  create(_request: { name: string; driver: string; labels: Record<string, string>; options: Record<string, string> }): Promise<Volume> { throw new Error('unwritten'); }
  resolve(_name: string): Volume { throw new Error('unwritten'); }
  list(): Volume[] { throw new Error('unwritten'); }
  remove(_name: string, _options: { force: boolean }): Promise<void> { throw new Error('unwritten'); }
  /** Fills an empty volume with what the image has at `destination` (copy-up). */
  copyUp(_volume: Volume, _rootfs: string, _destination: string): Promise<void> { throw new Error('unwritten'); }
}
