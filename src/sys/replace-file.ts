/** Files that are replaced whole. */
import { closeSync, fsyncSync, openSync, renameSync, writeFileSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { faultPoint } from './fault.ts';
import { syncDirectory } from './file.ts';

/** Replaces a file whole: after a crash it is the old one or the new one. */
export function replaceFile(path: string, text: string): void {
  const draft = `${path}.new`;
  const fd = openSync(draft, 'w', 0o600);
  try {
    writeFileSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  faultPoint('rename.before');
  renameSync(draft, path);
  faultPoint('rename.after');
  syncDirectory(dirname(path));
}

/** The same, with the disk's work done in threads of Node's pool. */
export async function replaceFileAside(path: string, text: string): Promise<void> {
  const draft = `${path}.new`;
  await writeThrough(draft, (file) => file.writeFile(text));
  faultPoint('rename.before');
  renameSync(draft, path);
  faultPoint('rename.after');
  await writeThrough(dirname(path));
}

// What is written, or a directory's entries, is on disk when it resolves.
async function writeThrough(path: string, write?: (file: FileHandle) => Promise<void>): Promise<void> {
  const file = await open(path, write ? 'w' : 'r', 0o600);
  try {
    await write?.(file);
    await file.sync();
  } finally {
    await file.close();
  }
}
