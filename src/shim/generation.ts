/** One run of the container: its init, stdio, keeper, runtime state and cgroups. */
import { join } from 'node:path';
import { KEEPER_SUFFIX } from '../protocol/paths.ts';
import type { ShimSpec } from '../protocol/spec.ts';
import { removeFile } from '../sys/file.ts';
import type { Fd } from '../sys/libc.ts';
import { isAlive, kill, SIGKILL } from '../sys/process.ts';
import { cgroupsAt, cgroupsOf, processesIn, removeCgroup } from './cgroup.ts';
import { Child } from './child.ts';
import { Inheritance, Keeper } from './keeper.ts';
import type { LogWriter } from './log/writer.ts';
import { OomWatch } from './oom.ts';
import type { Reaper } from './reaper.ts';
import type { Runtime } from './runtime.ts';
import type { LogError } from './shim-log.ts';
import { Stdio, type StdioOptions } from './stdio.ts';

export interface GenerationDeps {
  gen: number;
  spec: ShimSpec;
  /** The container's run directory. */
  run: string;
  runtime: Runtime;
  reaper: Reaper;
  log: LogWriter;
  ports: readonly Fd[];
  /** The kernel has OOM-killed `kills` of its processes in total. May be called twice with the same number. */
  onOom: (kills: number) => void;
  logError: LogError;
}

/** How long after the init's death a process that escaped the container may keep its output open (dockerd's value). */
const DRAIN_CAP_MS = 2000;

export class Generation {
  readonly #keeper: Keeper;
  readonly #cgroups: Map<string, string>;
  readonly #oom: OomWatch;

