/**
 * Runs the same commands for image names, digests, removal, history and events on Holdfast and on a dockerd; the
 * output must be equal.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { archive, digestOf, file } from '../support/tar.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { startDockerd, type Dockerd } from '../support/dockerd.ts';
import { DOCKER, startCommand } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';

const LAYERS = [archive(['base', 'b']), archive(['child', 'c'])] as const;
const CREATED = '2024-01-02T03:04:05.006Z';

/** Configurations of an image and of a child made from it. */
const [BASE, CHILD] = [1, 2].map((count) =>
  JSON.stringify({
    architecture: 'amd64',
    os: 'linux',
    created: CREATED,
    config: { Cmd: ['/none'], Labels: { layers: String(count) } },
    rootfs: { type: 'layers', diff_ids: LAYERS.slice(0, count).map(digestOf) },
    history: [
      { created: CREATED, created_by: 'ADD base' },
      { created: CREATED, created_by: 'COPY child', comment: 'a comment' },
    ].slice(0, count),
  }),
) as [string, string];
const [base, child] = [BASE, CHILD].map((config) => digestOf(Buffer.from(config))) as [string, string];

let engine: TestEngine;
let peer: Dockerd;
let registry: TestRegistry;
let tmp: string;

beforeAll(async () => {
  // The peer must reach the registry on the host network, and must not change the firewall or forwarding of the host.
  [engine, peer, registry] = await Promise.all([
    startEngine(),
    startDockerd({ hostNetwork: true, flags: ['--iptables=false', '--ip-forward=false'] }),
    startRegistry(),
  ]);
  tmp = mkdtempSync(join(tmpdir(), 'holdfast-parity-'));
  // The layout of `docker save`: an image names its parent by id.
  writeFileSync(
    join(tmp, 'both.tar'),
    archive(
      file(`${base.slice(7)}.json`, BASE),
      file(`${child.slice(7)}.json`, CHILD),
      file('0.tar', LAYERS[0]),
      file('1.tar', LAYERS[1]),
      file(
        'manifest.json',
        JSON.stringify([
          { Config: `${base.slice(7)}.json`, RepoTags: ['base:1'], Layers: ['0.tar'] },
          { Config: `${child.slice(7)}.json`, RepoTags: ['child:1'], Layers: ['0.tar', '1.tar'], Parent: base },
        ]),
      ),
    ),
  );
  await engine.dockerOutput('rmi', '-f', 'busybox');
});
afterEach(async () => {
  for (const socket of [engine.socket, peer.socket]) {
    for (const id of (await run(socket, ['ps', '-aq'])).split('\n').filter(Boolean))
      await run(socket, ['rm', '-f', id]);
    await run(socket, ['image', 'prune', '-af']);
  }
});
afterAll(async () => {
  for (const each of [engine, peer, registry]) await each?.[Symbol.asyncDispose]();
  rmSync(tmp, { recursive: true, force: true });
});

/** Returns what the CLI prints on both streams. */
const run = async (socket: string, args: readonly string[]): Promise<string> => {
  const { stdout, stderr } = await startCommand(socket, DOCKER, args).result;
  return `${stdout}${stderr}`;
};

/**
 * Runs the commands on one engine. `DIGEST` stands for the digest that its last push or pull printed: the digests
 * differ because each engine compresses layers in its own way.
 */
