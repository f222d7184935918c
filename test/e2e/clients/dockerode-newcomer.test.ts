/**
 * A first dockerode script, as its README teaches: run with streams, followed logs, stats, events, volumes, networks,
 * images. It needs a real daemon because hijacked streams and stream ends are what breaks clients.
 */
import Docker from 'dockerode';
import { PassThrough, type Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { extract, pack } from 'tar-stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { busyboxTar } from '../../support/busybox.ts';
import { collected } from '../../support/collected.ts';
import { startEngine, type TestEngine } from '../../support/engine.ts';
import { until } from '../../support/until.ts';

let engine: TestEngine;
let docker: Docker;
beforeAll(async () => {
  engine = await startEngine();
  docker = new Docker({ socketPath: engine.socket });
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const sink = (): PassThrough & { text(): string } => {
  const stream = new PassThrough();
  return Object.assign(stream, { text: collected(stream).text });
};
/** Collects JSON lines as they arrive. */
const objects = <T>(stream: NodeJS.ReadableStream): T[] => {
  const found: T[] = [];
  let rest = '';
  stream.on('data', (chunk: Buffer) => {
    const lines = (rest + chunk.toString()).split('\n');
    rest = lines.pop()!;
    found.push(...lines.filter(Boolean).map((line) => JSON.parse(line) as T));
  });
  return found;
};

describe('docker.run [dockerode-run]', () => {
  test('separates both streams and returns the exit code and the container', async () => {
    const [out, err] = [sink(), sink()];
    const [result, container] = (await docker.run(
      'busybox',
      ['sh', '-c', 'echo out; echo err >&2; exit 3'],
      [out, err],
      { Tty: false },
    )) as [{ StatusCode: number }, Docker.Container];
    expect(result).toEqual({ StatusCode: 3 });
    await until(() => out.text() === 'out\n' && err.text() === 'err\n');
    await container.remove();
  });

  test('supports a terminal, environment, binds and AutoRemove', async () => {
    const out = sink();
    const [result, container] = (await docker.run('busybox', ['sh', '-c', 'tty; echo $A; pwd'], out, {
      Env: ['A=b c'],
      WorkingDir: '/tmp',
      HostConfig: { AutoRemove: true, Binds: ['/etc:/host:ro'] },
    })) as [{ StatusCode: number }, Docker.Container];
    expect(result.StatusCode).toBe(0);
    await until(() => out.text().includes('/tmp\r\n'));
    expect(out.text()).toMatch(/^\/dev\/(console|pts\/\d+)\r\nb c\r\n\/tmp\r\n$/);
    await until(() =>
      container.inspect().then(
        () => false,
        (error: unknown) => (error as { statusCode: number }).statusCode === 404,
      ),
    );
  });

  test('a missing image is reported with status 404', async () => {
    await expect(docker.createContainer({ Image: 'nobody/nothing:1', Cmd: ['true'] })).rejects.toMatchObject({
      statusCode: 404,
      json: { message: 'No such image: nobody/nothing:1' },
    });
  });
});

describe('a container [dockerode-container]', () => {
  test('supports the callback style of old scripts', async () => {
    const code = await new Promise((resolve, reject) => {
      docker.createContainer({ Image: 'busybox', Cmd: ['false'], name: 'called' }, (error, container) => {
        if (error || !container) return reject(error as Error);
        return container.start(() =>
          container.wait((failed: Error | null, data: { StatusCode: number }) =>
            container.remove(() => (failed ? reject(failed) : resolve(data.StatusCode))),
          ),
        );
      });
    });
    expect(code).toBe(1);
  });

  test('logs can be followed, demultiplexed, and limited by tail and since, with timestamps', async () => {
    const container = await docker.createContainer({
      Image: 'busybox',
      Cmd: ['sh', '-c', 'for i in 1 2 3; do echo out $i; echo err $i >&2; done; read x; echo end'],
      OpenStdin: true,
    });
    const input = await container.attach({ stream: true, hijack: true, stdin: true });
    await container.start();
    const stream = await container.logs({ follow: true, stdout: true, stderr: true });
    const [out, err] = [sink(), sink()];
    docker.modem.demuxStream(stream, out, err);
    await until(() => out.text() === 'out 1\nout 2\nout 3\n' && err.text() === 'err 1\nerr 2\nerr 3\n');
    const ended = new Promise((resolve) => stream.on('end', resolve));
    input.write('\n');
    await ended;
    expect(out.text()).toBe('out 1\nout 2\nout 3\nend\n');
    const tail = (
      await container.logs({ follow: false, stdout: true, stderr: false, tail: 1, timestamps: true })
    ).toString();
    expect(tail).toMatch(/^.{8}\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z end\n$/s);
    expect(
      (
        await container.logs({ follow: false, stdout: true, stderr: true, since: Math.ceil(Date.now() / 1000) + 60 })
      ).toString(),
    ).toBe('');
    await container.remove();
  });

  test('exec forwards stdin over a hijacked connection, and inspect reports its exit code', async () => {
    const container = await docker.createContainer({ Image: 'busybox', Cmd: ['sleep', '1000'] });
    await container.start();
    const exec = await container.exec({
      Cmd: ['sh', '-c', 'cat; echo done >&2; exit 9'],
      AttachStdin: true,
      AttachStdout: true,
      AttachStderr: true,
      Env: ['X=y'],
    });
    const stream = await exec.start({ hijack: true, stdin: true });
    const [out, err] = [sink(), sink()];
    docker.modem.demuxStream(stream, out, err);
    const ended = new Promise((resolve) => stream.on('end', resolve));
    stream.write('through\n');
    stream.end();
    await ended;
    await until(() => out.text() === 'through\n' && err.text() === 'done\n');
    expect(await exec.inspect()).toMatchObject({ ExitCode: 9, Running: false, ContainerID: container.id });
    await container.remove({ force: true });
  });

  test('copies files in and out as archives', async () => {
    const container = await docker.createContainer({ Image: 'busybox', Cmd: ['cat', '/tmp/given'] });
    const archive = pack();
    archive.entry({ name: 'given', mode: 0o600 }, 'by putArchive\n');
    archive.finalize();
    await container.putArchive(archive as unknown as Readable, { path: '/tmp' });
    await container.start();
    await container.wait();
    expect((await container.logs({ stdout: true })).toString()).toContain('by putArchive\n');
    const entries: [string, number | undefined, string][] = [];
    for await (const entry of (await container.getArchive({ path: '/tmp/given' })).pipe(extract()))
      entries.push([entry.header.name, entry.header.mode, await text(entry)]);
    expect(entries).toEqual([['given', 0o600, 'by putArchive\n']]);
    await expect(container.getArchive({ path: '/tmp/not' })).rejects.toMatchObject({ statusCode: 404 });
    await container.remove();
  });

  test('supports stats as a stream, top, update, rename, pause, restart and kill', async () => {
    const container = await docker.createContainer({ Image: 'busybox', Cmd: ['sleep', '1000'], name: 'first' });
    await container.start();
    const stats = (await container.stats({ stream: true })) as NodeJS.ReadableStream & { destroy(): void };
    const seen = objects<{
      name: string;
      precpu_stats: { system_cpu_usage?: number };
      memory_stats: { usage: number };
    }>(stats);
    await until(() => seen.length >= 2);
    stats.destroy();
    expect(seen[1]).toMatchObject({ name: '/first', memory_stats: { usage: expect.any(Number) as number } });
    expect(seen[1]!.precpu_stats.system_cpu_usage).toBeGreaterThan(0);
    expect(((await container.top({ ps_args: '-o pid,args' })) as { Processes: string[][] }).Processes[0]![1]).toBe(
      'sleep 1000',
    );
    expect(await container.update({ Memory: 64 * 1024 * 1024, MemorySwap: -1 })).toMatchObject({ Warnings: null });
    await container.rename({ name: 'second' });
    await container.pause();
    expect((await container.inspect()).State.Paused).toBe(true);
    await container.unpause();
    await container.restart({ t: 0 });
    await container.kill({ signal: 'KILL' });
    expect(await container.inspect()).toMatchObject({ Name: '/second', HostConfig: { Memory: 64 * 1024 * 1024 } });
    await until(async () => (await container.inspect()).State.ExitCode === 137);
    await expect(container.kill()).rejects.toMatchObject({ statusCode: 409 });
    await container.start();
    await expect(container.start()).rejects.toMatchObject({ statusCode: 304 });
    await container.stop({ t: 0 });
    await container.remove();
  });

  test('events arrive as they happen and match the filters', async () => {
    const stream = (await docker.getEvents({
      filters: { type: ['container'], label: ['watch=me'] },
    })) as NodeJS.ReadableStream & { destroy(): void };
    const seen = objects<{ Action: string; Actor: { ID: string; Attributes: Record<string, string> } }>(stream);
    const container = await docker.createContainer({
      Image: 'busybox',
      Cmd: ['sh', '-c', 'exit 5'],
      Labels: { watch: 'me' },
    });
    await container.start();
    await container.wait();
    await container.remove();
    await until(() => seen.some(({ Action }) => Action === 'destroy'));
    stream.destroy();
    expect(seen.map(({ Action }) => Action)).toEqual(['create', 'start', 'die', 'destroy']);
    expect(seen[2]!.Actor).toMatchObject({
      ID: container.id,
      Attributes: { exitCode: '5', watch: 'me', image: 'busybox' },
    });
    expect(await docker.listContainers({ all: true, filters: { label: ['watch=me'] } })).toEqual([]);
  });
});

describe('volumes, networks, images and the system', () => {
  test('a volume is created, mounted, listed and removed', async () => {
    await docker.createVolume({ Name: 'kept', Labels: { a: 'b' } });
    const write = (...cmd: string[]): Promise<unknown> =>
      docker.run('busybox', cmd, sink(), { HostConfig: { AutoRemove: true, Binds: ['kept:/data'] } });
    await write('sh', '-c', 'echo here > /data/file');
    const out = sink();
    await docker.run('busybox', ['cat', '/data/file'], out, {
      HostConfig: { AutoRemove: true, Mounts: [{ Type: 'volume', Source: 'kept', Target: '/data', ReadOnly: true }] },
    });
    await until(() => out.text() === 'here\r\n');
    expect((await docker.listVolumes({ filters: JSON.stringify({ label: ['a=b'] }) })).Volumes).toMatchObject([
      { Name: 'kept', Driver: 'local' },
    ]);
    const volume = docker.getVolume('kept');
    await until(() =>
      volume.remove().then(
        () => true,
        () => false,
      ),
    );
    await expect(volume.inspect()).rejects.toMatchObject({ statusCode: 404 });
  });

  test('a network resolves names, connects and disconnects', async () => {
    const network = await docker.createNetwork({ Name: 'mine', Labels: { a: 'b' } });
    const server = await docker.createContainer({
      Image: 'busybox',
      name: 'server',
      Cmd: ['httpd', '-f', '-h', '/etc'],
      HostConfig: { NetworkMode: 'mine' },
    });
    await server.start();
    const client = await docker.createContainer({ Image: 'busybox', Cmd: ['sleep', '1000'] });
    await client.start();
    await network.connect({ Container: client.id, EndpointConfig: { Aliases: ['reader'] } });
    const exec = await client.exec({
      Cmd: ['timeout', '5', 'wget', '-qO-', 'http://server/group'],
      AttachStdout: true,
      AttachStderr: true,
    });
    const out = sink();
    docker.modem.demuxStream(await exec.start({}), out, out);
    await until(() => out.text().includes('nogroup:x:65534:'));
    expect(
      Object.keys(((await network.inspect()) as { Containers: Record<string, unknown> }).Containers).sort(),
    ).toEqual([client.id, server.id].sort());
    await network.disconnect({ Container: client.id });
    await Promise.all([server, client].map((container) => container.remove({ force: true })));
    await network.remove();
    expect(await docker.listNetworks({ filters: { label: ['a=b'] } })).toEqual([]);
  });

  test('an image is imported, tagged, saved and removed, and has a history', async () => {
    // dockerode's types declare neither a Buffer argument nor the stream in the result.
    const imported: unknown = await docker.importImage(busyboxTar() as unknown as string, {
      repo: 'imported',
      tag: 'v1',
    });
    await new Promise((resolve, reject) =>
      docker.modem.followProgress(imported as NodeJS.ReadableStream, (error, done) =>
        error ? reject(error) : resolve(done),
      ),
    );
    const image = docker.getImage('imported:v1');
    await image.tag({ repo: 'again', tag: 'v2' });
    expect((await image.inspect()).RepoTags.sort()).toEqual(['again:v2', 'imported:v1']);
    expect(await image.history()).toHaveLength(1);
    const saved = collected(await image.get());
    await saved.ended;
    expect(saved.text()).toContain('manifest.json');
    await docker.getImage('again:v2').remove();
    await image.remove();
    await expect(image.inspect()).rejects.toMatchObject({ statusCode: 404 });
  });

  test('ping, version, info and df describe the daemon', async () => {
    expect(String(await docker.ping())).toBe('OK');
    expect(await docker.version()).toMatchObject({ ApiVersion: '1.51', Os: 'linux' });
    expect(await docker.info()).toMatchObject({ OSType: 'linux', Swarm: { LocalNodeState: 'inactive' } });
    expect(((await docker.df()) as { Images: unknown[] }).Images.length).toBeGreaterThan(0);
  });
});
