/**
 * A build as a graph: every node stands for a file system, made from those it refers to. Nodes say what is to be done,
 * and nothing of how; two nodes with the same content are the same step.
 */
import type { LineRange } from '../dockerfile/dockerfile-error.ts';
import type { Sharing } from '../dockerfile/run-mount.ts';

export interface Platform {
  os: string;
  architecture: string;
  variant?: string;
}

/** What the user sees of a node. */
export interface Shown {
  /** `[build 2/5] RUN make`. */
  label: string;
  lines: LineRange;
}

export type Node = Scratch | BaseImage | Run | Copy | MakeDirectory;

/** No files. */
export interface Scratch {
  kind: 'scratch';
}

/** The files of an image that is stored here. */
export interface BaseImage {
  kind: 'image';
  /** Digest of its configuration. */
  id: string;
  shown: Shown;
}

/** A command that is run in a container on `base`. */
export interface Run {
  kind: 'run';
  base: Node;
  argv: string[];
  /** `NAME=value`, with the arguments that are visible. */
  env: string[];
  user: string;
  directory: string;
  mounts: Mount[];
  network: 'default' | 'none' | 'host';
  insecure: boolean;
  /** Does not enter the key. */
  proxy: Record<string, string>;
  ignoreCache: boolean;
  shown: Shown;
}

/** Where a file comes from. */
export type Source =
  | { kind: 'node'; node: Node }
  /** Files that the client has: the main context, or one given by name. */
  | { kind: 'context'; name: string }
  /** A heredoc. */
  | { kind: 'inline'; name: string; content: string; mode: number }
  | { kind: 'http'; url: string; name: string; checksum: string }
  | { kind: 'git'; url: string; keepGitDir: boolean; checksum: string };

export type Mount =
  | { type: 'bind'; target: string; source: Source; path: string; readOnly: boolean }
  | {
      type: 'cache';
      target: string;
      /** What is in it at first. */
      source: Source | undefined;
      path: string;
      id: string;
      sharing: Sharing;
      owner: { uid: number; gid: number; mode: number };
      readOnly: boolean;
    }
  | { type: 'tmpfs'; target: string; size: number | undefined }
  | {
      type: 'secret';
      target: string;
      env: string;
      id: string;
      required: boolean;
      uid: number;
      gid: number;
      mode: number;
    }
  | { type: 'ssh'; target: string; id: string; required: boolean; uid: number; gid: number; mode: number };

/** Files of one source that are copied. */
export interface Transfer {
  source: Source;
  /** Absolute in the source; may have wildcards if `isPattern`. */
  path: string;
  isPattern: boolean;
  /** Only what matches, with its directories (`COPY --parents`); undefined: everything. */
  include: string | undefined;
  /** `path` must exist. */
  required: boolean;
  exclude: string[];
  unpack: boolean;
}

/** Files that are added to `base`. */
export interface Copy {
  kind: 'copy';
  base: Node;
  transfers: Transfer[];
  /** Absolute; a slash at its end makes it a directory. */
  destination: string;
  /** `user:group`, looked up in `base`; '' is root. */
  owner: string;
  /** Octal or symbolic; '' keeps the source's. */
  mode: string;
  /** The layer does not depend on `base` (`--link`). */
  isLinked: boolean;
  ignoreCache: boolean;
  shown: Shown;
}

/** WORKDIR. */
export interface MakeDirectory {
  kind: 'mkdir';
  base: Node;
  path: string;
  /** `user:group`; '' is root. */
  owner: string;
  shown: Shown;
}