async function answers(socket: string, commands: string[]): Promise<{ command: string; printed: string[] }[]> {
  const results: { command: string; printed: string[] }[] = [];
  const since = String(Date.now() / 1000);
  let digest = 'DIGEST';
  for (const command of commands) {
    const whole = command
      .replaceAll('DIGEST', digest)
      .replaceAll('REGISTRY', `${registry.host}/${socket === peer.socket ? 'theirs' : 'ours00'}`)
      .replaceAll('FILE', join(tmp, `${socket === peer.socket ? 'theirs' : 'ours00'}.tar`))
      .replaceAll('SINCE', since)
      .replaceAll('NOW', String(Date.now() / 1000 + 1));
    const printed = await run(
      socket,
      whole.match(/'[^']*'|\S+/g)!.map((word) => word.replaceAll("'", '')),
    );
    digest = /[Dd]igest: (sha256:[0-9a-f]{64})/.exec(printed)?.[1] ?? digest;
    // Normalize what may differ: progress of layers, container ids, and the order of images with equal times.
    const lines = printed
      .replaceAll(digest, 'DIGEST')
      .replaceAll('theirs', 'ours00')
      .replace(/container [0-9a-f]{12}/g, 'container …')
      .replace(/^[0-9a-f]{64}$/gm, 'made')
      .split('\n')
      .filter((line) => !/^[0-9a-f]{12}: |: digest: /.test(line));
    results.push({ command, printed: /^image(s| prune) /.test(command) ? lines.sort() : lines });
  }
  return results;
}

/** Runs the commands on both engines and compares the output. Returns the output of Holdfast. */
async function compare(commands: string[]): Promise<string[]> {
  const [ours, theirs] = await Promise.all([engine.socket, peer.socket].map((socket) => answers(socket, commands)));
  expect(ours).toEqual(theirs);
  return ours!.map(({ printed }) => printed.join('\n'));
}

const LOAD = (): string => `load -q -i ${join(tmp, 'both.tar')}`;
const IMAGES = "images -a --no-trunc --digests --format '{{.Repository}} {{.Tag}} {{.Digest}} {{.ID}} {{.Size}}'";
const EVENTS =
  "events --since SINCE --until NOW --filter type=image --format '{{.Action}} {{.Actor.ID}} {{.Actor.Attributes.name}}'";
const HISTORY = "history --no-trunc --format '{{.ID}} {{.CreatedBy}} {{.Size}} {{.Comment}}'";

test('rmi untags, deletes and refuses by tags and children as dockerd does [rmi-tags-children]', async () => {
  const printed = await compare([
    LOAD(),
    IMAGES,
    'rmi nosuch:1',
    `rmi ${base}`,
    'rmi base:1',
    IMAGES,
    'images -q --filter dangling=true',
    'tag child:1 other/name:2',
    'tag child:1 other/name:3',
    `rmi ${child.slice(7, 19)}`,
    'rmi other/name:3',
    `rmi -f ${child.slice(7, 19)}`,
    IMAGES,
    EVENTS,
  ]);
  expect(printed[3]).toContain('(cannot be forced) - image has dependent child images');
  expect(printed[9]).toContain('(must be forced) - image is referenced in multiple repositories');
  // The untagged parent is deleted with its last child.
  expect(printed[11]!.match(/^Deleted: /gm)).toHaveLength(4);
  expect(printed[12]).toBe('');
});

test('rmi of an image in use is refused or allowed as by dockerd [rmi-image-in-use]', async () => {
  const printed = await compare([
    LOAD(),
    'create child:1 x',
    'rmi child:1',
    `rmi ${child}`,
    'tag child:1 second:1',
    'rmi second:1',
    'rmi -f child:1',
    IMAGES,
    `rmi -f ${child}`,
    IMAGES,
    'ps -a --format {{.Image}}',
    LOAD(),
    'rmi base:1',
    'rmi -f base:1',
    IMAGES,
    EVENTS,
  ]);
  expect(printed[2]).toMatch(
    /unable to remove repository reference "child:1" \(must force\) - container … is using its referenced image/,
  );
});

