import { expect, test } from 'vitest';
import { Serial } from '../../src/async/serial.ts';

test('tasks run one after the other, in order, and a failed one does not stop the next', async () => {
  const serial = new Serial();
  const log: string[] = [];
  const task = (name: string, fails = false) =>
    serial.run(async () => {
      log.push(`${name} starts`);
      await Promise.resolve();
      log.push(`${name} ends`);
      if (fails) throw new Error(name);
      return name;
    });
  const [first, second, third] = await Promise.allSettled([task('a'), task('b', true), task('c')]);
  expect(log).toEqual(['a starts', 'a ends', 'b starts', 'b ends', 'c starts', 'c ends']);
  expect([first.status, second.status, third.status]).toEqual(['fulfilled', 'rejected', 'fulfilled']);
});

test('counts the tasks that run or wait', async () => {
  const serial = new Serial();
  const tasks = [1, 2, 3].map(() => serial.run(() => Promise.resolve()));
  expect(serial.pending).toBe(3);
  await Promise.all(tasks);
  expect(serial.pending).toBe(0);
});
