/** Turns the instructions of one stage into nodes and an image configuration, one after the other. */
import { InvalidParameter } from '../../model/errors.ts';
import type { Step } from '../dockerfile/dockerfile.ts';
import { expandInstruction } from '../dockerfile/expand-instruction.ts';
import { heredocOf, heredocText } from '../dockerfile/heredoc.ts';
import type { Instruction } from '../dockerfile/instruction.ts';
import { parseMount } from '../dockerfile/run-mount.ts';
import { expandWord, type ExpandOptions } from '../dockerfile/words.ts';
import { applyInstruction, changesConfig, variablesOf, withShell } from '../images/config-changes.ts';
import { transfersOf } from './copy-transfers.ts';
import type { Mount, Node, Shown, Source } from './graph.ts';
import { inImage } from './image-path.ts';
import type { ImageDraft } from './image-draft.ts';
import { mountOf } from './run-mounts.ts';
import type { StageNode, StageStep } from './stage-graph.ts';
import { copyHistory, historyOf, runHistory } from './step-history.ts';
import { shownText, StepLabels } from './step-labels.ts';

type StepOf<Kind extends Instruction['kind']> = Extract<Step, { kind: Kind }>;

interface StageContext {
  stage: StageNode;
  base: Node;
  /** Changed in place. */
  image: ImageDraft;
  /** The file's escape character. */
  escape: string;
  /** Arguments before the first FROM. */
  globals: ReadonlyMap<string, string>;
  /** Arguments of the request. */
  given: ReadonlyMap<string, string>;
  proxy: Record<string, string>;
  network: 'default' | 'none' | 'host';
  ignoreCache: boolean;
  /** What `--from` names. */
  sourceOf: (from: string, step: Step) => Source;
}

/** A heredoc that begins with `#!` is run as a file here. */
const SCRIPT_DIRECTORY = '/dev/pipes/';
const CONTEXT: Source = { kind: 'context', name: '' };

export class StageBuilder {
  #node: Node;
  /** The image's environment and the arguments: what variables stand for. */
  readonly #variables: Map<string, string>;
  readonly #arguments = new Map<string, string>();
  readonly #labels: StepLabels;
  readonly #options: ExpandOptions;
  #hasCommand = false;

  constructor(private readonly context: StageContext) {
    this.#node = context.base;
    this.#variables = variablesOf(context.image.config.Env);
    this.#labels = new StepLabels(context.stage);
    // The first one is FROM's.
    if (context.base.kind === 'image' && !context.stage.base) this.#labels.next('');
    this.#options = { escape: context.escape };
  }

  /** The files so far. */
  get node(): Node {
    return this.#node;
  }

