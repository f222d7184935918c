/**
 * The daemon is killed with SIGKILL while 14 containers and three client sessions run, stays away while things happen,
 * and a new one starts: nothing may be lost. It needs the real daemon, shims and CLI, because what survives is the
 * work of the shims. HOLDFAST_AWAY_SECONDS sets how long the daemon is away (default: 30).
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Command } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';
import { judgeLog, writerProgram } from '../support/numbered-writer.ts';

const AWAY_MS = Number(process.env.HOLDFAST_AWAY_SECONDS ?? 30) * 1000;
const STAMP_LIMIT_MS = Number(process.env.HOLDFAST_STAMP_MS ?? 100);
const LIST_LIMIT_MS = Number(process.env.HOLDFAST_LIST_MS ?? 1000);
/** Start time of an idle Node.js process on an otherwise idle machine. */
const IDLE_START_MS = 150;
const WRITERS = ['w1', 'w2', 'w3', 'w4', 'w5'];
const RESTARTED = ['always', 'on-failure', 'unless-stopped'];
const PORT = 21_808;
/** Exits with 7 when /die exists. */
const MORTAL = 'while [ ! -e /die ]; do usleep 50000; done; rm -f /die; exit 7';

/** Options and command of each container that is started with `docker run -d`. */
const CONTAINERS: Record<string, string[]> = {
  ...Object.fromEntries(WRITERS.map((name) => [name, ['busybox', 'sh', '-c', writerProgram]])),
  tty: ['-it', 'busybox', 'sh'],
  execs: ['busybox', 'sleep', '10000'],
  health: [
    ...['--health-cmd', 'test ! -e /sick', '--health-interval', '1s', '--health-retries', '2'],
    ...['busybox', 'sleep', '10000'],
  ],
  always: ['--restart', 'always', 'busybox', 'sh', '-c', MORTAL],
  'on-failure': ['--restart', 'on-failure:5', 'busybox', 'sh', '-c', MORTAL],
  'unless-stopped': ['--restart', 'unless-stopped', 'busybox', 'sh', '-c', MORTAL],
  port: [
    ...['-p', `127.0.0.1:${PORT}:80`, 'busybox', 'sh', '-c'],
    MORTAL.replace('usleep 50000', "printf 'HTTP/1.0 200 OK\\r\\n\\r\\nhere' | nc -l -p 80 -w 2"),
  ],
  quits: ['busybox', 'sh', '-c', MORTAL],
};

interface Inspect {
  Id: string;
  State: {
    Status: string;
    Running: boolean;
    Pid: number;
    StartedAt: string;
    FinishedAt: string;
    ExitCode: number;
    Health?: { Status: string; FailingStreak: number };
  };
  RestartCount: number;
  LogPath: string;
  ExecIDs: string[] | null;
}
interface DockerEvent {
  Action: string;
  Actor: { ID: string; Attributes: Record<string, string> };
  timeNano: number;
}

/** Client sessions that are open when the daemon is killed. */
interface Sessions {
  foreground: Command;
  attached: Command;
  exec: Command;
}

/** How much slower this machine is now than an idle one, at least 1: the time limits hold for an idle machine. */
function slowness(): number {
  const startedAt = Date.now();
  for (let i = 0; i < 3; i++) execFileSync(process.execPath, ['-e', '0']);
  return Math.max(1, (Date.now() - startedAt) / 3 / IDLE_START_MS);
}

/** One outage of the daemon, and what was observed before and after it. The steps run in the order of `run`. */
class Outage implements AsyncDisposable {
  readonly before = new Map<string, Inspect>();
  readonly after = new Map<string, Inspect>();
  sessions!: Sessions;
  killedAt = 0;
  backAt = 0;
  /** From the start of the new daemon to its first list, ms. */
  listMs = 0;
  listed: { Names: string[]; State: string }[] = [];
  events: DockerEvent[] = [];
  slowness = 1;

  private constructor(readonly engine: TestEngine) {}

  static async run(): Promise<Outage> {
    const outage = new Outage(await startEngine());
    try {
      await outage.#startContainers();
      outage.#openSessions();
      await outage.#waitUntilReady();
      await outage.#inspectAll(outage.before, [...Object.keys(CONTAINERS), 'foreground']);
      await outage.#killDaemon();
      outage.#actWhileAway();
      await new Promise((resolve) => setTimeout(resolve, AWAY_MS));
      await outage.#startNextDaemon();
      await outage.#inspectAll(outage.after, Object.keys(CONTAINERS));
      await outage.#readEvents();
      return outage;
    } catch (error) {
      await outage[Symbol.asyncDispose]();
      throw error;
    }
  }

