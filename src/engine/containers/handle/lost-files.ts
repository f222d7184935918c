/** What a shim needs to take over a container, where its directory was deleted or a file in it damaged. */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Container } from '../../../model/container.ts';
import { SPEC_FILE } from '../../../protocol/paths.ts';
import type { ShimSpec } from '../../../protocol/spec.ts';
import { replaceFile } from '../../../sys/replace-file.ts';
import { shimSpec } from '../shim-spec.ts';
import type { HandleDeps } from './handle-deps.ts';

/**
 * Makes the directory, and spec.json of a container that has run, from the row. Returns whether anything was missing.
 * Does not invent the spec of a container whose row is damaged too.
 */
export function restoreFiles(c: Container, deps: Pick<HandleDeps, 'config' | 'paths'>): boolean {
  const directory = deps.paths.container(c.id);
  const wasMissing = mkdirSync(directory, { recursive: true, mode: 0o710 }) !== undefined;
  const needsSpec = c.state.gen > 0 && c.damaged === undefined && !isSpec(join(directory, SPEC_FILE), c.id);
  if (needsSpec) replaceFile(join(directory, SPEC_FILE), JSON.stringify(shimSpec(c, deps)));
  return wasMissing || needsSpec;
}

function isSpec(path: string, id: string): boolean {
  try {
    return (JSON.parse(readFileSync(path, 'utf8')) as Partial<ShimSpec> | null)?.id === id;
  } catch {
    return false;
  }
}
