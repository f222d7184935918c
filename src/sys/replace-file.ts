/** Atomic replacement of files. */
import { closeSync, fsyncSync, openSync, renameSync, writeFileSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { faultPoint } from './fault.ts';
import { syncDirectory } from './file.ts';

/** Replaces a file atomically and durably: after a crash it has the old or the new content. */
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

/** As replaceFile(), without blocking the event loop while the disk works. */
export async function replaceFileAsync(path: string, text: string): Promise<void> {
  const draft = `${path}.new`;
  await openAndSync(draft, 'w', (file) => file.writeFile(text));
  faultPoint('rename.before');
  renameSync(draft, path);
  faultPoint('rename.after');
  await openAndSync(dirname(path), 'r');
}

async function openAndSync(path: string, flags: 'w' | 'r', write?: (file: FileHandle) => Promise<void>): Promise<void> {
  const file = await open(path, flags, 0o600);
  try {
    await write?.(file);
    await file.sync();
  } finally {
    await file.close();
  }
}