  async inspect(name: string): Promise<Inspect> {
    return (await this.engine.api('GET', `/containers/${name}/json`)).json as Inspect;
  }

  /** Creates an empty file in the container's rootfs from the host, which needs no daemon. */
  signal(name: string, file: string): void {
    this.engine.writeInto(this.before.get(name)!.Id, file, '');
  }

  eventsOf(name: string, action: string): DockerEvent[] {
    return this.events.filter((e) => e.Actor.ID === this.before.get(name)!.Id && e.Action === action);
  }

  /** Whether the event is stamped with a time at which no daemon ran. */
  duringOutage = ({ timeNano }: DockerEvent): boolean =>
    timeNano / 1e6 >= this.killedAt - 50 && timeNano / 1e6 <= this.backAt;

  async #startContainers(): Promise<void> {
    for (const [name, args] of Object.entries(CONTAINERS))
      await this.engine.dockerOutput('run', '-d', '--name', name, ...args);
  }

  #openSessions(): void {
    const { engine } = this;
    const runScript = 'read line; echo "heard $line"; exit 9';
    const execScript = 'read line; echo "exec heard $line"; exit 5';
    this.sessions = {
      foreground: engine.docker('run', '--rm', '-i', '--name', 'foreground', 'busybox', 'sh', '-c', runScript),
      attached: engine.terminal('attach', 'tty'),
      exec: engine.docker('exec', '-i', 'execs', 'sh', '-c', execScript),
    };
  }

  async #waitUntilReady(): Promise<void> {
    await until(
      async () =>
        (await this.engine.api('GET', '/containers/foreground/json')).status === 200 &&
        (await this.inspect('foreground')).State.Running,
    );
    await until(async () => (await this.inspect('health')).State.Health?.Status === 'healthy');
    await until(async () => (await this.inspect('execs')).ExecIDs?.length === 1);
  }

  async #inspectAll(target: Map<string, Inspect>, names: string[]): Promise<void> {
    for (const name of names) target.set(name, await this.inspect(name));
  }

  async #killDaemon(): Promise<void> {
    this.slowness = slowness();
    this.killedAt = Date.now();
    await this.engine.kill9();
  }

  /** Ends containers, makes one unhealthy, and sends input to the open sessions. */
  #actWhileAway(): void {
    for (const name of [...RESTARTED, 'quits']) this.signal(name, '/die');
    this.signal('health', '/sick');
    this.sessions.attached.stdin.write('echo typed-$((40+2))\n');
    this.sessions.exec.stdin.write('away\n');
    this.sessions.foreground.stdin.write('outage\n');
  }

  async #startNextDaemon(): Promise<void> {
    this.backAt = Date.now();
    // Without the contract check, which would take longer than the list whose time is measured.
    await this.engine.startAgain({ HOLDFAST_CHECK_ANSWERS: undefined });
    this.listed = (await this.engine.api('GET', '/containers/json?all=1')).json as Outage['listed'];
    this.listMs = Date.now() - this.backAt;
    this.slowness = Math.max(this.slowness, slowness());
  }

  async #readEvents(): Promise<void> {
    const [since, end] = [Math.floor(this.killedAt / 1000) - 1, Math.ceil(Date.now() / 1000)];
    const { text } = await this.engine.api('GET', `/events?since=${since}&until=${end}`);
    const lines = text.split('\n').filter((line) => line.trim() !== '');
    this.events = lines.map((line) => JSON.parse(line) as DockerEvent);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.engine[Symbol.asyncDispose]();
  }
}

let outage: Outage;
beforeAll(async () => {
  outage = await Outage.run();
}, 240_000);
afterAll(async () => outage?.[Symbol.asyncDispose]());

