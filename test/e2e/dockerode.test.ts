/** dockerode against a real daemon: hijacked and plain streams, waits that are sent before the start. */
import Docker from 'dockerode';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { collected } from '../support/collected.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';

let engine: TestEngine;
let docker: Docker;
beforeAll(async () => {
  engine = await startEngine();
  docker = new Docker({ socketPath: engine.socket });
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

describe('dockerode [dockerode-streams]', () => {
  test('attach without hijack accepts stdin as a request body that never ends', async () => {
    const container = await docker.createContainer({
      Image: 'busybox',
      Cmd: ['sh', '-c', 'read a; echo got $a; read b; echo got $b; exit 4'],
      OpenStdin: true,
      AttachStdin: true,
    });
    const stream = await container.attach({ stream: true, stdin: true, stdout: true, stderr: true });
    const out = new PassThrough();
    docker.modem.demuxStream(stream, out, new PassThrough());
    const seen = collected(out);
    await container.start();
    stream.write('one\n');
    await until(() => seen.text() === 'got one\n');
    stream.write('two\n');
    expect(await container.wait()).toEqual({ StatusCode: 4 });
    await until(() => seen.text() === 'got one\ngot two\n');
    await container.remove();
  });

  test('attach with hijack accepts stdin until it is closed', async () => {
    const hijack = true;
    const container = await docker.createContainer({
      Image: 'busybox',
      Cmd: ['cat'],
      OpenStdin: true,
      StdinOnce: true,
      AttachStdin: true,
    });
    const stream = await container.attach({ stream: true, hijack, stdin: true, stdout: true, stderr: true });
    const [out, err] = [new PassThrough(), new PassThrough()];
    docker.modem.demuxStream(stream, out, err);
    const seen = collected(out);
    await container.start();
    stream.write('hello\n');
    stream.end();
    expect(await container.wait()).toMatchObject({ StatusCode: 0 });
    await until(() => seen.text() === 'hello\n');
    await container.remove();
  });

  test('a wait for next-exit that was sent before the start returns the exit code', async () => {
    const container = await docker.createContainer({ Image: 'busybox', Cmd: ['sh', '-c', 'exit 12'] });
    const waited = container.wait({ condition: 'next-exit' });
    await container.start();
    expect(await waited).toEqual({ StatusCode: 12 });
    await container.remove();
  });

  test('exec returns output and exit code with and without hijack', async () => {
    const container = await docker.createContainer({ Image: 'busybox', Cmd: ['sleep', '1000'] });
    await container.start();
    for (const hijack of [true, false]) {
      const exec = await container.exec({
        Cmd: ['sh', '-c', 'echo out; exit 3'],
        AttachStdout: true,
        AttachStderr: true,
      });
      const stream = await exec.start({ hijack, stdin: false });
      const out = new PassThrough();
      docker.modem.demuxStream(stream, out, new PassThrough());
      const seen = collected(out);
      await until(() => seen.text() === 'out\n');
      await until(async () => (await exec.inspect()).ExitCode === 3);
    }
    await container.remove({ force: true });
  });

  test('a terminal session can be resized', async () => {
    const container = await docker.createContainer({ Image: 'busybox', Cmd: ['sh'], Tty: true, OpenStdin: true });
    const stream = await container.attach({ stream: true, hijack: true, stdin: true, stdout: true, stderr: true });
    const seen = collected(stream);
    await container.start();
    await container.resize({ h: 41, w: 123 });
    stream.write('stty size; exit 5\n');
    expect(await container.wait()).toMatchObject({ StatusCode: 5 });
    await until(() => seen.text().includes('41 123'));
    await container.remove();
  });

  test('detach keys leave the container running', async () => {
    const container = await docker.createContainer({ Image: 'busybox', Cmd: ['sh'], Tty: true, OpenStdin: true });
    const stream = await container.attach({ stream: true, hijack: true, stdin: true, stdout: true, stderr: true });
    const seen = collected(stream);
    await container.start();
    stream.write(Buffer.from([16, 17]));
    await seen.ended;
    expect((await container.inspect()).State.Running).toBe(true);
    await container.remove({ force: true });
  });

  test('logs, stats, events and info return data', async () => {
    const container = await docker.createContainer({ Image: 'busybox', Cmd: ['sh', '-c', 'echo logged; sleep 1000'] });
    await container.start();
    await until(async () =>
      (await container.logs({ stdout: true, stderr: true, follow: false })).toString().includes('logged'),
    );
    const stats = (await container.stats({ stream: false })) as unknown as {
      memory_stats: { usage: number };
      name: string;
    };
    expect(stats.memory_stats.usage).toBeGreaterThan(0);
    const events = await docker.getEvents({
      since: Math.floor(Date.now() / 1000) - 60,
      until: Math.floor(Date.now() / 1000) + 1,
    });
    const seen = collected(events);
    await seen.ended;
    expect(seen.text()).toMatch(/"Action":"start"/);
    expect(((await docker.info()) as { ContainersRunning: number }).ContainersRunning).toBeGreaterThan(0);
    await container.remove({ force: true });
  });
});
