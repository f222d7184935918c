/**
 * The docker CLI and the API (X-Registry-Auth) against a real registry (Debian's docker-registry) that accepts only
 * the tokens of a token server.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { PASSWORD, startRegistry, USER, type TestRegistry } from '../support/registry.ts';
import { TokenServer } from '../support/token-server.ts';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';

const opened: AsyncDisposable[] = [];
let engine: TestEngine;
let registry: TestRegistry;
let tokens: TokenServer;
let config: string;
let own: string;
const previousConfig = process.env.DOCKER_CONFIG;

beforeAll(async () => {
  config = mkdtempSync(join(tmpdir(), 'holdfast-cli-'));
  process.env.DOCKER_CONFIG = config;
  tokens = await TokenServer.start();
  opened.push(tokens);
  registry = await startRegistry({ auth: tokens.auth });
  opened.push(registry);
  engine = await startEngine();
  opened.push(engine);
  own = `${registry.host}/${USER}/box:1`;
  const pushed = await engine.api(
    'POST',
    `/images/${registry.host}/${USER}/box/push?tag=1`,
    undefined,
    await tagged(own),
  );
  expect(pushed.text).toMatch(/"Digest":"sha256:/);
});
afterAll(async () => {
  for (const each of opened.reverse()) await each[Symbol.asyncDispose]();
  if (previousConfig === undefined) delete process.env.DOCKER_CONFIG;
  else process.env.DOCKER_CONFIG = previousConfig;
  rmSync(config, { recursive: true, force: true });
});
beforeEach(() => {
  tokens.demands.length = 0;
  rmSync(join(config, 'config.json'), { force: true });
});

const { output: docker, refusal: refused } = dockerOf(() => engine);
const header = (auth: object): Record<string, string> => ({
  'X-Registry-Auth': Buffer.from(JSON.stringify(auth)).toString('base64url'),
});
/** Tags busybox with the name and returns the X-Registry-Auth header of a user who may push it. */
async function tagged(name: string): Promise<Record<string, string>> {
  await docker('tag', 'busybox', name);
  return header({ username: USER, password: PASSWORD });
}
const pull = (auth?: object) =>
  engine.api('POST', `/images/create?fromImage=${registry.host}/${USER}/box&tag=1`, undefined, auth && header(auth));
const login = (auth: object) => engine.api('POST', '/auth', { serveraddress: registry.host, ...auth });
/** Logs in and returns a refresh token, as `docker login` does. */
const identity = async (): Promise<string> =>
  ((await login({ username: USER, password: PASSWORD })).json as { IdentityToken: string }).IdentityToken;

test('the CLI can push, mount and pull between login and logout [token-cli]', async () => {
  const copy = `${registry.host}/${USER}/copy:1`;
  await docker('tag', 'busybox', copy);
  const denied = await refused('login', '-u', USER, '-p', 'wrong', registry.host);
  expect(denied).toContain(
    `Error response from daemon: Get "http://${registry.host}/v2/": unauthorized: incorrect username or password`,
  );
  expect(await refused('push', copy)).toContain('denied: requested access to the resource is denied');
  expect(await docker('login', '-u', USER, '-p', PASSWORD, registry.host)).toContain('Login Succeeded');
  const kept = (
    JSON.parse(readFileSync(join(config, 'config.json'), 'utf8')) as {
      auths: Record<string, { auth: string; identitytoken: string }>;
    }
  ).auths[registry.host]!;
  expect(kept.identitytoken).toMatch(/^refresh-/);
  expect(Buffer.from(kept.auth, 'base64').toString()).not.toContain(PASSWORD);
  tokens.demands.length = 0;
  // Mounting a blob needs a token with access to both repositories.
  expect(await docker('push', copy)).toContain(`Mounted from ${USER}/box`);
  const requested = tokens.demands.map(
    ({ method, user, asked: form }) => `${method} ${user} ${form.get('grant_type')} ${form.get('scope')}`,
  );
  expect(requested).toContain(
    `POST ${USER} refresh_token repository:${USER}/copy:pull,push repository:${USER}/box:pull`,
  );
  expect(tokens.demands.every(({ method }) => method === 'POST')).toBe(true);
  await docker('rmi', copy);
  expect(await docker('pull', copy)).toContain(`Downloaded newer image for ${copy}`);
  await docker('logout', registry.host);
  await docker('rmi', copy);
  expect(await refused('pull', copy)).toContain(
    `pull access denied for ${registry.host}/${USER}/copy, repository does not exist or may require 'docker login': denied: requested access to the resource is denied`,
  );
});

