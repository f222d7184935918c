/**
 * Laws that clients rely on, whatever is filtered: each further key narrows the list, each further value of a key
 * widens it, and all labels are required.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeFilters } from '../../src/api/query.ts';
import { filterContainers } from '../../src/engine/containers/views/list-filter.ts';
import type { Container } from '../../src/model/container.ts';
import { InvalidParameter, NotFound } from '../../src/model/errors.ts';
import type { Event } from '../../src/model/event.ts';
import { matcher } from '../../src/engine/events/filter.ts';
import { initialRunState } from '../../src/protocol/runstate.ts';
import { container } from '../support/spec-fixtures.ts';

const template = container({});
const word = fc.constantFrom('a', 'b', 'ab', 'ba');
const labels = fc.dictionary(fc.constantFrom('x', 'y', '__proto__', 'constructor'), fc.constantFrom('', '1', '2'), {
  maxKeys: 3,
  noNullPrototype: true,
});
const status = fc.constantFrom('created', 'running', 'paused', 'restarting', 'exited');

const made = fc
  .record({
    hex: fc.stringMatching(/^[0-9a-f]{8}$/),
    name: word,
    labels,
    status,
    exitCode: fc.constantFrom(0, 1, 137),
    created: fc.nat(5),
  })
  .map(({ hex, name, labels, status, exitCode, created }): Container => ({
    ...template,
    id: hex.repeat(8),
    name: `${name}-${hex}`,
    created: String(created),
    config: { ...template.config, Labels: labels },
    state: {
      ...initialRunState(),
      status: status,
      startedAt: status === 'created' ? '' : '1',
      exitCode,
    },
  }));
const containers = fc.uniqueArray(made, { selector: (c) => c.id, maxLength: 8 });

const label = fc.constantFrom('x', 'y', 'x=1', 'y=', '__proto__', 'constructor', 'nobody');
/** A key and some of its values. */
const filter = fc.oneof(
  fc.tuple(fc.constant('label'), fc.array(label, { maxLength: 2 })),
  fc.tuple(fc.constant('status'), fc.array(status, { maxLength: 2 })),
  fc.tuple(fc.constant('name'), fc.array(word, { maxLength: 2 })),
  fc.tuple(fc.constant('id'), fc.array(fc.stringMatching(/^[0-9a-f]{1,2}$/), { maxLength: 2 })),
  fc.tuple(fc.constant('exited'), fc.array(fc.constantFrom('0', '1', '137'), { maxLength: 2 })),
  fc.tuple(fc.constant('health'), fc.array(fc.constantFrom('none', 'healthy'), { maxLength: 2 })),
);

function listed(all: Container[], filters: [string, string[]][], limit = 0): string[] {
  const resolveContainer = (id: string): Container => all.find((c) => c.id === id) ?? expect.fail(`asked for ${id}`);
  return filterContainers(
    all,
    { all: true, limit, filters: new Map(filters) },
    { resolveContainer, imageAncestry: () => [] },
  ).map((c) => c.id);
}

