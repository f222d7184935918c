/**
 * Names, digests, removal, history and events of images: the same commands on Holdfast and on a dockerd, with the same
 * answers.
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

/** Configurations of an image and of one that is made from it. */
const [BASE, CHILD] = [1, 2].map((count) =>
  JSON.stringify({
    architecture: 'amd64',
    os: 'linux',
    created: CREATED,
    config: { Cmd: ['/none'], Labels: { layers: String(count) } },
    rootfs: { type: 'layers', diff_ids: LAYERS.slice(0, count).map(digestOf) },
    history: [
      { created: CREATED, created_by: 'ADD base' },
      { created: CREATED, created_by: 'COPY child', comment: 'with words' },
    ].slice(0, count),
  }),
) as [string, string];
const [base, child] = [BASE, CHILD].map((config) => digestOf(Buffer.from(config))) as [string, string];

let engine: TestEngine;
let peer: Dockerd;
let registry: TestRegistry;
let tmp: string;

beforeAll(async () => {
  // It must reach the registry, and leave everybody else's network alone.
  [engine, peer, registry] = await Promise.all([
    startEngine(),
    startDockerd({ hostNetwork: true, flags: ['--iptables=false', '--ip-forward=false'] }),
    startRegistry(),
  ]);
  tmp = mkdtempSync(join(tmpdir(), 'holdfast-parity-'));
  // As `docker save` names them: a parent is told by its id.
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

/** What the CLI prints, on both streams. */
const run = async (socket: string, args: readonly string[]): Promise<string> => {
  const { stdout, stderr } = await startCommand(socket, DOCKER, args).result;
  return `${stdout}${stderr}`;
};

/** Runs the commands on one of them; `DIGEST` is what its last push or pull told: each compresses in its own way. */
async function answers(socket: string, commands: string[]): Promise<{ command: string; said: string[] }[]> {
  const told: { command: string; said: string[] }[] = [];
  const since = String(Date.now() / 1000);
  let digest = 'DIGEST';
  for (const command of commands) {
    const whole = command
      .replaceAll('DIGEST', digest)
      .replaceAll('REGISTRY', `${registry.host}/${socket === peer.socket ? 'theirs' : 'ours00'}`)
      .replaceAll('FILE', join(tmp, `${socket === peer.socket ? 'theirs' : 'ours00'}.tar`))
      .replaceAll('SINCE', since)
      .replaceAll('NOW', String(Date.now() / 1000 + 1));
    const said = await run(
      socket,
      whole.match(/'[^']*'|\S+/g)!.map((word) => word.replaceAll("'", '')),
    );
    digest = /[Dd]igest: (sha256:[0-9a-f]{64})/.exec(said)?.[1] ?? digest;
    // Not said alike: how a layer gets on, what a container is called, and in which order things of one time stand.
    const lines = said
      .replaceAll(digest, 'DIGEST')
      .replaceAll('theirs', 'ours00')
      .replace(/container [0-9a-f]{12}/g, 'container …')
      .replace(/^[0-9a-f]{64}$/gm, 'made')
      .split('\n')
      .filter((line) => !/^[0-9a-f]{12}: |: digest: /.test(line));
    told.push({ command, said: /^image(s| prune) /.test(command) ? lines.sort() : lines });
  }
  return told;
}

/** Runs the commands on both. Returns what Holdfast said. */
async function alike(commands: string[]): Promise<string[]> {
  const [ours, theirs] = await Promise.all([engine.socket, peer.socket].map((socket) => answers(socket, commands)));
  expect(ours).toEqual(theirs);
  return ours!.map(({ said }) => said.join('\n'));
}

const LOAD = (): string => `load -q -i ${join(tmp, 'both.tar')}`;
const IMAGES = "images -a --no-trunc --digests --format '{{.Repository}} {{.Tag}} {{.Digest}} {{.ID}} {{.Size}}'";
const EVENTS =
  "events --since SINCE --until NOW --filter type=image --format '{{.Action}} {{.Actor.ID}} {{.Actor.Attributes.name}}'";
const HISTORY = "history --no-trunc --format '{{.ID}} {{.CreatedBy}} {{.Size}} {{.Comment}}'";

test('tags and children: what is untagged, what is deleted, and what stands in the way', async () => {
  const said = await alike([
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
  expect(said[3]).toContain('(cannot be forced) - image has dependent child images');
  expect(said[9]).toContain('(must be forced) - image is referenced in multiple repositories');
  // The parent without a name goes with its last child.
  expect(said[11]!.match(/^Deleted: /gm)).toHaveLength(4);
  expect(said[12]).toBe('');
});

test('an image in use: by what it may not be removed, and by what it may', async () => {
  const said = await alike([
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
  expect(said[2]).toMatch(
    /unable to remove repository reference "child:1" \(must force\) - container … is using its referenced image/,
  );
});

test('history: of an image that was made here, and of one that came', async () => {
  const said = await alike([
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
  expect(said[1]).toBe(`${child} COPY child 1B with words\n${base} ADD base 1B \n`);
  expect(said[7]).toBe(`${child} COPY child 1B with words\n<missing> ADD base 1B \n`);
});

test('digests as names: pulled, shown, inspected, run, tagged and removed by them', async () => {
  const name = 'REGISTRY/digests';
  const said = await alike([
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
  expect(said[5]).toContain(`${child} `);
  expect(said[11]).toMatch(new RegExp(`^${child} \\[\\] \\[${registry.host}/ours00/digests@DIGEST\\]`));
});

test('dangling images, and what a prune makes of them', async () => {
  await alike([
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
  const said = await alike([
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
  expect(said.at(-3)).toContain('Total reclaimed space: 2B');
  expect(said.at(-2)).toBe('');
});

test('events: of all that comes, is named, goes out and is taken away', async () => {
  const said = await alike([
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
      said
        .at(-1)!
        .split('\n')
        .map((line) => line.split(' ')[0]),
    ),
  ).toEqual(new Set(['load', 'save', 'tag', 'push', 'untag', 'delete', 'pull', 'prune', '']));
});
