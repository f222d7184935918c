/** A container's writable layer over its image's: overlayfs. */
export class Snapshots {
  /** Makes upper and work in the container's directory. Repeatable. */
  prepare(_containerId: string): void { throw new Error('unwritten'); }
  /** Mounts the container's rootfs at `paths.rootfs(id)`. Repeatable: a mount that is there is left. */
  mount(_containerId: string, _chains: string[]): void { throw new Error('unwritten'); }
  unmount(_containerId: string): void { throw new Error('unwritten'); }
  /** Bytes in the writable layer. */
  sizeRw(_containerId: string): Promise<number> { throw new Error('unwritten'); }
  /** Docker's GraphDriver object. */
  describe(_containerId: string, _chains: string[]): { Name: string; Data: Record<string, string> } { throw new Error('unwritten'); }
}
