/**
 * Dockerfile → graph and image configuration, as BuildKit does it (frontend/dockerfile/dockerfile2llb). Nothing is run
 * here; images are resolved, since variables and triggers come from them.
 */
import { InvalidParameter } from '../../model/errors.ts';
import { atLines, DockerfileError } from '../dockerfile/dockerfile-error.ts';
import type { Dockerfile, Step } from '../dockerfile/dockerfile.ts';
import { parseInstruction } from '../dockerfile/parse-instruction.ts';
import { splitStatements } from '../dockerfile/statements.ts';
import { globalArguments, platformArguments, proxyEnvironment } from './arguments.ts';
import type { Node, Platform, Source } from './graph.ts';
import { draftFrom, draftOf, emptyDraft, ensurePath, type ImageDraft } from './image-draft.ts';
import { StageBuilder } from './stage-builder.ts';
import { SCRATCH, StageGraph, type StageNode } from './stage-graph.ts';
import { StepLabels } from './step-labels.ts';
import type { ImageConfig } from '../images/image.ts';

export interface BuildRequest {
  file: Dockerfile;
  /** A stage's name or number; '' is the last one. */
  target: string;
  arguments: ReadonlyMap<string, string>;
  labels: Record<string, string>;
  /** Of the result. */
  platform: Platform;
  /** Of this host. */
  buildPlatform: Platform;
  network: 'default' | 'none' | 'host';
  /** Stages whose steps are run although their results are known; true: all. */
  noCache: true | ReadonlySet<string>;
}

export interface ResolvedImage {
  /** Digest of the configuration. */
  id: string;
  /** With its digest, as it is shown. */
  reference: string;
  config: ImageConfig;
}

/** What the client gives under a name. */
export type NamedContext = { kind: 'files' } | { kind: 'image'; reference: string };

export interface Surroundings {
  /** @throws NotFound and the like */
  resolveImage(reference: string, platform: Platform): Promise<ResolvedImage>;
  /** undefined: no context of that name. */
  namedContext(name: string): NamedContext | undefined;
}

export interface BuildPlan {
  root: Node;
  image: ImageDraft;
}

interface Built {
  node: Node;
  image: ImageDraft;
  /** A named context that has files only. */
  context?: Source;
}

/** @throws DockerfileError, InvalidParameter, and what resolveImage throws */
export async function convert(request: BuildRequest, surroundings: Surroundings): Promise<BuildPlan> {
  return new Converter(request, surroundings).run();
}

class Converter {
  readonly #globals: Map<string, string>;
  readonly #graph: StageGraph;
  readonly #bases = new Map<StageNode, Built>();
  readonly #built = new Map<StageNode, Built>();

  constructor(
    private readonly request: BuildRequest,
    private readonly surroundings: Surroundings,
  ) {
    const { file, target, arguments: given, platform, buildPlatform } = request;
    if (file.stages.length === 0) throw new InvalidParameter('dockerfile contains no stages to build');
    const predefined = platformArguments(platform, buildPlatform, target || file.stages.at(-1)!.from.stage);
    this.#globals = globalArguments(file, given, predefined);
    this.#graph = new StageGraph(file, this.#globals);
  }

  async run(): Promise<BuildPlan> {
    const target = this.#graph.target(this.request.target);
    await this.#resolveBases(target);
    const needed = this.#graph.needed(target);
    const [stages, images] = [needed.filter(({ isStage }) => isStage), needed.filter(({ isStage }) => !isStage)];
    for (const stage of [...images, ...stages]) this.#built.set(stage, this.#build(stage));
    const { node, image } = this.#built.get(target)!;
    const { labels } = this.request;
    if (Object.keys(labels).length > 0) image.config.Labels = { ...image.config.Labels, ...labels };
    return { root: node, image };
  }

