/** The execs of all containers: recorded by the daemon, run by the shim. */
import type { JournalRecord } from '../../protocol/records.ts';
import type { ExecRows } from '../../store/execs.ts';
import { NotFound } from '../../model/errors.ts';
import type { Exec } from '../../model/exec.ts';

/** Docker forgets finished execs after five to ten minutes (moby daemon/exec.go, execCommandGC). */
const REMEMBER_MS = 10 * 60_000;

export class Execs {
  readonly #byId = new Map<string, Exec>();

  constructor(private readonly rows: ExecRows) {
    for (const exec of rows.load()) this.#byId.set(exec.id, exec);
  }

  add(exec: Exec): void {
    this.rows.insert(exec);
    this.#byId.set(exec.id, exec);
  }

  /** By full id. @throws NotFound */
  get(id: string): Exec {
    const exec = this.#byId.get(id);
    if (!exec) throw new NotFound(`No such exec instance: ${id}`);
    return exec;
  }

  /** What the exec runs, for its events. */
  commandOf = (id: string): string[] | undefined => this.#byId.get(id)?.config.Cmd;

  of = (containerId: string): Exec[] => [...this.#byId.values()].filter((e) => e.containerId === containerId);

  /** Those that have not ended, as inspect of a container lists them. */
  liveIdsOf = (containerId: string): string[] =>
    this.of(containerId)
      .filter((e) => e.ended === 0)
      .map((e) => e.id);

  markStarted(exec: Exec): void {
    const started = { started: true, running: true };
    this.rows.setState({ ...exec, ...started });
    Object.assign(exec, started);
  }

  /** Applies a record of the container's journal; part of the transaction that moves its cursor. */
  apply(containerId: string, record: JournalRecord): void {
    // An exec that was never started is dropped with the run it was created in, as in dockerd.
    if (record.type === 'exited') for (const exec of this.of(containerId)) if (!exec.started) this.#drop(exec);
    if (!('exec' in record) || record.exec === undefined) return;
    const exec = this.#byId.get(record.exec);
    if (!exec) return;
    switch (record.type) {
      case 'exec-started':
        Object.assign(exec, { started: true, running: true, pid: record.pid });
        break;
      case 'exec-failed':
      case 'exec-exited':
        Object.assign(exec, { started: true, running: false, exitCode: record.code, ended: Date.now() });
        break;
      default:
        return;
    }
    this.rows.setState(exec);
  }

  /** The container is removed, and its execs with it. */
  forget(containerId: string): void {
    for (const exec of this.of(containerId)) this.#drop(exec);
  }

  /** Drops execs that ended long ago, and unstarted ones whose container does not run. */
  sweep(isRunning: (containerId: string) => boolean): void {
    const old = Date.now() - REMEMBER_MS;
    for (const exec of this.#byId.values()) {
      if ((exec.ended > 0 && exec.ended < old) || (!exec.started && !isRunning(exec.containerId))) this.#drop(exec);
    }
  }

  #drop(exec: Exec): void {
    this.rows.delete(exec.id);
    this.#byId.delete(exec.id);
  }
}
