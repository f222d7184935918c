/** One run of the container: its init, its stdio, its keeper, what the runtime and the kernel keep of it. */
import { join } from 'node:path';
import type { ShimSpec } from '../protocol/spec.ts';
import { removeFile } from '../sys/file.ts';
import type { Fd } from '../sys/libc.ts';
import { isAlive, kill, SIGKILL } from '../sys/process.ts';
import { cgroupsOf, processesIn } from './cgroup.ts';
import { Child } from './child.ts';
import { Inheritance, Keeper } from './keeper.ts';
import type { LogWriter } from './log/writer.ts';
import { OomWatch } from './oom.ts';
import type { Reaper } from './reaper.ts';
import type { Runtime } from './runtime.ts';
import { Stdio } from './stdio.ts';

/** What a generation is made with. */
export interface Making {
  gen: number;
  spec: ShimSpec;
  /** The container's run directory. */
  run: string;
  runtime: Runtime;
  reaper: Reaper;
  log: LogWriter;
  ports: readonly Fd[];
  /** The kernel has killed this many of its processes for want of memory. May be told twice. */
  onOom: (kills: number) => void;
  complain: Complain;
}

type Complain = (what: string, error: unknown) => void;

/**
 * After the init's death: how long a process that escaped the container may hold its output open (dockerd waits as
 * long).
 */
const DRAIN_CAP_MS = 2000;

export class Generation {
  readonly #keeper: Keeper;
  #cgroups: Map<string, string>;
  readonly #oom: OomWatch;

  private constructor(
    private readonly making: Making,
    readonly init: Child,
    readonly stdio: Stdio,
  ) {
    this.#cgroups = cgroupsOf(init.pid);
    this.#oom = new OomWatch(this.#cgroups, making.onOom, { removedBySystemd: making.spec.runtime.systemdCgroup });
    this.#keeper = new Keeper(files(making).keeper, making.reaper, () => ({
      stdio: stdio.kept(),
      pidfd: init.pidfd,
      ports: [...making.ports],
    }));
    stdio.onStdinEnd = () => this.#keeper.renew();
  }

  get gen(): number {
    return this.making.gen;
  }

  get keeperPid(): number | undefined {
    return this.#keeper.pid;
  }

  /** Has the runtime make the container. Its init waits for start(). */
  static async create(making: Making): Promise<Generation> {
    const { runtime, reaper, gen, spec } = making;
    const stdio = new Stdio(stdioOptions(making));
    try {
      requireDonors(spec);
      stdio.prepare();
      const pid = await runtime.create({ stdio: stdio.childStdio(), consoleSocket: stdio.consoleSocket }, gen);
      const init = Child.born(pid, reaper, files(making).exit);
      try {
        stdio.created(spec.consoleSize);
        // Still the same: so they were while the runtime looked them up, and nothing of the container has run yet.
        requireDonors(spec);
        return new Generation(making, init, stdio);
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

  /** Goes on with a container whose shim died. Its init may be dead by now. */
  static takeOver(making: Making, known: { pid: number; startTime: string }): { generation: Generation; ports: Fd[] } {
    const inheritance = new Inheritance(files(making).keeper);
    const init = Child.adopted(known, inheritance.takePidfd(), making.reaper, files(making).exit);
    const stdio = Stdio.takeOver(stdioOptions(making), inheritance.stdio);
    const ports = inheritance.takePorts();
    const generation = new Generation({ ...making, ports }, init, stdio);
    if (!init.dead) generation.#keeper.renew();
    inheritance.release();
    stdio.start();
    if (!init.dead) setImmediate(() => generation.#oom.arm());
    return { generation, ports };
  }

  /** Lets the container's process run. */
  async start(): Promise<void> {
    this.#keeper.renew();
    this.stdio.start();
    await this.making.runtime.start(this.init.death);
    // Not in the way of whoever waits for the start.
    setImmediate(() => this.#oom.arm());
  }

  /** False when it is dead. */
  kill(signal: number): boolean {
    return this.init.kill(signal);
  }

  /** Where init's death did not take the others with it (a container in the host's pid namespace). */
  killAll(): void {
    for (const pid of processesIn(this.#cgroups)) kill(pid, SIGKILL);
  }

  /** How many of its processes the kernel has killed for want of memory. Not after bury(): the cgroup is gone then. */
  oomKills = (): number => this.#oom.kills();

  /** The init is dead: reads its last words and has the runtime forget it. Its end is on record in a note, so the keeper
   * has
   *  nothing left to keep: it goes before the journal says that all is over, when nobody would look for it any more. */
  async bury(): Promise<void> {
    await Promise.all([this.stdio.finish(DRAIN_CAP_MS), this.#forget()]);
    this.#keeper.end();
  }

  /** Its end is in the journal: lets go of everything. */
  release(): void {
    this.#oom.close();
    this.stdio.close();
    this.init.release();
  }

  async #forget(): Promise<void> {
    const { runtime, complain } = this.making;
    await runtime.delete({ force: false }).catch(() => deleteByForce(runtime, complain));
  }
}

// Days after its donor's death a container may be restarted, and the donor's pid may be a process of the host.
function requireDonors({ donors = [] }: ShimSpec): void {
  if (!donors.every(({ pid, startTime }) => isAlive(pid, startTime)))
    throw new Error('failed to join namespaces: the container that they are of is not running');
}

// The end of a run does not wait for it, nor fail by it: a next run in whose way that is says so itself.
const deleteByForce = (runtime: Runtime, complain: Complain): Promise<void> =>
  runtime
    .delete({ force: true })
    .catch((error: unknown) => complain('the runtime does not forget the container', error));

/** Ends what a shim left half made: an init that nobody started, or that nobody knows of, and its keeper. */
export async function clearLeftovers(
  runtime: Runtime,
  run: string,
  left: { gen: number; pid: number; startTime: string },
  complain: Complain,
): Promise<void> {
  const { keeper } = files({ run, gen: left.gen });
  new Inheritance(keeper).release();
  removeFile(keeper);
  if (isAlive(left.pid, left.startTime)) kill(left.pid, SIGKILL);
  await deleteByForce(runtime, complain);
}

function files({ run, gen }: { run: string; gen: number }): { keeper: string; exit: string; pid: string } {
  const at = (suffix: string): string => join(run, `${gen}.${suffix}`);
  return { keeper: at('keeper'), exit: at('exit'), pid: at('pid') };
}

function stdioOptions({ run, gen, spec, log }: Making): ConstructorParameters<typeof Stdio>[0] {
  return { run, key: String(gen), tty: spec.tty, stdin: spec.openStdin, stdinOnce: spec.stdinOnce, log };
}
