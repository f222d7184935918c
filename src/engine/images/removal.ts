/**
 * What removing an image means, by Docker's rules (moby daemon/images/image_delete.go). Decides only; images.ts does
 * it.
 */
import { Conflict } from '../../model/errors.ts';
import {
  canonicalString,
  familiarString,
  isIdPrefix,
  parseReference,
  repositoryOf,
  shortId,
  tagNameOnly,
  type Reference,
} from './reference.ts';

/** A container that was made from an image. */
export interface User {
  id: string;
  running: boolean;
}

/** What is known of the images. */
export interface Known {
  /** All names of an image, sorted. */
  referencesOf(id: string): Reference[];
  childrenOf(id: string): string[];
  parentOf(id: string): string;
  usersOf(id: string): User[];
}

export type Step =
  | {
      untag: Reference;
      image: string;
      /** As it was asked for, where that says more. */ shown?: Reference;
      /** Docker tells no event of digests that go with their tag. */ silent?: true;
    }
  | { delete: string };

interface Conflicting {
  hard: boolean;
  /** A container is what stands in the way. */
  used: boolean;
  message: string;
}

/** @throws Conflict */
export function planRemoval(
  id: string,
  reference: string,
  options: { force: boolean; noprune: boolean },
  known: Known,
): Step[] {
  return new Plan(known).remove(id, reference, options);
}

class Plan {
  readonly #steps: Step[] = [];
  /** Names and images that earlier steps take away. */
  readonly #untagged = new Set<string>();
  readonly #deleted = new Set<string>();

  constructor(private readonly known: Known) {}

  remove(id: string, reference: string, { force, noprune }: { force: boolean; noprune: boolean }): Step[] {
    if (isIdPrefix(id, reference)) {
      if (isSingle(this.#references(id))) {
        // All its names are in one repository, with one tag at most: they go with it.
        this.#refuse(id, { hard: true, stopped: !force, referenced: false });
        for (const name of this.#references(id)) this.#untag(id, name);
      }
      this.#delete(id, { force, prune: !noprune, quiet: false });
      return this.#steps;
    }
    const user = this.known.usersOf(id)[0];
    if (!force && user && isSingle(this.#references(id))) {
      throw new Conflict(
        `conflict: unable to remove repository reference ${JSON.stringify(reference)} (must force) - container ${shortId(user.id)} is using its referenced image ${shortId(id)}`,
      );
    }
    const shown = tagNameOnly(parseReference(reference));
    const name = withoutTagIfDigest(shown);
    this.#untag(id, name, { shown });
    if (!name.digest) this.#untagDigests(id, repositoryOf(name));
    if (this.#references(id).length === 0) this.#delete(id, { force, prune: !noprune, quiet: true });
    return this.#steps;
  }

  // The digests of a repository go with its last tag.
  #untagDigests(id: string, repository: string): void {
    const there = this.#references(id).filter((name) => repositoryOf(name) === repository);
    if (there.every((name) => name.digest)) for (const name of there) this.#untag(id, name, { silent: true });
  }

  #untag(image: string, untag: Reference, rest: { shown?: Reference; silent?: true } = {}): void {
    this.#untagged.add(canonicalString(untag));
    this.#steps.push({ untag, image, ...rest });
  }

  #delete(id: string, { force, prune, quiet }: { force: boolean; prune: boolean; quiet: boolean }): void {
    const conflict = this.#conflict(id, { hard: true, stopped: !force, referenced: !force });
    if (conflict) {
      const isDangling = this.#references(id).length === 0 && this.#children(id).length === 0;
      if (quiet && (!isDangling || conflict.used)) return;
      throw refusal(id, conflict);
    }
    for (const name of this.#references(id)) this.#untag(id, name);
    this.#deleted.add(id);
    this.#steps.push({ delete: id });
    const parent = this.known.parentOf(id);
    if (prune && parent) this.#delete(parent, { force: false, prune: true, quiet: true });
  }

  #refuse(id: string, kinds: { hard: boolean; stopped: boolean; referenced: boolean }): void {
    const conflict = this.#conflict(id, kinds);
    if (conflict) throw refusal(id, conflict);
  }

  #conflict(
    id: string,
    { hard, stopped, referenced }: { hard: boolean; stopped: boolean; referenced: boolean },
  ): Conflicting | undefined {
    const users = this.known.usersOf(id);
    const running = users.find((user) => user.running);
    const resting = users.find((user) => !user.running);
    if (hard && this.#children(id).length > 0)
      return { hard: true, used: false, message: 'image has dependent child images' };
    if (hard && running)
      return { hard: true, used: true, message: `image is being used by running container ${shortId(running.id)}` };
    if (referenced && this.#references(id).length > 0)
      return { hard: false, used: false, message: 'image is referenced in multiple repositories' };
    if (stopped && resting)
      return { hard: false, used: true, message: `image is being used by stopped container ${shortId(resting.id)}` };
    return undefined;
  }

  #references = (id: string): Reference[] =>
    this.known.referencesOf(id).filter((name) => !this.#untagged.has(canonicalString(name)));
  #children = (id: string): string[] => this.known.childrenOf(id).filter((child) => !this.#deleted.has(child));
}

const refusal = (id: string, { hard, message }: Conflicting): Conflict =>
  new Conflict(
    `conflict: unable to delete ${shortId(id)} (${hard ? 'cannot be forced' : 'must be forced'}) - ${message}`,
  );

/** All of one repository, with one tag at most. Docker's isSingleReference, its answers for odd sets included. */
function isSingle(names: Reference[]): boolean {
  if (names.length <= 1) return names.length === 1;
  const tagged = names.filter((name) => !name.digest);
  if (tagged.length > 1) return false;
  const repositories = new Set(names.filter((name) => name.digest).map(repositoryOf));
  return repositories.size === 1 && repositories.has(repositoryOf(tagged[0] ?? names[0]!));
}

/** Names in the store have a tag or a digest: with a digest, the tag says nothing more. */
export function withoutTagIfDigest({ domain, path, tag, digest }: Reference): Reference {
  return digest ? { domain, path, digest } : { domain, path, ...(tag && { tag }) };
}

export const untaggedLine = (name: Reference): { Untagged: string } => ({ Untagged: familiarString(name) });
