import { spawn, type ChildProcess } from 'node:child_process';
import {
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseLogLine } from '../../src/protocol/log-format.ts';
import { LogWriter } from '../../src/shim/log/writer.ts';
import { Stdio, type KeptStdio, type StdioOptions } from '../../src/shim/stdio.ts';
import { addressOf, declare } from '../../src/sys/libc.ts';
import { pidfdOpen } from '../../src/sys/process.ts';
import { deliverFd } from '../../src/sys/socket.ts';
import { exited } from '../support/processes.ts';
import { until } from '../support/until.ts';

let run: string;
const children: ChildProcess[] = [];
const open: Stdio[] = [];
beforeEach(() => void (run = mkdtempSync(join(tmpdir(), 'io-'))));
afterEach(() => {
  for (const stdio of open.splice(0)) stdio.close();
  for (const child of children.splice(0)) child.kill('SIGKILL');
  rmSync(run, { recursive: true, force: true });
});

const logWriter = (): LogWriter =>
  new LogWriter({ driver: 'json-file', path: join(run, 'log'), maxSize: 0, maxFile: 1, attrs: {} });
const logged = (stream: string): string =>
  readFileSync(join(run, 'log'), 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((l) => parseLogLine(l)!)
    .filter((l) => l.stream === stream)
    .map((l) => l.log)
    .join('');

interface Seen {
  1: Buffer;
  2: Buffer;
}
function watch(stdio: Stdio): Seen {
  const seen = { 1: Buffer.alloc(0), 2: Buffer.alloc(0) };
  stdio.onOutput = ({ stream, chunk }) => (seen[stream] = Buffer.concat([seen[stream], chunk]));
  return seen;
}

const options = (more: Partial<StdioOptions> = {}): StdioOptions => ({
  run,
  key: '1',
  tty: false,
  stdin: false,
  stdinOnce: false,
  log: null,
  ...more,
});

/** A process on this stdio, as the runtime would start it. */
function start(
  script: string,
  more: Partial<StdioOptions> = {},
): { stdio: Stdio; seen: Seen; child: ChildProcess; o: StdioOptions } {
  const o = options(more);
  const stdio = new Stdio(o);
  open.push(stdio);
  stdio.prepare();
  const child = spawn('sh', ['-c', script], { stdio: stdio.childStdio() });
  children.push(child);
  stdio.created([0, 0]);
  return { stdio, seen: watch(stdio), child, o };
}

/** A process that only keeps the descriptors open. */
function keep(stdio: Stdio): { keeper: KeptStdio; child: ChildProcess } {
  const kept = stdio.kept();
  const child = spawn('sleep', ['1000'], { stdio: ['ignore', 'ignore', 'ignore', ...kept] });
  children.push(child);
  return { keeper: { pidfd: pidfdOpen(child.pid!), fds: kept.map((_, i) => 3 + i) }, child };
}

describe('pipes', () => {
  test('bring both streams to the log and the listener, then EOF', async () => {
    const { stdio, seen, child } = start('echo out; echo err >&2; printf rest', { log: logWriter() });
    stdio.start();
    await exited(child);
    await stdio.drained;
    await stdio.finish(1000);
    expect([seen[1].toString(), seen[2].toString()]).toEqual(['out\nrest', 'err\n']);
    expect([logged('stdout'), logged('stderr')]).toEqual(['out\nrest', 'err\n']);
  });

  test('let a container open /dev/stdout; stdin is /dev/null', async () => {
    const { stdio, seen, child } = start('echo x >/dev/stdout; stat -Lc %F /proc/self/fd/1; readlink /proc/self/fd/0');
    stdio.start();
    await exited(child);
    await stdio.drained;
    expect(seen[1].toString()).toBe('x\nfifo\n/dev/null\n');
  });

  test('are FIFOs of mode 0600, 1 MiB where the kernel allows it, removed by close; prepare is repeatable', () => {
    const stdio = new Stdio(options({ stdin: true }));
    stdio.prepare();
    stdio.prepare();
    for (const name of ['1.in', '1.out', '1.err']) expect(statSync(join(run, name)).mode & 0o7777).toBe(0o600);
    expect(stdio.consoleSocket).toBe('');
    stdio.close();
    stdio.close();
    for (const name of ['1.in', '1.out', '1.err']) expect(existsSync(join(run, name))).toBe(false);
  });

  test('pass 64 MiB completely and leak no descriptor', async () => {
    const before = descriptors();
    const { stdio, child } = start('head -c 67108864 /dev/zero');
    let n = 0;
    stdio.onOutput = ({ chunk }) => (n += chunk.length);
    stdio.start();
    await exited(child);
    await stdio.finish(1000);
    expect(n).toBe(67108864);
    stdio.close();
    await until(() => descriptors() === before);
  });

  test('make the process wait while output is paused, and lose nothing', async () => {
    const { stdio, seen, child } = start('i=0; while [ $i -lt 40 ]; do head -c 65536 /dev/zero; i=$((i+1)); done');
    stdio.start();
    stdio.pauseOutput(stdio);
    await sleep(200);
    expect(child.exitCode).toBe(null);
    expect(seen[1].length).toBeLessThan(200_000);
    stdio.resumeOutput(stdio);
    await exited(child);
    await stdio.finish(1000);
    expect(seen[1].length).toBe(40 * 65536);
  });

  test('are drained by finish despite backpressure, however long it lasts', async () => {
    const { stdio, seen, child } = start('head -c 500000 /dev/zero');
    stdio.start();
    stdio.pauseOutput(stdio);
    await exited(child);
    const finished = stdio.finish(20);
    await sleep(200);
    stdio.resumeOutput(stdio);
    await finished;
    expect(seen[1].length).toBe(500_000);
  });

  test.each([
    ['silent', 'echo last; sleep 1000 &'],
    ['writing', 'echo last; while :; do echo noise; done &'],
  ])('held open by a %s descendant delay finish only up to the cap', async (_what, script) => {
    const { stdio, seen, child } = start(script);
    stdio.start();
    await exited(child);
    const began = Date.now();
    await stdio.finish(100);
    expect(Date.now() - began).toBeGreaterThan(90);
    expect(Date.now() - began).toBeLessThan(3000);
    expect(seen[1].toString().startsWith('last\n')).toBe(true);
    stdio.close();
  });
});

const descriptors = (): number => readdirSync('/proc/self/fd').length;

describe('stdin', () => {
  test('reaches the process; it ends only when the keeper has closed it too', async () => {
    const { stdio, seen, child } = start('cat; echo eof', { stdin: true });
    const first = keep(stdio);
    expect(stdio.kept()).toHaveLength(3);
    stdio.onStdinEnd = () => {
      keep(stdio);
      first.child.kill('SIGKILL');
    };
    stdio.start();
    await new Promise<void>((resolve) => stdio.writeStdin(Buffer.from('hello\n'), resolve));
    await until(() => seen[1].toString() === 'hello\n');
    stdio.endStdin();
    expect(stdio.kept()).toHaveLength(2);
    await exited(child);
    await stdio.finish(1000);
    expect(seen[1].toString()).toBe('hello\neof\n');
  });

  test('EOF follows all buffered input', async () => {
    const { stdio, child } = start('sleep 0.2; wc -c', { stdin: true });
    const seen = watch(stdio);
    stdio.start();
    let accepted = 0;
    for (let i = 0; i < 64; i++) stdio.writeStdin(Buffer.alloc(65536, 'x'), () => accepted++);
    stdio.endStdin();
    await exited(child);
    await stdio.finish(1000);
    expect(seen[1].toString().trim()).toBe(String(64 * 65536));
    expect(accepted).toBe(64);
  });

  test('closed by the process takes nothing and breaks nothing', async () => {
    const { stdio, child } = start('exec <&-; sleep 0.3; echo done', { stdin: true });
    stdio.start();
    await sleep(100);
    for (let i = 0; i < 3; i++) await new Promise<void>((resolve) => stdio.writeStdin(Buffer.alloc(100_000), resolve));
    stdio.endStdin();
    expect(await exited(child)).toBe(0);
  });

  test('stays open without a client', async () => {
    const { stdio, child } = start('read line; echo got', { stdin: true });
    stdio.start();
    await sleep(150);
    expect(child.exitCode).toBe(null);
  });
});

describe('after the shim’s death', () => {
  test('its pipes are read by the next shim while the process writes', async () => {
    const { stdio, seen, child, o } = start(
      'i=0; while [ $i -lt 400 ]; do echo line $i; echo err $i >&2; i=$((i+1)); sleep 0.001; done; cat; echo eof',
      { stdin: true },
    );
    const { keeper, child: holder } = keep(stdio);
    stdio.start();
    await until(() => seen[1].includes('line 100\n'));
    stdio.close(); // closes the descriptors, as SIGKILL would
    await sleep(100);
    const next = Stdio.takeOver(o, keeper);
    open.push(next);
    const more = watch(next);
    next.onStdinEnd = () => void holder.kill('SIGKILL');
    next.start();
    next.writeStdin(Buffer.from('input\n'), () => {});
    await until(() => more[1].includes('input\n'));
    const lines = (seen[1].toString() + more[1].toString()).split('\n').filter((l) => l.startsWith('line'));
    expect(lines).toEqual(Array.from({ length: 400 }, (_, i) => `line ${i}`));
    expect((seen[2].toString() + more[2].toString()).trim().split('\n')).toHaveLength(400);
    next.endStdin();
    await exited(child);
    await next.drained;
    expect(more[1].toString()).toContain('input\neof\n');
  });

  test('the last output of a process that died meanwhile is read', async () => {
    const { stdio, child, o } = start('echo last words; exit 3');
    const { keeper } = keep(stdio);
    await exited(child); // none of its output has been read
    stdio.close();
    const next = Stdio.takeOver(o, keeper);
    open.push(next);
    const seen = watch(next);
    next.start();
    await next.drained;
    expect(seen[1].toString()).toBe('last words\n');
  });

  test('the pipes are reopened by path when the keeper is dead, as long as a process has them open', async () => {
    const { child, o } = start('echo last words; exit 3');
    await exited(child);
    const next = Stdio.takeOver(o, { pidfd: -1, fds: [] });
    open.push(next);
    const seen = watch(next);
    next.start();
    await next.drained;
    expect(seen[1].toString()).toBe('last words\n');
  });

  test('a dead keeper costs stdin, nothing else', async () => {
    const { stdio, child, o } = start('sleep 0.2; echo still', { stdin: true });
    const { keeper, child: holder } = keep(stdio);
    holder.kill('SIGKILL');
    await exited(holder);
    const next = Stdio.takeOver(o, keeper);
    open.push(next);
    const seen = watch(next);
    next.start();
    expect(next.kept()).toHaveLength(2);
    await exited(child);
    await until(() => seen[1].length > 0);
    expect(seen[1].toString()).toBe('still\n');
  });
});

describe('a terminal', () => {
  const ioctl = declare('int ioctl(int fd, unsigned long request, void *argument)');
  /** Plays the runtime: makes a terminal, sends its master over the console socket, starts a process on the slave. */
  function startOnTerminal(
    script: string,
    more: Partial<StdioOptions> = {},
    size: [number, number] = [0, 0],
  ): { stdio: Stdio; seen: Seen; child: ChildProcess; o: StdioOptions } {
    const o = options({ tty: true, stdin: true, ...more });
    const stdio = new Stdio(o);
    open.push(stdio);
    stdio.prepare();
    const master = openSync('/dev/ptmx', constants.O_RDWR | constants.O_NOCTTY);
    const number = Buffer.alloc(4);
    ioctl(master, 0x40045431, addressOf(number)); // TIOCSPTLCK
    ioctl(master, 0x80045430, addressOf(number)); // TIOCGPTN
    const slave = openSync(`/dev/pts/${number.readInt32LE(0)}`, constants.O_RDWR | constants.O_NOCTTY);
    deliverFd(stdio.consoleSocket, Buffer.from('/dev/ptmx'), master);
    closeSync(master);
    const child = spawn('setsid', ['--ctty', 'sh', '-c', script], { stdio: [slave, slave, slave] });
    children.push(child);
    closeSync(slave);
    stdio.created(size);
    return { stdio, seen: watch(stdio), child, o };
  }

  test('echoes, has its size, and can be resized', async () => {
    const { stdio, seen, child } = startOnTerminal(
      'trap "stty size; exit" WINCH; stty size; while :; do read x; done',
      {},
      [24, 80],
    );
    stdio.start();
    await until(() => seen[1].includes('24 80'));
    stdio.writeStdin(Buffer.from('typed\n'), () => {});
    await until(() => seen[1].includes('typed\r\n'));
    stdio.resize(50, 132);
    // A signal that comes right before the shell's read(2) is handled only after it.
    stdio.writeStdin(Buffer.from('\n'), () => {});
    await until(() => seen[1].includes('50 132'));
    await exited(child);
    await stdio.drained;
    expect(seen[2].length).toBe(0);
    expect(existsSync(stdio.consoleSocket)).toBe(false);
  });

  test.each([
    ['flowing', false],
    ['paused until after the end', true],
  ])('loses nothing at its end: output %s', async (_what, held) => {
    for (let round = 0; round < 8; round++) {
      const lines = 200 * (round + 1);
      const { stdio, seen, child } = startOnTerminal(`seq 1 ${lines}`, { key: `t${round}` });
      stdio.start();
      if (held) stdio.pauseOutput(stdio);
      await Promise.race([exited(child), sleep(100)]);
      stdio.resumeOutput(stdio);
      await exited(child);
      await stdio.finish(1000);
      expect(seen[1].toString()).toBe(Array.from({ length: lines }, (_, i) => `${i + 1}\r\n`).join(''));
      stdio.close();
    }
  });

  test('does not block the event loop when its process does not read', async () => {
    const { stdio } = startOnTerminal('stty raw; sleep 2');
    stdio.start();
    await sleep(100);
    const began = Date.now();
    stdio.writeStdin(Buffer.alloc(200_000, 'x'), () => {});
    await new Promise((resolve) => setImmediate(resolve));
    expect(Date.now() - began).toBeLessThan(500);
  });

  test('moves to another shim without a hang-up', async () => {
    const { stdio, seen, o } = startOnTerminal(
      'trap "echo HUP" HUP; i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.01; done',
    );
    const { keeper } = keep(stdio);
    expect(stdio.kept()).toHaveLength(1);
    stdio.start();
    await until(() => seen[1].includes('tick 5\r\n'));
    stdio.close();
    const next = Stdio.takeOver(o, keeper);
    open.push(next);
    const more = watch(next);
    next.start();
    await until(() => more[1].toString().split('tick').length > 20);
    expect(more[1].toString()).not.toContain('HUP');
    const ticks = [...(seen[1].toString() + more[1].toString()).matchAll(/tick (\d+)\r/g)].map((m) => Number(m[1]));
    expect(ticks).toEqual(ticks.map((_, i) => i));
  });

  test('that the runtime does not send is reported as missing', () => {
    const stdio = new Stdio(options({ tty: true }));
    open.push(stdio);
    stdio.prepare();
    expect(() => stdio.created([0, 0])).toThrow('sent no terminal');
  });
});