  // Triggers can make more stages necessary, whose images have to be resolved in turn.
  async #resolveBases(target: StageNode): Promise<void> {
    const done = new Set<StageNode>();
    for (;;) {
      const open = this.#graph.needed(target).filter((stage) => !done.has(stage));
      if (open.length === 0) return;
      await Promise.all(
        open.map(async (stage) => {
          if (!stage.base) this.#bases.set(stage, await this.#resolveBase(stage));
        }),
      );
      for (const stage of open) {
        this.#addTriggers(stage, stage.base ? triggersIn(stage.base) : this.#triggersOfImage(stage));
        done.add(stage);
      }
    }
  }

  #triggersOfImage = (stage: StageNode): string[] =>
    stage.isStage ? (this.#bases.get(stage)?.image.config.OnBuild ?? []) : [];

  async #resolveBase(stage: StageNode): Promise<Built> {
    const platform = stage.platform ?? this.request.platform;
    try {
      const named = stage.name === '' ? undefined : this.surroundings.namedContext(stage.name);
      if (named) return await this.#fromContext(stage, stage.name, named, platform);
      if (stage.image === SCRATCH) return { node: { kind: 'scratch' }, image: emptyDraft(platform) };
      const other = this.surroundings.namedContext(stage.image);
      if (other) return await this.#fromContext(stage, stage.image, other, platform);
      return await this.#fromImage(stage, stage.image, platform);
    } catch (error) {
      throw atStage(error, stage);
    }
  }

  #fromContext(stage: StageNode, name: string, named: NamedContext, platform: Platform): Built | Promise<Built> {
    if (named.kind === 'image') return this.#fromImage(stage, named.reference, platform);
    const context: Source = { kind: 'context', name };
    return { node: { kind: 'scratch' }, image: emptyDraft(platform), context };
  }

  async #fromImage(stage: StageNode, reference: string, platform: Platform): Promise<Built> {
    const { id, reference: shown, config } = await this.surroundings.resolveImage(reference, platform);
    const label = new StepLabels(stage).next(`FROM ${shown}`);
    const image = draftOf(config);
    if (config.rootfs.diff_ids.length === 0) return { node: { kind: 'scratch' }, image };
    return { node: { kind: 'image', id, shown: { label, lines: stage.lines } }, image };
  }

  #addTriggers(stage: StageNode, triggers: string[]): void {
    const { escape } = this.request.file;
    const steps = triggers.flatMap((trigger) =>
      atLines(stage.lines, (): Step[] => {
        const { statements } = splitStatements(trigger);
        if (statements.length !== 1) throw new InvalidParameter('onbuild trigger should be a single expression');
        const step = parseInstruction({ ...statements[0]!, lines: stage.lines }, escape);
        if (step.kind === 'FROM') throw new InvalidParameter("FROM isn't allowed as an ONBUILD trigger");
        return [step];
      }),
    );
    if (steps.length > 0) this.#graph.addTriggers(stage, steps);
  }

  #build(stage: StageNode): Built {
    const base = stage.base ? this.#built.get(stage.base)! : this.#bases.get(stage)!;
    if (base.context) return base;
    const image = draftFrom(base.image);
    if (stage.isStage) ensurePath(image);
    const { request } = this;
    const builder = new StageBuilder({
      stage,
      base: base.node,
      image,
      escape: request.file.escape,
      globals: this.#globals,
      given: request.arguments,
      proxy: proxyEnvironment(request.arguments),
      network: request.network,
      ignoreCache: request.noCache === true || request.noCache.has(stage.name),
      sourceOf: (from, step) => this.#sourceOf(from, step, stage),
    });
    for (const step of stage.steps) atLines(step.instruction.lines, () => builder.add(step));
    return { node: builder.node, image };
  }

  #sourceOf(from: string, step: Step, stage: StageNode): Source {
    const built = this.#built.get(this.#graph.find(from, step.lines));
    if (!built)
      throw new InvalidParameter(
        `cannot copy from stage ${JSON.stringify(from)}, it needs to be defined before current stage ${JSON.stringify(stage.label)}`,
      );
    return built.context ?? { kind: 'node', node: built.node };
  }
}

const triggersIn = ({ steps }: StageNode): string[] =>
  steps.flatMap(({ instruction }) => (instruction.kind === 'ONBUILD' ? [instruction.trigger] : []));

// The kind of the error stays: it says what went wrong, the lines where.
function atStage(error: unknown, { lines }: StageNode): unknown {
  if (error instanceof Error && !(error instanceof DockerfileError)) Object.assign(error, { lines });
  return error;
}
