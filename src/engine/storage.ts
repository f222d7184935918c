/** Facts about the data root's file system and overlayfs for `docker info`. */
import { readFileSync, statfsSync } from 'node:fs';
import { supportsDType } from '../sys/file.ts';

export interface StorageFacts {
  driver: 'overlay2';
  /** Docker's name of the data root's file system; `<unknown>` if Docker has none. */
  backing: string;
  /** Whether readdir(3) reports file types (d_type), which overlayfs requires. */
  supportsDType: boolean;
  /** Whether an upper layer contains exactly the changed files. */
  nativeDiff: boolean;
}

/** dockerd's names of the types of statfs(2). */
const NAMES: Record<number, string> = {
  0x9123683e: 'btrfs',
  0xef53: 'extfs',
  0x58465342: 'xfs',
  0x01021994: 'tmpfs',
  0x2fc12fc1: 'zfs',
  0x794c7630: 'overlayfs',
  0x52654973: 'reiserfs',
  0x3153464a: 'jfs',
  0x858458f6: 'ramfs',
  0x6969: 'nfs',
  0x65735546: 'fuse',
  0xf2f52010: 'f2fs',
  0xca451a4e: 'bcachefs',
  0xf15f: 'ecryptfs',
};

export function storageFacts(dataRoot: string): StorageFacts {
  return {
    driver: 'overlay2',
    backing: NAMES[statfsSync(dataRoot).type] ?? '<unknown>',
    supportsDType: supportsDType(dataRoot),
    // With redirect_dir or metacopy the upper layer may hold only a reference to a lower directory or file
    // (Documentation/filesystems/overlayfs.rst).
    nativeDiff: !isOn('redirect_dir') && !isOn('metacopy'),
  };
}

function isOn(parameter: string): boolean {
  try {
    return readFileSync(`/sys/module/overlay/parameters/${parameter}`, 'latin1').startsWith('Y');
  } catch {
    return false;
  }
}