test('history of a loaded and of a pulled image equals dockerd’s [image-history]', async () => {
  const printed = await compare([
    LOAD(),
    `${HISTORY} child:1`,
    `${HISTORY} base:1`,
    'tag child:1 REGISTRY/history:1',
    'push REGISTRY/history:1',
    'rmi -f REGISTRY/history:1 child:1 base:1',
    'pull REGISTRY/history:1',
    `${HISTORY} REGISTRY/history:1`,
    'history nosuch:1',
  ]);
  expect(printed[1]).toBe(`${child} COPY child 1B a comment\n${base} ADD base 1B \n`);
  expect(printed[7]).toBe(`${child} COPY child 1B a comment\n<missing> ADD base 1B \n`);
});

test('an image can be pulled, inspected, run, tagged and removed by digest [image-by-digest]', async () => {
  const name = 'REGISTRY/digests';
  const printed = await compare([
    LOAD(),
    `tag child:1 ${name}:1`,
    `push -q ${name}:1`,
    `pull ${name}:1`,
    IMAGES,
    `inspect -f '{{.Id}} {{.RepoTags}} {{.RepoDigests}}' ${name}@DIGEST`,
    'rmi child:1 base:1',
    `rmi ${name}:1`,
    IMAGES,
    `pull ${name}@DIGEST`,
    IMAGES,
    `inspect -f '{{.Id}} {{.RepoTags}} {{.RepoDigests}}' ${name}@DIGEST`,
    `tag ${name}@DIGEST again:1`,
    `images --digests --format '{{.Repository}}:{{.Tag}}@{{.Digest}}' ${name}@DIGEST`,
    "images --filter dangling=true --format '{{.Repository}} {{.Tag}} {{.Digest}}'",
    `create --name byDigest ${name}@DIGEST x`,
    "ps -a --format '{{.Image}}'",
    `rmi ${name}@DIGEST`,
    'rm byDigest',
    'rmi again:1',
    `rmi ${name}@DIGEST`,
    IMAGES,
    `pull ${name}:1@DIGEST`,
    IMAGES,
    `pull ${name}:nosuch@DIGEST`,
    `rmi ${name}:1@DIGEST`,
    IMAGES,
    `inspect ${name}@DIGEST`,
    EVENTS,
  ]);
  expect(printed[5]).toContain(`${child} `);
  expect(printed[11]).toMatch(new RegExp(`^${child} \\[\\] \\[${registry.host}/ours00/digests@DIGEST\\]`));
});

test('dangling images are listed and pruned as by dockerd [dangling-prune]', async () => {
  await compare([
    LOAD(),
    'tag child:1 moved:1',
    'rmi child:1',
    'tag base:1 moved:1',
    IMAGES,
    "images --filter dangling=true --no-trunc --format '{{.ID}} {{.Tag}}'",
    "images --filter dangling=false --format '{{.Repository}}'",
    'image prune -f',
    IMAGES,
    EVENTS,
  ]);
  const printed = await compare([
    LOAD(),
    'tag base:1 kept:1',
    `image prune -af --filter label=layers=1`,
    IMAGES,
    LOAD(),
    `image prune -af --filter label!=layers=1`,
    IMAGES,
    LOAD(),
    'image prune -af --filter until=10m',
    IMAGES,
    'image prune -af',
  ]);
  expect(printed.at(-3)).toContain('Total reclaimed space: 2B');
  expect(printed.at(-2)).toBe('');
});

test('image events of load, save, tag, push, pull, removal and prune equal dockerd’s [image-events]', async () => {
  const printed = await compare([
    LOAD(),
    'save -o FILE child:1',
    'tag child:1 REGISTRY/events:1',
    'push REGISTRY/events:1',
    'rmi child:1',
    'rmi REGISTRY/events:1',
    'pull REGISTRY/events:1',
    'tag REGISTRY/events:1 events:2',
    'load -q -i FILE',
    'rmi base:1',
    'image prune -af',
    EVENTS,
  ]);
  expect(
    new Set(
      printed
        .at(-1)!
        .split('\n')
        .map((line) => line.split(' ')[0]),
    ),
  ).toEqual(new Set(['load', 'save', 'tag', 'push', 'untag', 'delete', 'pull', 'prune', '']));
});