  /** @throws InvalidParameter */
  add({ instruction: written, isOnBuild }: StageStep): void {
    const { image } = this.context;
    const step = expandInstruction(written, this.#variables, this.#options);
    switch (step.kind) {
      case 'ADD':
      case 'COPY':
        return this.#copy(step, this.#shown(written, isOnBuild));
      case 'ARG':
        return this.#argument(step);
      case 'MAINTAINER':
        image.author = step.author;
        return this.#record(step.code.replace(/^\S+/, 'MAINTAINER'), true);
      case 'RUN':
        return this.#run(step, isOnBuild);
      case 'WORKDIR':
        return this.#workingDirectory(step, written, isOnBuild);
      default:
        return this.#configure(step);
    }
  }

  #configure(step: Step): void {
    if (!changesConfig(step.kind)) throw new InvalidParameter(`unexpected instruction ${step.kind}`);
    const { config } = this.context.image;
    const state = { config, hasCommand: this.#hasCommand };
    applyInstruction(step, state);
    this.#hasCommand = state.hasCommand;
    if (step.kind === 'ENV') for (const { key, value } of step.pairs) this.#setVariable(key, value);
    const command = step.kind === 'CMD' || step.kind === 'ENTRYPOINT' ? withShell(step.command, config) : [];
    if (step.kind !== 'ONBUILD') this.#record(historyOf(step, command), true);
  }

  #workingDirectory(step: StepOf<'WORKDIR'>, written: Step, isOnBuild: boolean): void {
    const { config } = this.context.image;
    applyInstruction(step, { config, hasCommand: this.#hasCommand });
    const path = config.WorkingDir!;
    if (path === '/') return this.#record(`WORKDIR ${path}`, true);
    const owner = config.User ?? '';
    this.#node = { kind: 'mkdir', base: this.#node, path, owner, shown: this.#shown(written, isOnBuild) };
    this.#record(`WORKDIR ${path}`, false);
  }

  // A given value comes first, then the default, then the file's own argument of that name.
  #argument(step: StepOf<'ARG'>): void {
    const { given, globals } = this.context;
    const shown = step.arguments.map(({ key, value: written }) => {
      const standard = written === undefined ? globals.get(key) : expandWord(written, this.#variables, this.#options);
      const value = given.get(key) ?? standard;
      if (value !== undefined) this.#setVariable(key, value);
      this.#arguments.set(key, value ?? '');
      return value === undefined ? key : `${key}=${value}`;
    });
    this.#record(`ARG ${shown.join(' ')}`, true);
  }

  #run(step: StepOf<'RUN'>, isOnBuild: boolean): void {
    const { image, proxy, network, ignoreCache } = this.context;
    const { argv, script, summary } = this.#command(step);
    const mounts: Mount[] = [
      ...step.mounts.map((text) => this.#mount(text, step)),
      ...(script === undefined ? [] : [script]),
    ];
    const options: ExpandOptions = { ...this.#options, quotes: 'kept', keepUnset: true };
    const label = this.#labels.next(shownText(step.code + summary, this.#variables, options), isOnBuild);
    this.#node = {
      kind: 'run',
      base: this.#node,
      argv,
      env: [...this.#variables].map(([name, value]) => `${name}=${value}`),
      user: image.config.User ?? '',
      directory: image.config.WorkingDir || '/',
      mounts,
      network: step.network === 'default' ? network : (step.network as 'none' | 'host'),
      insecure: step.security === 'insecure',
      proxy,
      ignoreCache,
      shown: { label, lines: step.lines },
    };
    const visible = new Map([...this.#arguments].map(([name, value]) => [name, this.#variables.get(name) ?? value]));
    this.#record(runHistory(argv, visible), false);
  }

  #command({ command, heredocs }: StepOf<'RUN'>): { argv: string[]; script?: Mount; summary: string } {
    const { config } = this.context.image;
    const [first] = heredocs;
    const text = command.words[0] ?? '';
    if (!first || command.json) return { argv: withShell(command, config), summary: '' };
    const shell = (words: string): string[] => withShell({ words: [words], json: false }, config);
    // Heredocs among other words are the shell's own.
    if (!heredocOf(text))
      return {
        argv: shell([text, ...heredocs.map(({ content, name }) => content + name)].join('\n')),
        summary: '',
      };
    const content = heredocText(first);
    const [line = '', ...more] = content.trim().split(/\r?\n/);
    const summary = ` (${line}${more.length > 0 ? '...' : ''})`;
    if (!content.startsWith('#!')) return { argv: shell(content), summary };
    const source: Source = { kind: 'inline', name: first.name, content, mode: 0o755 };
    const script: Mount = { type: 'bind', target: SCRIPT_DIRECTORY, source, path: '/', readOnly: true };
    return { argv: [SCRIPT_DIRECTORY + first.name], script, summary };
  }

  #mount(text: string, step: Step): Mount {
    const mount = parseMount(text, (word) => expandWord(word, this.#variables, this.#options));
    const source = mount.from === '' || mount.from === 'scratch' ? undefined : this.context.sourceOf(mount.from, step);
    return mountOf(mount, source, this.context.image.config.WorkingDir ?? '');
  }

  #copy(step: StepOf<'ADD' | 'COPY'>, shown: Shown): void {
    const { image, ignoreCache, sourceOf } = this.context;
    const source = step.kind === 'COPY' && step.from !== '' ? sourceOf(step.from, step) : CONTEXT;
    this.#node = {
      kind: 'copy',
      base: this.#node,
      transfers: transfersOf(step, source),
      destination: inImage(image.config.WorkingDir ?? '', step.destination),
      owner: step.chown,
      mode: checkedMode(step.chmod),
      isLinked: step.link,
      ignoreCache,
      shown,
    };
    this.#record(copyHistory(step), false);
  }

  #shown({ code, lines }: Step, isOnBuild: boolean): Shown {
    return { label: this.#labels.next(shownText(code, this.#variables, this.#options), isOnBuild), lines };
  }

  #setVariable(name: string, value: string): void {
    this.#variables.delete(name);
    this.#variables.set(name, value);
  }

  #record(createdBy: string, isEmpty: boolean): void {
    this.context.image.history.push({ createdBy, isEmpty });
  }
}

const SYMBOLIC_MODE = /^([ugoa]*[-+=]([rwxXst]*|[ugo]))+(,([ugoa]*[-+=]([rwxXst]*|[ugo]))+)*$/;

function checkedMode(mode: string): string {
  const isOctal = /^[0-7]+$/.test(mode) && parseInt(mode, 8) <= 0o7777;
  if (mode === '' || isOctal || SYMBOLIC_MODE.test(mode)) return mode;
  throw new InvalidParameter(`invalid chmod parameter: '${mode}'. it should be octal string and between 0 and 07777`);
}
