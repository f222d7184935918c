/**
 * The key of a step: equal keys mean equal results, on any day and from any client. It is made of the keys and contents
 * that the step depends on, not of times, labels or lines, so that a fresh checkout finds what was built before.
 */
import { createHash } from 'node:crypto';
import { exactJson } from '../../protocol/exact-json.ts';
import type { Copy, Mount, Node, Run, Source, Transfer } from './graph.ts';

/** To be changed when the same step comes to mean something else. */
const VERSION = 1;

/** What steps take files from, without the times of the files. */
export interface Contents {
  /** Digest of the files that a copy selects. */
  transfer(transfer: Transfer): Promise<string>;
  /** Digest of all files below `path`. */
  tree(source: Source, path: string): Promise<string>;
}

/** @param base the key of the node that this one is based on; '' if there is none */
export async function stepKey(node: Node, base: string, contents: Contents): Promise<string> {
  switch (node.kind) {
    case 'scratch':
      return digest(node.kind);
    case 'image':
      return digest(node.kind, node.id);
    case 'mkdir':
      return digest(node.kind, base, node.path, node.owner);
    case 'copy':
      return digest(node.kind, ...(await copyParts(node, base, contents)));
    case 'run':
      return digest(node.kind, base, await runParts(node, contents));
  }
}

async function copyParts(node: Copy, base: string, contents: Contents): Promise<unknown[]> {
  const { destination, owner, mode, isLinked } = node;
  const transfers = await Promise.all(
    node.transfers.map(async (transfer) => ({ unpack: transfer.unpack, files: await contents.transfer(transfer) })),
  );
  // A linked layer is the same on every base, unless names of users have to be looked up in it.
  const dependsOnBase = !isLinked || /[^0-9:]/.test(owner);
  return [dependsOnBase ? base : '', { destination, owner, mode, isLinked }, transfers];
}

async function runParts(
  { argv, env, user, directory, network, insecure, mounts }: Run,
  contents: Contents,
): Promise<object> {
  const sorted = [...env].sort();
  const parts = await Promise.all(mounts.map((mount) => mountParts(mount, contents)));
  return { argv, env: sorted, user, directory, network, insecure, mounts: parts };
}

// What a cache, a secret or an agent contains is not a part of the result.
async function mountParts(mount: Mount, contents: Contents): Promise<object> {
  switch (mount.type) {
    case 'bind': {
      const { type, target, readOnly } = mount;
      return { type, target, readOnly, files: await contents.tree(mount.source, mount.path) };
    }
    case 'cache': {
      const { type, target, id, sharing, owner, readOnly } = mount;
      return { type, target, id, sharing, owner, readOnly };
    }
    default:
      return mount;
  }
}

const digest = (...parts: unknown[]): string =>
  `sha256:${createHash('sha256')
    .update(exactJson([VERSION, ...parts]))
    .digest('hex')}`;
