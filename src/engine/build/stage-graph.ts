/** The stages of a Dockerfile, what each is based on and copies from, and which of them a target needs. */
import { InvalidParameter } from '../../model/errors.ts';
import { atLines, DockerfileError, type LineRange } from '../dockerfile/dockerfile-error.ts';
import type { Dockerfile, Step } from '../dockerfile/dockerfile.ts';
import { mountFrom } from '../dockerfile/run-mount.ts';
import { suggestion } from '../dockerfile/suggestion.ts';
import { expand, expandWord, type ExpandOptions, type Variables } from '../dockerfile/words.ts';
import { parsePlatform } from '../images/platform.ts';
import type { Platform } from './graph.ts';

export interface StageStep {
  instruction: Step;
  isOnBuild: boolean;
}

/** A stage, or an image that is only copied from. */
export interface StageNode {
  /** As in FROM, variables expanded. */
  image: string;
  /** In messages: the name, `stage-N`, or '' if it is the only one. */
  label: string;
  name: string;
  lines: LineRange;
  platform: Platform | undefined;
  base: StageNode | undefined;
  steps: StageStep[];
  dependencies: Set<StageNode>;
  /** Stages in the file have a place in it; what is only copied from has not. */
  isStage: boolean;
}

export const SCRATCH = 'scratch';

export class StageGraph {
  readonly stages: StageNode[] = [];
  readonly #byName = new Map<string, StageNode>();
  readonly #options: ExpandOptions;

  /**
   * @param globals the arguments before the first FROM, with their values
   * @throws DockerfileError
   */
  constructor(file: Dockerfile, globals: Variables) {
    this.#options = { escape: file.escape };
    for (const [i, { from, steps }] of file.stages.entries())
      atLines(from.lines, () => {
        const image = this.#expandFrom(from.image, globals);
        const stage: StageNode = {
          image,
          label: from.stage || `stage-${i}`,
          name: from.stage,
          lines: from.lines,
          platform: this.#platformOf(from.platform, globals),
          base: this.#byName.get(image),
          steps: steps.map((instruction) => ({ instruction, isOnBuild: false })),
          dependencies: new Set(),
          isStage: true,
        };
        this.stages.push(stage);
        if (stage.name !== '') this.#byName.set(stage.name, stage);
      });
    for (const stage of [...this.stages]) for (const step of stage.steps) this.#addDependencies(stage, step);
    const safe = new Set<StageNode>();
    for (const stage of this.stages) this.#refuseCircle(stage, new Set(), safe);
    if (this.stages.length === 1) this.stages[0]!.label = '';
  }

  /** The stage to build. @throws InvalidParameter when there is none of that name */
  target(name: string): StageNode {
    if (name === '') return this.stages.filter(({ isStage }) => isStage).at(-1)!;
    const target = this.#byName.get(name.toLowerCase()) ?? (/^\d+$/.test(name) ? this.stages[Number(name)] : undefined);
    if (target?.isStage) return target;
    const names = this.stages.map(({ label }) => label).filter((label) => label !== '');
    throw new InvalidParameter(
      `target stage ${JSON.stringify(name)} could not be found${suggestion(name, names, true)}`,
    );
  }

  /** What `target` needs, itself included, in the order of the file. */
  needed(target: StageNode): StageNode[] {
    const found = new Set<StageNode>();
    const visit = (stage: StageNode): void => {
      if (found.has(stage)) return;
      found.add(stage);
      if (stage.base) visit(stage.base);
      for (const dependency of stage.dependencies) visit(dependency);
    };
    visit(target);
    return this.stages.filter((stage) => found.has(stage));
  }

  /** Prepends the triggers of the image or stage that `stage` is based on. @returns whether it needs more stages now */
  addTriggers(stage: StageNode, triggers: Step[]): boolean {
    const steps = triggers.map((instruction) => ({ instruction, isOnBuild: true }));
    const before = stage.dependencies.size;
    for (const step of steps) this.#addDependencies(stage, step);
    stage.steps.unshift(...steps);
    return stage.dependencies.size > before;
  }

  /** The stage that `--from` names, an image by its reference included. @throws InvalidParameter */
  find(from: string, lines: LineRange): StageNode {
    if (/^[+-]?\d+$/.test(from)) {
      const stage = this.stages[Number(from)];
      if (!stage?.isStage) throw new InvalidParameter(`invalid stage index ${Number(from)}`);
      return stage;
    }
    const known = this.#byName.get(from.toLowerCase()) ?? this.stages.find((s) => !s.isStage && s.image === from);
    return known ?? this.#addImage(from, lines);
  }

  // `open` are the stages that lead here, `safe` those that lead to no circle.
  #refuseCircle(stage: StageNode, open: Set<StageNode>, safe: Set<StageNode>): void {
    if (safe.has(stage)) return;
    if (open.has(stage))
      throw new DockerfileError(`circular dependency detected on stage: ${stage.label}`, stage.lines);
    open.add(stage);
    for (const other of stage.base ? [stage.base, ...stage.dependencies] : stage.dependencies)
      this.#refuseCircle(other, open, safe);
    open.delete(stage);
    safe.add(stage);
  }

  #addImage(image: string, lines: LineRange): StageNode {
    const stage: StageNode = {
      image,
      label: '',
      name: '',
      lines,
      platform: undefined,
      base: undefined,
      steps: [],
      dependencies: new Set(),
      isStage: false,
    };
    this.stages.push(stage);
    return stage;
  }

  #addDependencies(stage: StageNode, { instruction }: StageStep): void {
    atLines(instruction.lines, () => {
      for (const from of this.#sourcesOf(instruction)) stage.dependencies.add(this.find(from, instruction.lines));
    });
  }

  #sourcesOf(instruction: Step): string[] {
    if (instruction.kind === 'COPY' && instruction.from !== '') {
      if (expandWord(instruction.from, new Map(), this.#options) !== instruction.from)
        throw new InvalidParameter(
          'variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround',
        );
      return [instruction.from];
    }
    if (instruction.kind !== 'RUN') return [];
    return instruction.mounts.map(mountFrom).filter((from) => from !== '' && from !== SCRATCH);
  }

  #expandFrom(image: string, globals: Variables): string {
    const { text } = expand(image, globals, this.#options);
    if (text === '') throw new InvalidParameter(`base name (${image}) should not be blank`);
    return text;
  }

  #platformOf(written: string, globals: Variables): Platform | undefined {
    if (written === '') return undefined;
    const { text, unset } = expand(written, globals, this.#options);
    const hint = (): string =>
      [...unset].map((name) => suggestion(name, [...globals.keys()], true)).find((found) => found !== '') ?? '';
    if (text === '') throw new InvalidParameter(`empty platform value from expression ${written}${hint()}`);
    try {
      return parsePlatform(text);
    } catch (error) {
      throw new InvalidParameter(`failed to parse platform ${written}: ${(error as Error).message}${hint()}`, {
        cause: error,
      });
    }
  }
}
