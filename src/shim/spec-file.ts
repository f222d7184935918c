/**
 * `spec.json`, which the daemon writes before each create, and what is made of it: the runtime's command line and the
 * log.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SPEC_FILE } from '../protocol/paths.ts';
import type { ShimSpec } from '../protocol/spec.ts';
import { LogWriter } from './log/writer.ts';
import type { Reaper } from './reaper.ts';
import { Refused } from './refused.ts';
import { Runtime } from './runtime.ts';

const SPEC_VERSION = 1;

/** What a generation is made from. */
export interface Definition {
  spec: ShimSpec;
  runtime: Runtime;
  log: LogWriter;
}

export class SpecFile {
  #definition: Definition | null = null;

  /** `dir` and `run`: the container's directory and its run directory. */
  constructor(
    private readonly dir: string,
    private readonly run: string,
    private readonly reaper: Reaper,
  ) {}

  /** As it was loaded last. Only for a container that has a generation, or had one. */
  get definition(): Definition {
    if (!this.#definition) throw new Error(`${SPEC_FILE} was not loaded`);
    return this.#definition;
  }

  /** What is loaded, or else what is on disk; null before the daemon has written it. */
  get spec(): ShimSpec | null {
    return this.loaded ?? this.#read();
  }

  /** The spec, if it was loaded. */
  get loaded(): ShimSpec | null {
    return this.#definition?.spec ?? null;
  }

  /** A runtime command is under way. */
  get busy(): boolean {
    return this.#definition?.runtime.busy ?? false;
  }

  /** Reads it anew: the daemon may have changed it. The log goes on where its options are the same. @throws Refused */
  load(): void {
    const spec = this.#read();
    if (!spec) throw new Refused('failed', `${join(this.dir, SPEC_FILE)} cannot be read`, 128);
    if (spec.version > SPEC_VERSION)
      throw new Refused('failed', `${SPEC_FILE} has version ${spec.version}, this shim knows ${SPEC_VERSION}`, 128);
    this.#definition = { spec, runtime: new Runtime(spec, this.run, this.reaper), log: this.#logFor(spec) };
  }

  #logFor({ log: options }: ShimSpec): LogWriter {
    const former = this.#definition;
    if (former && JSON.stringify(former.spec.log) === JSON.stringify(options)) return former.log;
    former?.log.close();
    this.#definition = null;
    return new LogWriter(options);
  }

  #read(): ShimSpec | null {
    try {
      return JSON.parse(readFileSync(join(this.dir, SPEC_FILE), 'utf8')) as ShimSpec;
    } catch {
      return null;
    }
  }
}
