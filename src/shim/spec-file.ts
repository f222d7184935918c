/** `spec.json`, which the daemon writes before each create, and the runtime and log that it defines. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SPEC_FILE } from '../protocol/paths.ts';
import type { ShimSpec } from '../protocol/spec.ts';
import { LogWriter } from './log/writer.ts';
import type { Reaper } from './reaper.ts';
import { Refused } from './refused.ts';
import { Runtime } from './runtime.ts';

/** The highest `version` of spec.json that this shim reads. */
const SPEC_VERSION = 1;

/** What a generation is created from. */
export interface Definition {
  spec: ShimSpec;
  runtime: Runtime;
  log: LogWriter;
}

export class SpecFile {
  #definition: Definition | null = null;

  /** `dir` is the container's directory, `run` its run directory. */
  constructor(
    private readonly dir: string,
    private readonly run: string,
    private readonly reaper: Reaper,
  ) {}

  /** As last loaded. @throws Error when it was never loaded */
  get definition(): Definition {
    if (!this.#definition) throw new Error(`${SPEC_FILE} was not loaded`);
    return this.#definition;
  }

  /** The loaded spec, else the one on disk; null until the daemon has written it. */
  get spec(): ShimSpec | null {
    return this.loaded ?? this.#read();
  }

  /** The spec as last loaded, without reading the file. */
  get loaded(): ShimSpec | null {
    return this.#definition?.spec ?? null;
  }

  /** Reads the file again. The log stays open when its options are the same. @throws Refused */
  load(): void {
    const spec = this.#read();
    if (!spec) throw new Refused('failed', `${join(this.dir, SPEC_FILE)} cannot be read`, 128);
    // A newer daemon may have written a version that this shim's types do not know.
    const version: number = spec.version;
    if (version > SPEC_VERSION)
      throw new Refused('failed', `${SPEC_FILE} has version ${version}, this shim reads ${SPEC_VERSION}`, 128);
    this.#definition = { spec, runtime: new Runtime(spec, this.run, this.reaper), log: this.#openLog(spec) };
  }

  #openLog({ log: options }: ShimSpec): LogWriter {
    const previous = this.#definition;
    if (previous && JSON.stringify(previous.spec.log) === JSON.stringify(options)) return previous.log;
    previous?.log.close();
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