test("another user's repository is closed, a public one is readable by everyone [token-access]", async () => {
  await docker('login', '-u', USER, '-p', PASSWORD, registry.host);
  const [theirs, open] = [`${registry.host}/bob/box:1`, `${registry.host}/public/box:1`];
  expect(await refused('pull', theirs)).toContain(
    `pull access denied for ${registry.host}/bob/box, repository does not exist or may require 'docker login': denied: requested access to the resource is denied`,
  );
  for (const name of [theirs, open]) {
    await docker('tag', 'busybox', name);
    expect(await refused('push', name)).toContain('denied: requested access to the resource is denied');
  }
  const right = {
    registrytoken: tokens.token('root', [{ type: 'repository', name: 'public/box', actions: ['pull', 'push'] }]),
  };
  expect(
    (await engine.api('POST', `/images/${registry.host}/public/box/push?tag=1`, undefined, header(right))).text,
  ).toContain('"Digest":"sha256:');
  await docker('logout', registry.host);
  await docker('rmi', open);
  tokens.demands.length = 0;
  expect(await docker('pull', open)).toContain(`Downloaded newer image for ${open}`);
  expect(tokens.demands.map(({ method, user }) => `${method} ${user}`)).toEqual(['GET ']);
  expect(tokens.demands[0]!.asked.has('account')).toBe(false);
});

test('POST /auth returns a refresh token in place of the password [auth-refresh-token]', async () => {
  const answer = await login({ username: USER, password: PASSWORD });
  expect([answer.status, answer.json]).toEqual([
    200,
    { Status: 'Login Succeeded', IdentityToken: expect.stringMatching(/^refresh-/) },
  ]);
  expect(tokens.demands).toHaveLength(1);
  expect(Object.fromEntries(tokens.demands[0]!.asked)).toEqual({
    account: USER,
    client_id: 'docker',
    offline_token: 'true',
    service: 'test-registry',
  });
  const { IdentityToken } = answer.json as { IdentityToken: string };
  const again = await login({ username: USER, identitytoken: IdentityToken });
  expect([again.status, again.json]).toEqual([200, { Status: 'Login Succeeded', IdentityToken }]);
  expect(Object.fromEntries(tokens.demands[1]!.asked)).toEqual({
    grant_type: 'refresh_token',
    client_id: 'docker',
    refresh_token: IdentityToken,
    scope: '',
    service: 'test-registry',
  });
  for (const wrong of [{ username: USER, password: 'wrong' }, { identitytoken: 'unknown token' }]) {
    const no = await login(wrong);
    expect([no.status, no.json]).toEqual([
      401,
      { message: `Get "http://${registry.host}/v2/": unauthorized: incorrect username or password` },
    ]);
  }
});

test('a password is sent by GET and requests no refresh token [token-password]', async () => {
  expect((await pull({ username: USER, password: PASSWORD })).text).toContain('Digest: sha256:');
  expect(tokens.demands).toHaveLength(1);
  expect(tokens.demands[0]).toMatchObject({ method: 'GET', user: USER });
  expect(Object.fromEntries(tokens.demands[0]!.asked)).toEqual({
    account: USER,
    scope: `repository:${USER}/box:pull`,
    service: 'test-registry',
  });
  expect((await pull({ auth: Buffer.from(`${USER}:${PASSWORD}`).toString('base64') })).text).toContain(
    'Digest: sha256:',
  );
  tokens.demands.length = 0;
  expect((await pull({ username: USER })).text).toContain('pull access denied');
  expect(tokens.demands[0]).toMatchObject({ method: 'GET', user: '' });
  expect(tokens.demands.some(({ asked }) => asked.has('account'))).toBe(false);
  const wrong = await pull({ username: USER, password: 'wrong' });
  expect(wrong.text).toContain('unauthorized: incorrect username or password');
  expect(wrong.text).not.toContain('Digest');
});

test('an identity token can pull until the token server revokes it [token-identity]', async () => {
  const identitytoken = await identity();
  tokens.demands.length = 0;
  expect((await pull({ identitytoken })).text).toContain('Digest: sha256:');
  expect(tokens.demands.map(({ method, user, asked }) => [method, user, asked.get('refresh_token')])).toEqual([
    ['POST', USER, identitytoken],
  ]);
  tokens.revoke();
  const late = await pull({ identitytoken });
  expect(late.text).toContain('unauthorized: incorrect username or password');
  expect(late.text).not.toContain('Digest');
});

test('a registry token is sent verbatim and no other is requested [token-registry]', async () => {
  const access = (name: string) => ({
    registrytoken: tokens.token('another user', [{ type: 'repository', name, actions: ['pull'] }]),
  });
  expect((await pull(access(`${USER}/box`))).text).toContain('Digest: sha256:');
  const other = await pull(access('bob/box'));
  expect([other.status, (other.json as { message: string }).message]).toEqual([
    404,
    `pull access denied for ${registry.host}/${USER}/box, repository does not exist or may require 'docker login': denied: requested access to the resource is denied`,
  ]);
  const forged = await pull({ registrytoken: `${access(`${USER}/box`).registrytoken.slice(0, -8)}AAAAAAAA` });
  expect(forged.text).toContain('unauthorized: authentication required');
  expect(forged.text).not.toContain('Digest');
  expect(tokens.demands).toEqual([]);
});
