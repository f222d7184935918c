/** The sources of ADD and COPY. */
import { posix } from 'node:path';
import { InvalidParameter } from '../../model/errors.ts';
import { heredocText } from '../dockerfile/heredoc.ts';
import type { Instruction } from '../dockerfile/instruction.ts';
import type { Source, Transfer } from './graph.ts';

type CopyInstruction = Extract<Instruction, { kind: 'ADD' | 'COPY' }>;

const HEREDOC_MODE = 0o644;
const UNNAMED = '__unnamed__';

/** @throws InvalidParameter */
export function transfersOf(copy: CopyInstruction, from: Source): Transfer[] {
  const checksum = copy.kind === 'ADD' ? copy.checksum : '';
  if (checksum !== '') checkChecksum(copy.sources);
  return [
    ...copy.sources.map((path) => transferOf(copy, path, from, checksum)),
    ...copy.heredocs.map((heredoc) => {
      const { name } = heredoc;
      return whole(copy, { kind: 'inline', name, content: heredocText(heredoc), mode: HEREDOC_MODE }, `/${name}`);
    }),
  ];
}

function transferOf(copy: CopyInstruction, path: string, from: Source, checksum: string): Transfer {
  if (isGit(path)) {
    if (copy.kind === 'COPY') throw new InvalidParameter("source can't be a git ref for COPY");
    return whole(copy, { kind: 'git', url: path, keepGitDir: copy.keepGitDir, checksum }, '/');
  }
  if (isHttp(path)) {
    if (copy.kind === 'COPY') throw new InvalidParameter("source can't be a URL for COPY");
    const name = nameOf(path);
    // Archives from elsewhere are unpacked only where that is asked for.
    return { ...whole(copy, { kind: 'http', url: path, name, checksum }, `/${name}`), unpack: copy.unpack ?? false };
  }
  const unpack = copy.kind === 'ADD' && (copy.unpack ?? true);
  if (copy.kind === 'COPY' && copy.parents) return { ...withParents(path, from), exclude: copy.exclude, unpack };
  return {
    source: from,
    path: absolute(path),
    isPattern: true,
    include: undefined,
    required: false,
    exclude: copy.exclude,
    unpack,
  };
}

const whole = (copy: CopyInstruction, source: Source, path: string): Transfer => ({
  source,
  path,
  isPattern: false,
  include: undefined,
  required: true,
  exclude: copy.exclude,
  unpack: false,
});

// What is before `/./` is not kept as a directory.
function withParents(path: string, source: Source): Omit<Transfer, 'exclude' | 'unpack'> {
  const pivot = path.indexOf('/./');
  const [root, pattern] = pivot < 0 ? ['/', path] : [path.slice(0, pivot), path.slice(pivot + 3)];
  const include = absolute(pattern).slice(1);
  return { source, path: absolute(root), isPattern: true, include, required: !hasWildcards(root + pattern) };
}

function checkChecksum(sources: string[]): void {
  const [first, ...others] = sources;
  if (first === undefined || others.length > 0)
    throw new InvalidParameter("checksum can't be specified for multiple sources");
  if (!isHttp(first) && !isGit(first)) throw new InvalidParameter('checksum requires HTTP(S) or Git sources');
}

// `..` cannot lead above the source's root.
const absolute = (path: string): string => {
  const clean = posix.resolve('/', path);
  return path.endsWith('/') && clean !== '/' ? `${clean}/` : clean;
};

const isGit = (path: string): boolean =>
  /^(git:\/\/|ssh:\/\/|git@)/.test(path) || /^https?:\/\/[^?#]+\.git(#.*)?$/.test(path);
const isHttp = (path: string): boolean => /^https?:\/\//.test(path) && !isGit(path);

function nameOf(url: string): string {
  if (!URL.canParse(url)) return UNNAMED;
  const base = posix.basename(new URL(url).pathname);
  return base === '' || base === '.' ? UNNAMED : base;
}

function hasWildcards(path: string): boolean {
  return /^(?:[^\\]|\\.)*?[*?[]/s.test(path);
}
