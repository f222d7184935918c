/** Swarm and plugin endpoints: the answers of a dockerd that is in no swarm and has no plugins. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { serve, type Api } from '../support/api.ts';

const NO_MANAGER =
  'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.';

let api: Api;
const said: string[] = [];
beforeAll(async () => {
  api = await serve({}, said);
});
afterAll(() => api.close());

test.each([
  'GET /swarm',
  'GET /swarm/unlockkey',
  'POST /swarm/update?version=1',
  'POST /swarm/unlock',
  ...['nodes', 'services', 'tasks', 'secrets', 'configs'].flatMap((kind) => [`GET /${kind}`, `GET /v1.44/${kind}/x`]),
  ...['nodes', 'services', 'secrets', 'configs'].flatMap((kind) => [`DELETE /${kind}/x`, `POST /${kind}/x/update`]),
  ...['services', 'secrets', 'configs'].map((kind) => `POST /${kind}/create`),
  ...['services', 'tasks'].map((kind) => `GET /${kind}/x/logs?stdout=1`),
])('%s: 503, this node is not a swarm manager [swarm-503]', async (request) => {
  const [method = '', path = ''] = request.split(' ');
  const { http } = api;
  const answer = await { GET: http.get(path), POST: http.post(path).send({}), DELETE: http.delete(path) }[method]!;
  expect([answer.status, answer.body]).toEqual([503, { message: NO_MANAGER }]);
});

test('leave: 503, not part of a swarm; init and join are not implemented [swarm-leave]', async () => {
  await api.http.post('/swarm/leave?force=1').expect(503, { message: 'This node is not part of a swarm' });
  await api.http.post('/swarm/init').send({ ListenAddr: '0.0.0.0' }).expect(501);
  await api.http.post('/swarm/join').send({}).expect(501);
});

test('plugins: an empty list, and an unknown filter is rejected [plugins-empty]', async () => {
  await api.http.get('/plugins').expect(200, []);
  await api.http.get('/plugins?filters={"enabled":["true"]}').expect(200, []);
  await api.http.get('/plugins?filters={"x":["true"]}').expect(400, { message: "invalid filter 'x'" });
});

test('every one of these answers conforms to openapi.yaml', () => {
  expect(said.filter((line) => line.includes('violates'))).toEqual([]);
});
