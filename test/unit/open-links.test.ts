/** Which connections to shims are closed when there are too many. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { mostOf, OpenLinks, type Restable } from '../../src/engine/shims/open-links.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A connection that is closed when asked, unless it is `busy`. */
function linkIn(links: OpenLinks, busy = false): Restable & { isOpen: boolean } {
  const link = {
    usedAt: Date.now(),
    isOpen: true,
    rest() {
      if (busy) return false;
      this.isOpen = false;
      links.delete(this);
      return true;
    },
  };
  links.add(link);
  return link;
}

test('the longest unused one is closed first, never one that is busy or was just handed out', () => {
  const links = new OpenLinks(2);
  const busy = linkIn(links, true);
  vi.advanceTimersByTime(100);
  const [first, second] = [linkIn(links), linkIn(links)];
  expect([busy.isOpen, first.isOpen, second.isOpen]).toEqual([true, true, true]);
  vi.advanceTimersByTime(100);
  const third = linkIn(links);
  expect([busy.isOpen, first.isOpen, second.isOpen, third.isOpen]).toEqual([true, false, false, true]);
  expect(links.count).toBe(2);
});

test('an unused one is closed after seconds', () => {
  const links = new OpenLinks(10);
  const [busy, idle] = [linkIn(links, true), linkIn(links)];
  vi.advanceTimersByTime(4_000);
  expect(idle.isOpen).toBe(true);
  vi.advanceTimersByTime(2_000);
  expect([busy.isOpen, idle.isOpen]).toEqual([true, false]);
});

test('a step that finds no descriptor is repeated once others were closed', async () => {
  const links = new OpenLinks(10);
  const idle = linkIn(links);
  vi.advanceTimersByTime(100);
  const open = (): Promise<string> =>
    idle.isOpen ? Promise.reject(Object.assign(new Error('connect'), { code: 'EMFILE' })) : Promise.resolve('open');
  const opened = links.withRoom(open);
  await vi.advanceTimersByTimeAsync(100);
  expect(await opened).toBe('open');
  await expect(links.withRoom(() => Promise.reject(new Error('another')))).rejects.toThrow('another');
});

test('the limit is a share of the descriptors', () => {
  expect([mostOf(64), mostOf(1_024), mostOf(Infinity), mostOf(1)]).toEqual([16, 64, 64, 4]);
});
