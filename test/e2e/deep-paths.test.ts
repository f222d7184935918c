/** Containers with directories deeper than PATH_MAX: what reads their files works, or is refused for that one alone. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { read } from '../support/tar.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const { ok, refusal } = dockerOf(() => engine);

const NAME = 'd'.repeat(200);

/** Makes `depth` directories in each other, with a file at the end. */
function nest(directory: string, depth: number, name: string): void {
  const script = `
    const { mkdirSync, writeFileSync } = require('node:fs');
    const [, directory, depth, name] = process.argv;
    process.chdir(directory);
    for (let i = 0; i < Number(depth); i++) {
      mkdirSync(name);
      process.chdir(name);
    }
    writeFileSync('bottom', 'content');`;
  execFileSync(process.execPath, ['-e', script, directory, String(depth), name]);
}

async function container(depth: number, name = NAME): Promise<string> {
  const id = await ok('create', 'busybox', 'true');
  const upper = join(engine.root, 'data/containers', id, 'upper');
  execFileSync('mkdir', [join(upper, 'deep')]);
  nest(join(upper, 'deep'), depth, name);
  return id;
}

const bottom = (depth: number, name = NAME): string => `deep/${`${name}/`.repeat(depth)}bottom`;

describe('directories deeper than PATH_MAX', () => {
  test('docker diff lists them [deep-diff]', async () => {
    const lines = (await ok('diff', await container(60))).split('\n');
    expect(lines).toHaveLength(62);
    expect(lines.at(-1)).toBe(`A /${bottom(60)}`);
  });

  test('docker export and docker cp have them in their archives [deep-archives]', async () => {
    const id = await container(60);
    const exported = read((await engine.api('GET', `/containers/${id}/export`)).body);
    expect(exported.find(({ entry }) => entry.path === bottom(60))?.body.toString()).toBe('content');
    const copied = read((await engine.api('GET', `/containers/${id}/archive?path=/deep`)).body);
    expect(copied).toHaveLength(62);
    expect(copied.at(-1)).toMatchObject({ entry: { path: bottom(60) }, body: Buffer.from('content') });
  });

  test('docker commit is refused, since images cannot have them; other containers are not affected [deep-commit]', async () => {
    const [id, other] = [await container(60), await container(3)];
    expect(await refusal('commit', id, 'deep:1')).toContain('ENAMETOOLONG');
    expect(await ok('images', '-q', 'deep')).toBe('');
    await ok('commit', other, 'deep:1');
    expect(await ok('diff', other)).toContain(`A /${bottom(3)}`);
    expect(await ok('ps', '-aq', '--no-trunc')).toContain(id);
    await ok('rmi', 'deep:1');
  });

  test('short names nested almost to PATH_MAX work, and far beyond it are refused [deep-limits]', async () => {
    const id = await container(2000, 'e');
    expect((await ok('diff', id)).split('\n').at(-1)).toBe(`A /${bottom(2000, 'e')}`);
    const copied = read((await engine.api('GET', `/containers/${id}/archive?path=/deep`)).body);
    expect(copied.at(-1)!.entry.path).toBe(bottom(2000, 'e'));
    expect(await refusal('diff', await container(100))).toContain('a path of more than 16384 bytes');
  });
});