describe('lists of containers', () => {
  test('each filter leaves part of the list, in the same order [filter-subset]', () => {
    fc.assert(
      fc.property(containers, filter, (all, one) => {
        const found = listed(all, [one]);
        expect(listed(all, []).filter((id) => found.includes(id))).toEqual(found);
      }),
    );
  });

  test('two keys leave the intersection of what each leaves [filter-keys-and]', () => {
    fc.assert(
      fc.property(containers, filter, filter, (all, one, other) => {
        fc.pre(one[0] !== other[0]);
        expect(listed(all, [one, other])).toEqual(listed(all, [one]).filter((id) => listed(all, [other]).includes(id)));
      }),
    );
  });

  test('two values of a key leave the union of what each leaves; two labels, the intersection [filter-values-or]', () => {
    fc.assert(
      fc.property(containers, filter, (all, [key, values]) => {
        fc.pre(values.length === 2);
        const [first, second] = values.map((value) => listed(all, [[key, [value]]]));
        const [each, other] = [new Set(first), new Set(second)];
        expect(listed(all, [[key, values]])).toEqual(
          listed(all, []).filter((id) =>
            key === 'label' ? each.has(id) && other.has(id) : each.has(id) || other.has(id),
          ),
        );
      }),
    );
  });

  test('a limit keeps the newest', () => {
    fc.assert(
      fc.property(containers, filter, fc.integer({ min: 1, max: 9 }), (all, one, limit) => {
        expect(listed(all, [one], limit)).toEqual(listed(all, [one]).slice(0, limit));
      }),
    );
  });

  test('before and since leave what lies between', () => {
    fc.assert(
      fc.property(containers, fc.nat(7), fc.nat(7), (all, i, j) => {
        const order = listed(all, []);
        fc.pre(i < j && j < order.length);
        expect(
          listed(all, [
            ['before', [order[i]!]],
            ['since', [order[j]!]],
          ]),
        ).toEqual(order.slice(i + 1, j));
      }),
    );
  });

  test('prune with label! spares exactly what prune with label removes', () => {
    fc.assert(
      fc.property(containers, label, (all, one) => {
        const pruned = (key: string): string[] =>
          filterContainers(all, { all: true, limit: 0, filters: new Map([[key, [one]]]) }, 'prune').map((c) => c.id);
        expect([...pruned('label'), ...pruned('label!')].sort()).toEqual(all.map((c) => c.id).sort());
      }),
    );
  });

  test('any key and values give a list or are rejected [filter-any-input]', () => {
    fc.assert(
      fc.property(containers, fc.string(), fc.array(fc.string(), { maxLength: 2 }), (all, key, values) => {
        try {
          listed(all, [[key, values]]);
        } catch (error) {
          expect(error instanceof InvalidParameter || error instanceof NotFound).toBe(true);
        }
      }),
    );
  });
});

test('for events, keys narrow and values widen', () => {
  const event = fc
    .record({
      type: fc.constantFrom('container', 'image', 'network'),
      action: fc.constantFrom('start', 'die', 'exec_create: a'),
      actor: word,
      attributes: labels,
    })
    .map((e): Event => ({ ...e, row: 1, time: '1' }));
  const chosen = fc.oneof(
    fc.tuple(fc.constant('type'), fc.array(fc.constantFrom('container', 'image'), { minLength: 1, maxLength: 2 })),
    fc.tuple(
      fc.constant('event'),
      fc.array(fc.constantFrom('start', 'die', 'exec_create'), { minLength: 1, maxLength: 2 }),
    ),
    fc.tuple(fc.constant('container'), fc.array(word, { minLength: 1, maxLength: 2 })),
  );
  fc.assert(
    fc.property(event, chosen, chosen, (e, one, other) => {
      fc.pre(one[0] !== other[0]);
      const passes = (...filters: [string, string[]][]): boolean => matcher(new Map(filters))(e);
      expect(passes(one, other)).toBe(passes(one) && passes(other));
      expect(passes(one)).toBe(one[1].some((value) => passes([one[0], [value]])));
    }),
  );
});

describe('decoding filters', () => {
  test('lists of values and the older maps of flags mean the same', () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.string(), fc.uniqueArray(fc.string(), { maxLength: 3 }), { noNullPrototype: true }),
        (filters) => {
          const flags = Object.fromEntries(
            Object.entries(filters).map(([key, values]) => [
              key,
              Object.fromEntries(values.map((value) => [value, true])),
            ]),
          );
          const sorted = (decoded: Map<string, string[]>): [string, string[]][] =>
            [...decoded].map(([key, values]): [string, string[]] => [key, [...values].sort()]);
          expect(sorted(decodeFilters(JSON.stringify(flags)))).toEqual(sorted(decodeFilters(JSON.stringify(filters))));
        },
      ),
    );
  });

  test('any text decodes to filters or is rejected [filter-parse-any]', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        try {
          decodeFilters(text);
        } catch (error) {
          expect(error).toBeInstanceOf(InvalidParameter);
        }
      }),
    );
  });
});
