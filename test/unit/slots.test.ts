/** Slots limit how many containers are restored at once. */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Slots } from '../../src/async/slots.ts';

test('runs no more jobs at once than its size, and all in the end', async () => {
  const slots = new Slots(3, 60_000);
  let [now, most] = [0, 0];
  const done = await Promise.all(
    Array.from({ length: 20 }, (_, i) =>
      slots.run(async () => {
        most = Math.max(most, ++now);
        await sleep(1);
        now--;
        return i;
      }),
    ),
  );
  expect(most).toBe(3);
  expect(done).toEqual(Array.from({ length: 20 }, (_, i) => i));
});

test('jobs that never end or that fail do not keep the others from running', async () => {
  const slots = new Slots(2, 20);
  for (let i = 0; i < 4; i++) void slots.run(() => new Promise(() => undefined));
  await expect(slots.run(() => Promise.reject(new Error('no')))).rejects.toThrow('no');
  expect(await slots.run(() => Promise.resolve('served'))).toBe('served');
});
