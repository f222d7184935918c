/** The contract check, which all tests use to validate the answers of the API. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTRACT_VIOLATION, contractViolation, operationOf } from '../../src/api/contract-check.ts';
import { NotFound } from '../../src/model/errors.ts';
import { serve, type Api } from '../support/api.ts';

const VOLUME = {
  name: 'v',
  driver: 'local',
  mountpoint: '/v',
  created: '1700000000000000000',
  labels: {},
  options: {},
  anonymous: false,
};

describe('an answer', () => {
  const volume = {
    Name: 'v',
    Driver: 'local',
    Mountpoint: '/v',
    CreatedAt: '2023-11-14T22:13:20Z',
    Labels: null,
    Options: null,
    Scope: 'local',
  };
  const { Scope: _, ...without } = volume;
  test.each<[string, string | undefined, [operation: string, status: number, answer: unknown, type?: string]]>([
    ['that conforms is accepted', undefined, ['VolumeInspect', 200, volume]],
    [
      'with an additional field is rejected',
      'must NOT have additional properties',
      ['VolumeInspect', 200, { ...volume, More: 1 }],
    ],
    ['with a missing field is rejected', "must have required property 'Scope'", ['VolumeInspect', 200, without]],
    ['with a field of another type is rejected', 'must be string', ['VolumeInspect', 200, { ...volume, Name: 1 }]],
    ['without its body is rejected', 'the JSON body is missing', ['VolumeInspect', 200, undefined]],
    ['that is an error is accepted', undefined, ['VolumeInspect', 404, { message: 'x' }]],
    [
      'that is an error of another shape is rejected',
      'must have required property',
      ['VolumeInspect', 404, { error: 'x' }],
    ],
    ['that is an error as text is accepted', undefined, ['VolumeInspect', 400, undefined, 'text/plain']],
    [
      'as text where JSON is required is rejected',
      'the JSON body is missing',
      ['VolumeInspect', 200, undefined, 'text/plain'],
    ],
    ['with JSON where none is allowed is rejected', 'the contract has no JSON body here', ['VolumeDelete', 204, {}]],
    ['that has no body to send is accepted', undefined, ['VolumeDelete', 204, undefined]],
  ])('%s [contract-strict]', (_name, message, [operation, status, answer, type]) => {
    const found = contractViolation(operation, status, answer, type);
    if (message === undefined) expect(found).toBe(undefined);
    else expect(found).toContain(message);
  });

  test('is matched to its operation by the request', () => {
    expect([
      operationOf('GET', '/v1.44/volumes/a%2Fb?x=1'),
      operationOf('GET', '/volumes'),
      operationOf('GET', '/nothing'),
    ]).toEqual(['VolumeInspect', 'VolumeList', undefined]);
  });
});

describe('a daemon under test', () => {
  let api: Api;
  const logLines: string[] = [];
  beforeAll(async () => {
    api = await serve(
      {
        volumes: {
          resolve: (name: string) => {
            if (name === 'missing') throw new NotFound('get missing: no such volume');
            return name === 'odd' ? { ...VOLUME, labels: { number: 5 } } : VOLUME;
          },
          remove: () => Promise.resolve(),
        },
      },
      logLines,
    );
  });
  beforeEach(() => void (logLines.length = 0));
  afterAll(() => api.close());

  test('reports an answer that violates the contract to the test [contract-violation-shown]', async () => {
    await api.http.get('/volumes/odd').expect(500);
    expect(logLines.join('')).toContain(CONTRACT_VIOLATION);
  });

  test('accepts answers that match the contract, errors included [contract-conforming-silent]', async () => {
    await api.http.get('/volumes/good').expect(200);
    await api.http.get('/volumes/missing').expect(404, { message: 'get missing: no such volume' });
    await api.http.get('/v1.23/volumes/good').expect(400);
    await api.http.delete('/volumes/good').expect(204);
    expect(logLines).toEqual([]);
  });
});