// Each test acts only on containers and sessions of its own; none depends on another.
describe('after an outage of the daemon', () => {
  test('the new daemon soon serves a correct list [list-after-outage]', () => {
    expect(outage.listMs).toBeLessThan(LIST_LIMIT_MS * outage.slowness);
    const states = Object.fromEntries(outage.listed.map((c) => [c.Names[0], c.State]));
    for (const name of WRITERS) expect(states[`/${name}`]).toBe('running');
    expect(states['/quits']).toBe('exited');
    expect(states['/foreground']).toBeUndefined();
  });

  test('containers that did not end still have the same process [same-process]', () => {
    for (const name of [...WRITERS, 'tty', 'execs', 'health', 'port']) {
      const { Pid, StartedAt } = outage.before.get(name)!.State;
      expect(outage.after.get(name)!.State, name).toMatchObject({ Running: true, Pid, StartedAt });
    }
  });

  test('a container that exited meanwhile has its true exit code and time [exit-while-down]', () => {
    const { State } = outage.after.get('quits')!;
    expect(State).toMatchObject({ Status: 'exited', ExitCode: 7 });
    expect(Date.parse(State.FinishedAt)).toBeGreaterThan(outage.killedAt - 50);
    expect(Date.parse(State.FinishedAt)).toBeLessThan(outage.backAt);
    const deaths = outage.eventsOf('quits', 'die');
    expect(deaths.map((e) => e.Actor.Attributes.exitCode)).toEqual(['7']);
    expect(deaths.every(outage.duringOutage)).toBe(true);
  });

  test.each(RESTARTED)('restart policy %s has restarted its container without a daemon [policy-while-down]', (name) => {
    const after = outage.after.get(name)!;
    expect(after.State).toMatchObject({ Status: 'running' });
    expect(after.State.Pid).not.toBe(outage.before.get(name)!.State.Pid);
    expect(after.RestartCount).toBe(1);
    expect(outage.eventsOf(name, 'die').filter(outage.duringOutage)).toHaveLength(1);
    expect(outage.eventsOf(name, 'start').filter(outage.duringOutage)).toHaveLength(1);
  });

  test('a health check has found its container unhealthy without a daemon [health-while-down]', () => {
    const { Health } = outage.after.get('health')!.State;
    expect(Health?.Status).toBe('unhealthy');
    expect(Health!.FailingStreak).toBeGreaterThan(1);
    expect(outage.eventsOf('health', 'health_status: unhealthy').filter(outage.duringOutage)).toHaveLength(1);
  });

  test('a foreground run got its output and exit code, and --rm removed its container [run-across-outage]', async () => {
    const { exitCode, stdout } = await outage.sessions.foreground.result;
    expect(stdout).toBe('heard outage\n');
    expect(exitCode).toBe(9);
    await until(async () => (await outage.engine.api('GET', '/containers/foreground/json')).status === 404);
  });

  test('an exec session got its output and exit code [exec-across-outage]', async () => {
    const { exitCode, stdout } = await outage.sessions.exec.result;
    expect(stdout).toBe('exec heard away\n');
    expect(exitCode).toBe(5);
    const deaths = outage.events.filter((e) => e.Action === 'exec_die' && e.Actor.Attributes.exitCode === '5');
    expect(deaths).toHaveLength(1);
  });

  test('an attached terminal still works [terminal-across-outage]', async () => {
    const { attached } = outage.sessions;
    await until(() => attached.stdout().includes('typed-42'));
    attached.stdin.write('echo again-$((1+1))\n');
    await until(() => attached.stdout().includes('again-2'));
    attached.stdin.write('exit 3\n');
    await until(async () => (await outage.inspect('tty')).State.ExitCode === 3);
  });

  test('the published port answers', async () => {
    const answer = (): Promise<string> => outage.engine.curl(`http://127.0.0.1:${PORT}/`).catch(() => '');
    await until(async () => (await answer()) === 'here');
  });

  test('no log line is missing, duplicated, torn or stamped late [log-complete]', async () => {
    for (const name of WRITERS) outage.signal(name, '/stop');
    for (const name of WRITERS) await until(async () => !(await outage.inspect(name)).State.Running, 30_000);
    for (const name of WRITERS) {
      const verdict = judgeLog(outage.before.get(name)!.LogPath, STAMP_LIMIT_MS * outage.slowness);
      expect(verdict.faults, name).toEqual([]);
      expect(verdict.lines, name).toBeGreaterThan((AWAY_MS / 1000) * 1000);
      expect(verdict.late, `${name}: worst ${verdict.worstMs} ms of ${verdict.lines} lines`).toBe(0);
    }
  });
});

// Last, because it removes all containers.
test('no shim outlives the removal of its container', async () => {
  const { engine, listed } = outage;
  for (const { Names } of listed) await engine.docker('rm', '-f', Names[0]!.slice(1)).result;
  const running = join(engine.execRoot, 'c');
  await until(() => !existsSync(running) || readdirSync(running).length === 0);
  await until(() => engine.shims().length === 0);
});