  private constructor(
    private readonly deps: GenerationDeps,
    readonly init: Child,
    readonly stdio: Stdio,
  ) {
    this.#cgroups = cgroupsOfInit(init, deps.spec);
    this.#oom = new OomWatch(this.#cgroups, deps.onOom, { removedBySystemd: deps.spec.runtime.systemdCgroup });
    this.#keeper = new Keeper(files(deps).keeper, deps.reaper, () => ({
      stdio: stdio.kept(),
      pidfd: init.pidfd,
      ports: [...deps.ports],
    }));
    stdio.onStdinEnd = () => this.#keeper.renew();
  }

  get gen(): number {
    return this.deps.gen;
  }

  get keeperPid(): number | undefined {
    return this.#keeper.pid;
  }

  /** Runs the runtime's create. The init waits for start(). @throws Error after everything is undone */
  static async create(deps: GenerationDeps): Promise<Generation> {
    const { runtime, reaper, gen, spec } = deps;
    const stdio = new Stdio(stdioOptions(deps));
    try {
      requireJoinedContainers(spec);
      stdio.prepare();
      const pid = await runtime.create({ stdio: stdio.childStdio(), consoleSocket: stdio.consoleSocket }, gen);
      const init = Child.spawned(pid, reaper, files(deps).exit);
      try {
        stdio.created(spec.consoleSize);
        // Alive before and after: the pids named the right processes when the runtime joined their namespaces.
        requireJoinedContainers(spec);
        return new Generation(deps, init, stdio);
      } catch (error) {
        init.kill(SIGKILL);
        await init.death;
        await runtime.delete({ force: true });
        throw error;
      }
    } catch (error) {
      stdio.close();
      throw error;
    }
  }

  /** Takes over from a dead shim. The init may be dead by now. */
  static takeOver(
    deps: GenerationDeps,
    known: { pid: number; startTime: string },
  ): { generation: Generation; ports: Fd[] } {
    const inheritance = new Inheritance(files(deps).keeper);
    const init = Child.inherited(known, inheritance.takePidfd(), deps.reaper, files(deps).exit);
    const stdio = Stdio.takeOver(stdioOptions(deps), inheritance.stdio);
    const ports = inheritance.takePorts();
    const generation = new Generation({ ...deps, ports }, init, stdio);
    if (!init.dead) generation.#keeper.renew();
    inheritance.close();
    stdio.start();
    if (!init.dead) setImmediate(() => generation.#oom.arm());
    return { generation, ports };
  }

  /** Lets the container's process run. @throws RuntimeFailure */
  async start(): Promise<void> {
    this.#keeper.renew();
    this.stdio.start();
    await this.deps.runtime.start(this.init.death);
    // After the start is answered: arming takes time that the client would wait for.
    setImmediate(() => this.#oom.arm());
  }

  /** Sends a signal to the init. False when it is dead. */
  kill(signal: number): boolean {
    return this.init.kill(signal);
  }

  /** Kills the processes that survive their init: those of a container in the host's pid namespace. */
  killAll(): void {
    for (const pid of processesIn(this.#cgroups)) kill(pid, SIGKILL);
  }

  /** OOM kills so far. Call it before reapAndDelete(), which removes the cgroup. */
  oomKills = (): number => this.#oom.kills();

  /**
   * Drains the dead init's output and deletes the container from the runtime. The init's death is in a note, so the
   * keeper has nothing left to keep: it ends before the journal says `exited`, after which no successor looks for it.
   */
  async reapAndDelete(): Promise<void> {
    await Promise.all([this.stdio.finish(DRAIN_CAP_MS), this.#deleteFromRuntime()]);
    this.#keeper.end();
  }

  /** Releases everything. Call it once the end is in the journal. */
  close(): void {
    this.#oom.close();
    this.stdio.close();
    this.init.close();
  }

  async #deleteFromRuntime(): Promise<void> {
    const { runtime, spec, logError } = this.deps;
    await runtime.delete({ force: false }).catch(async () => {
      await deleteByForce(runtime, logError);
      // A runtime that has lost the container's state leaves its cgroup.
      if (spec.cgroupPath !== undefined) removeCgroup(spec.cgroupPath);
    });
  }
}

// A restart may come days after a joined container's death, when its pid may belong to any process of the host.
function requireJoinedContainers({ donors: joinedContainers = [] }: ShimSpec): void {
  if (!joinedContainers.every(({ pid, startTime }) => isAlive(pid, startTime)))
    throw new Error('failed to join namespaces: the joined container is not running');
}

// A failure does not hold up the end of this run: if it matters, the next create fails with the runtime's own message.
const deleteByForce = (runtime: Runtime, logError: LogError): Promise<void> =>
  runtime.delete({ force: true }).catch((error: unknown) => logError('deleting the container from the runtime', error));

// A dead init's pid may belong to any process of the host by now.
function cgroupsOfInit({ pid, startTime }: Child, { cgroupPath }: ShimSpec): Map<string, string> {
  const cgroups = cgroupsOf(pid);
  if (isAlive(pid, startTime)) return cgroups;
  return cgroupPath === undefined ? new Map<string, string>() : cgroupsAt(cgroupPath);
}

/** Ends what a dead shim left of an unfinished create or start: an init, its keeper, the runtime's state. */
export async function clearLeftovers(
  runtime: Runtime,
  run: string,
  left: { gen: number; pid: number; startTime: string },
  logError: LogError,
): Promise<void> {
  const { keeper } = files({ run, gen: left.gen });
  new Inheritance(keeper).close();
  removeFile(keeper);
  if (isAlive(left.pid, left.startTime)) kill(left.pid, SIGKILL);
  await deleteByForce(runtime, logError);
}

function files({ run, gen }: { run: string; gen: number }): { keeper: string; exit: string } {
  const at = (suffix: string): string => join(run, `${gen}${suffix}`);
  return { keeper: at(KEEPER_SUFFIX), exit: at('.exit') };
}

function stdioOptions({ run, gen, spec, log }: GenerationDeps): StdioOptions {
  return { run, key: String(gen), tty: spec.tty, stdin: spec.openStdin, stdinOnce: spec.stdinOnce, log };
}
