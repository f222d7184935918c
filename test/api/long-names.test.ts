/** Found by test/e2e/fuzz-api.test.ts. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { NotFound } from '../../src/model/errors.ts';
import { serve, type Api } from '../support/api.ts';

let api: Api;
beforeAll(async () => {
  const missing = (id: string): never => {
    throw new NotFound(`No such container: ${id}`);
  };
  api = await serve({ containers: { start: missing } });
});
afterAll(() => api.close());

test('a name of any length is looked up, and is unknown [long-path-name]', async () => {
  for (const length of [4_096, 4_097, 200_000]) {
    const name = 'x'.repeat(length);
    const { status, body } = await api.http.post(`/containers/${name}/start`);
    const { message } = body as { message: string };
    expect([length, status, message === `No such container: ${name}`]).toEqual([length, 404, true]);
  }
});
