/** What users see of the steps of a stage: `[build 2/5] RUN make`, as BuildKit numbers them. */
import { expandWord, type ExpandOptions, type Variables } from '../dockerfile/words.ts';
import { SCRATCH, type StageNode } from './stage-graph.ts';

const COUNTED = new Set(['ADD', 'COPY', 'RUN', 'WORKDIR']);

export class StepLabels {
  #index = 0;
  readonly #total: number;

  constructor(private readonly stage: StageNode) {
    const pullsImage = stage.image !== SCRATCH && !stage.base;
    // Triggers count, whatever their kind.
    const counted = stage.steps.filter(({ instruction, isOnBuild }) => isOnBuild || COUNTED.has(instruction.kind));
    this.#total = counted.length + (pullsImage ? 1 : 0);
  }

  next(text: string, isOnBuild = false): string {
    if (this.#total === 0) return text;
    const width = String(this.#total).length;
    const place = `${String(++this.#index).padStart(width)}/${this.#total}`;
    const stage = this.stage.label === '' ? '' : `${this.stage.label} `;
    return `[${stage}${place}] ${isOnBuild ? 'ONBUILD ' : ''}${text}`;
  }
}

/** An instruction's text with its name in capitals and its variables replaced; as written if that fails. */
export function shownText(code: string, variables: Variables, options: ExpandOptions): string {
  const text = code.replace(/^\S+/, (name) => name.toUpperCase());
  try {
    return expandWord(text, variables, options);
  } catch {
    return text;
  }
}
