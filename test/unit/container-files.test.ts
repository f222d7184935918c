import { readdirSync } from 'node:fs';
import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { ContainerFiles, type FileDeps } from '../../src/engine/files/container-files.ts';
import type { Container } from '../../src/model/container.ts';

/** Takes this process for the container's: same root, and a mount namespace that can be opened. */
const container = {
  id: 'c',
  phase: 'ready',
  state: { status: 'running', pid: process.pid },
  config: { User: 'no-such-user' },
  hostConfig: { ReadonlyRootfs: false },
  mounts: [],
} as unknown as Container;

test('a copy that fails before its worker starts leaves no descriptor open and releases the rootfs', async () => {
  let held = 0;
  const files = new ContainerFiles({
    script: '/nonexistent',
    paths: { rootfs: () => '/', container: () => '/nonexistent' },
    snapshots: {
      pinMount: () => {
        held++;
        return () => held--;
      },
    },
  } as unknown as FileDeps);
  const options = { noOverwriteDirNonDir: false, copyUIDGID: true };
  const attempt = (): Promise<void> => files.unpack(container, 'c', '/', Readable.from([]), options);
  const open = (): string[] => readdirSync('/proc/self/fd');
  await expect(attempt()).rejects.toThrow('unable to find user no-such-user');
  const before = open().length;
  for (let i = 0; i < 5; i++) await expect(attempt()).rejects.toThrow('unable to find user no-such-user');
  expect(open().length).toBe(before);
  expect(held).toBe(0);
});
