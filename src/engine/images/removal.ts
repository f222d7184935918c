/**
 * Plans the removal of an image by Docker's rules (moby daemon/images/image_delete.go); images.ts carries out the
 * steps.
 */
import { Conflict } from '../../model/errors.ts';
import { shortId } from '../../model/short-id.ts';
import {
  canonicalString,
  familiarString,
  isIdPrefix,
  parseReference,
  repositoryOf,
  tagNameOnly,
  type Reference,
} from './reference.ts';

/** A line of the API's answer. */
export type Deletion = { Untagged: string } | { Deleted: string };

/** A container created from an image. */
export interface ImageUser {
  id: string;
  running: boolean;
}

/** The relations between images, names and containers. */
export interface ImageGraph {
  /** All names of an image, sorted. */
  referencesOf(id: string): Reference[];
  childrenOf(id: string): string[];
  parentOf(id: string): string;
  usersOf(id: string): ImageUser[];
}

export type Step =
  | {
      untag: Reference;
      image: string;
      /** The name to report, if the request spelled it differently (tag and digest). */
      shown?: Reference;
      /** No event: Docker emits none for digests removed with their tag. */
      silent?: true;
    }
  | { delete: string };

interface Obstacle {
  /** Not even `force` overcomes it. */
  hard: boolean;
  /** It is a container. */
  used: boolean;
  message: string;
}

/** Which obstacles to look for. */
interface ObstacleKinds {
  hard: boolean;
  stopped: boolean;
  referenced: boolean;
}

/** @throws Conflict */
export function planRemoval(
  id: string,
  reference: string,
  options: { force: boolean; noprune: boolean },
  graph: ImageGraph,
): Step[] {
  return new Plan(graph).remove(id, reference, options);
}

class Plan {
  readonly #steps: Step[] = [];
  /** Names and images that earlier steps remove. */
  readonly #untagged = new Set<string>();
  readonly #deleted = new Set<string>();

  constructor(private readonly graph: ImageGraph) {}

  remove(id: string, reference: string, { force, noprune }: { force: boolean; noprune: boolean }): Step[] {
    if (isIdPrefix(id, reference)) {
      if (isSingle(this.#references(id))) {
        // All names are in one repository, with at most one tag: remove them with the image.
        this.#requireRemovable(id, { hard: true, stopped: !force, referenced: false });
        for (const name of this.#references(id)) this.#untag(id, name);
      }
      this.#delete(id, { force, prune: !noprune, quiet: false });
      return this.#steps;
    }
    const user = this.graph.usersOf(id)[0];
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

  // Removes a repository's digests with its last tag.
  #untagDigests(id: string, repository: string): void {
    const names = this.#references(id).filter((name) => repositoryOf(name) === repository);
    if (names.every((name) => name.digest)) for (const name of names) this.#untag(id, name, { silent: true });
  }

  #untag(image: string, untag: Reference, rest: { shown?: Reference; silent?: true } = {}): void {
    this.#untagged.add(canonicalString(untag));
    this.#steps.push({ untag, image, ...rest });
  }

  #delete(id: string, { force, prune, quiet }: { force: boolean; prune: boolean; quiet: boolean }): void {
    const obstacle = this.#obstacle(id, { hard: true, stopped: !force, referenced: !force });
    if (obstacle) {
      const isDangling = this.#references(id).length === 0 && this.#children(id).length === 0;
      if (quiet && (!isDangling || obstacle.used)) return;
      throw conflict(id, obstacle);
    }
    for (const name of this.#references(id)) this.#untag(id, name);
    this.#deleted.add(id);
    this.#steps.push({ delete: id });
    const parent = this.graph.parentOf(id);
    if (prune && parent) this.#delete(parent, { force: false, prune: true, quiet: true });
  }

  #requireRemovable(id: string, kinds: ObstacleKinds): void {
    const obstacle = this.#obstacle(id, kinds);
    if (obstacle) throw conflict(id, obstacle);
  }

  #obstacle(id: string, { hard, stopped, referenced }: ObstacleKinds): Obstacle | undefined {
    const users = this.graph.usersOf(id);
    const runningUser = users.find((user) => user.running);
    const stoppedUser = users.find((user) => !user.running);
    if (hard && this.#children(id).length > 0)
      return { hard: true, used: false, message: 'image has dependent child images' };
    if (hard && runningUser)
      return { hard: true, used: true, message: `image is being used by running container ${shortId(runningUser.id)}` };
    if (referenced && this.#references(id).length > 0)
      return { hard: false, used: false, message: 'image is referenced in multiple repositories' };
    if (stopped && stoppedUser)
      return {
        hard: false,
        used: true,
        message: `image is being used by stopped container ${shortId(stoppedUser.id)}`,
      };
    return undefined;
  }

  #references = (id: string): Reference[] =>
    this.graph.referencesOf(id).filter((name) => !this.#untagged.has(canonicalString(name)));
  #children = (id: string): string[] => this.graph.childrenOf(id).filter((child) => !this.#deleted.has(child));
}

const conflict = (id: string, { hard, message }: Obstacle): Conflict =>
  new Conflict(
    `conflict: unable to delete ${shortId(id)} (${hard ? 'cannot be forced' : 'must be forced'}) - ${message}`,
  );

/** Whether all names are in one repository, with at most one tag. As moby's isSingleReference, odd cases included. */
function isSingle(names: Reference[]): boolean {
  if (names.length <= 1) return names.length === 1;
  const tagged = names.filter((name) => !name.digest);
  if (tagged.length > 1) return false;
  const repositories = new Set(names.filter((name) => name.digest).map(repositoryOf));
  return repositories.size === 1 && repositories.has(repositoryOf(tagged[0] ?? names[0]!));
}

/** Stored names have a tag or a digest, not both: with a digest, the tag is redundant. */
export function withoutTagIfDigest({ domain, path, tag, digest }: Reference): Reference {
  return digest ? { domain, path, digest } : { domain, path, ...(tag && { tag }) };
}

export const untaggedLine = (name: Reference): { Untagged: string } => ({ Untagged: familiarString(name) });
