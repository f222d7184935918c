/** Tasks by key. */
import { setImmediate as tick } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { KeyedSerial } from '../../src/async/keyed-serial.ts';

test('tasks of one key run in order, also behind one that failed; other keys do not wait', async () => {
  const serial = new KeyedSerial();
  const log: string[] = [];
  const task =
    (name: string, ticks: number, fails = false) =>
    async () => {
      log.push(`${name} begins`);
      for (let i = 0; i < ticks; i++) await tick();
      log.push(`${name} ends`);
      if (fails) throw new Error(name);
      return name;
    };
  const results = await Promise.allSettled([
    serial.run('x', task('slow', 5, true)),
    serial.run('x', task('second', 1)),
    serial.run('y', task('other', 1)),
    serial.run('x', () => {
      throw new Error('synchronous');
    }),
    serial.run('x', () => 'plain value'),
  ]);
  expect(log).toEqual(['slow begins', 'other begins', 'other ends', 'slow ends', 'second begins', 'second ends']);
  expect(
    results.map((result) => (result.status === 'fulfilled' ? result.value : (result.reason as Error).message)),
  ).toEqual(['slow', 'second', 'other', 'synchronous', 'plain value']);
});

test('idle() resolves when all queued tasks have ended, failed ones too', async () => {
  const serial = new KeyedSerial();
  let ended = 0;
  const failure = serial.run('x', async () => {
    await tick();
    ended++;
    throw new Error('failed');
  });
  void serial.run('y', async () => {
    await tick();
    await tick();
    ended++;
  });
  await Promise.all([serial.idle(), expect(failure).rejects.toThrow('failed')]);
  expect(ended).toBe(2);
});
