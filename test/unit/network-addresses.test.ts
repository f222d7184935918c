/** How networks allocate addresses and subnets. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { macOf } from '../../src/engine/networks/endpoints.ts';
import {
  cidr,
  contains,
  familyOf,
  freeSubnet,
  masked,
  nextAddress,
  overlap,
  parseCidr,
  textOf,
  valueOf,
  type Cidr,
} from '../../src/engine/networks/subnets.ts';

describe('addresses', () => {
  const family = fc.constantFrom<4 | 6>(4, 6);
  const value = (of: 4 | 6) => fc.bigInt({ min: 0n, max: 2n ** (of === 4 ? 32n : 128n) - 1n });
  const subnet = (least: number) =>
    family.chain((of) =>
      fc
        .tuple(value(of), fc.integer({ min: least, max: 30 }))
        .map(([address, length]) => cidr(masked(cidr(`${textOf(address, of)}/${of === 4 ? length : length + 96}`)))),
    );
  const small = subnet(26);
  const inside = (of: Cidr, offset: number): string =>
    textOf(of.first + (BigInt(offset) % (of.last - of.first + 1n)), of.family);

  test('text and number convert back and forth', () => {
    fc.assert(
      fc.property(
        family.chain((of) => fc.tuple(fc.constant(of), value(of))),
        ([of, number]) => {
          const text = textOf(number, of);
          expect(familyOf(text)).toBe(of);
          expect(valueOf(text)).toBe(number);
        },
      ),
    );
    expect([valueOf('::'), valueOf('::1'), valueOf('fd00::'), valueOf('::ffff:1.2.3.4')]).toEqual([
      0n,
      1n,
      0xfdn << 120n,
      0xffff01020304n,
    ]);
  });

  test('CIDR notation contains its own address', () => {
    fc.assert(
      fc.property(subnet(8), (found) => {
        expect(contains(found, textOf(found.address, found.family))).toBe(true);
        expect(masked(cidr(masked(found)))).toBe(masked(found));
      }),
    );
    for (const text of [
      '10.0.0.0',
      '10.0.0.0/33',
      '10.0.0/8',
      'fd00::/129',
      'x/8',
      '/8',
      '10.0.0.0/8/8',
      '10.0.0.0/-1',
      '10.0.0.0/ 8',
    ])
      expect(parseCidr(text)).toBeUndefined();
  });

  test('an allocated address lies in the subnet and its range, and is not the network, the broadcast, reserved or taken [address-in-range]', () => {
    fc.assert(
      fc.property(
        subnet(16),
        fc.array(fc.nat(40)),
        fc.nat(),
        fc.option(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 4 }))),
        (found, offsets, last, part) => {
          const gateway = textOf(found.first + 1n, found.family);
          const taken = new Set(offsets.map((offset) => inside(found, offset)));
          const longest = found.family === 4 ? 32 : 128;
          const range =
            part === null
              ? undefined
              : cidr(masked(cidr(`${inside(found, part[0])}/${Math.min(found.prefix + part[1], longest)}`)));
          const address = nextAddress(found, range, new Set([gateway]), inside(found, last), (candidate) =>
            taken.has(candidate),
          );
          if (address === undefined) return;
          expect(contains(range ?? found, address)).toBe(true);
          expect([textOf(found.first, found.family), gateway, ...taken]).not.toContain(address);
          if (found.family === 4) expect(valueOf(address)).not.toBe(found.last);
        },
      ),
    );
  });

  test('a subnet allocates each of its addresses once, then none [addresses-exhausted]', () => {
    fc.assert(
      fc.property(small, (found) => {
        const gateway = textOf(found.first + 1n, found.family);
        const given = new Set<string>();
        for (let last: string | undefined; ;) {
          const address = nextAddress(found, undefined, new Set([gateway]), last, (candidate) => given.has(candidate));
          if (address === undefined) break;
          expect(given.has(address)).toBe(false);
          given.add(address);
          last = address;
        }
        const size = Number(found.last - found.first) + 1;
        expect(given.size).toBe(found.family === 4 ? size - 3 : size - 2);
      }),
      { numRuns: 40 },
    );
  });

  test('no two allocations are equal, whatever is released in between [addresses-unique]', () => {
    fc.assert(
      fc.property(small, fc.array(fc.oneof(fc.constant(-1), fc.nat(70)), { maxLength: 200 }), (found, steps) => {
        const held: string[] = [];
        let last: string | undefined;
        for (const step of steps) {
          if (step >= 0 && held.length > 0) {
            held.splice(step % held.length, 1);
            continue;
          }
          const address = nextAddress(found, undefined, new Set(), last, (candidate) => held.includes(candidate));
          if (address === undefined) continue;
          expect(held).not.toContain(address);
          held.push(address);
          last = address;
        }
      }),
    );
  });

  test('allocation continues after the last address, even when a lower one was released', () => {
    const found = cidr('10.1.2.0/24');
    const taken = new Set(['10.1.2.3']);
    const after = (last: string | undefined): string | undefined =>
      nextAddress(found, undefined, new Set(['10.1.2.1']), last, (a) => taken.has(a));
    expect([after('10.1.2.3'), after('10.1.2.254'), after(undefined)]).toEqual(['10.1.2.4', '10.1.2.2', '10.1.2.2']);
  });

  test('the first free subnet of the pools is found; it overlaps with nothing [subnet-no-overlap]', () => {
    const pools = [
      { base: '10.0.0.0/20', size: 24 },
      { base: '10.1.0.0/22', size: 26 },
    ];
    const taken = fc.array(
      fc
        .tuple(fc.constantFrom('10.0', '10.1'), fc.nat(20), fc.nat(255), fc.integer({ min: 16, max: 32 }))
        .map(([head, a, b, length]) => cidr(masked(cidr(`${head}.${a}.${b}/${length}`)))),
      { maxLength: 12 },
    );
    fc.assert(
      fc.property(taken, (others) => {
        const found = freeSubnet(pools, others);
        const all = pools.flatMap(({ base, size }) =>
          Array.from({ length: 2 ** (size - cidr(base).prefix) }, (_, i) =>
            cidr(`${textOf(cidr(base).first + (BigInt(i) << BigInt(32 - size)), 4)}/${size}`),
          ),
        );
        const free = all.filter((each) => !others.some((other) => overlap(each, other)));
        expect(found).toBe(free[0] && masked(free[0]));
      }),
    );
    expect(freeSubnet([{ base: 'fd00:1::/48', size: 64 }], [cidr('fd00:1::/64'), cidr('fd00:1:0:1::/64')])).toBe(
      'fd00:1:0:2::/64',
    );
  });

  test('a hardware address is derived from the IPv4 address', () =>
    expect([macOf('10.77.0.255', ''), macOf('', 'a1b2c3d4e5')]).toEqual(['02:42:0a:4d:00:ff', '02:42:a1:b2:c3:d4']));
});
