/** A short run of the chaos program, always the same; docs/chaos.md has the long ones. */
import { expect, test } from 'vitest';
import { play } from '../chaos/play.ts';
import { format, generate } from '../chaos/script.ts';

const SEED = 1;
const ACTIONS = 60;

test(`${ACTIONS} actions and their faults leave nothing unaccounted for [chaos-short]`, async () => {
  // The firewall is that of other tests too.
  const script = generate(SEED, ACTIONS, false);
  const notes: string[] = [];
  const { wrong, log } = await play(script, (text) => void notes.push(`${new Date().toISOString()} ${text}`));
  const about = [...notes, format(script), ...log.split('\n').slice(-50)].join('\n');
  expect(wrong, wrong.length > 0 ? about : '').toEqual([]);
}, 400_000);
