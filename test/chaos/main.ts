/**
 * The chaos program:
 *
 *     npm run chaos -- [--seed N] [--actions N] [--seeds N] [--no-shrink] [--repeats N] [FILE]
 *
 * Plays generated actions, or those of a file. When a run fails it shrinks the script, and prints the short one and the
 * name of its file. It exits with 1 then.
 */
import { cpSync, mkdirSync, writeFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { onFailure, play, type Verdict } from './play.ts';
import { format, generate, parse, type Script } from './script.ts';
import { shrink } from './shrink.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: 'string', default: '1' },
    seeds: { type: 'string', default: '1' },
    actions: { type: 'string', default: '1000' },
    /** A failure that depends on timing: a subset counts as passing after so many runs without it. */
    repeats: { type: 'string', default: '1' },
    'no-shrink': { type: 'boolean', default: false },
    'shrink-minutes': { type: 'string', default: '30' },
    /** The network namespace is the run's own, so its firewall may be flushed: scripts/chaos.mjs sees to it. */
    'own-network': { type: 'boolean', default: false },
    quiet: { type: 'boolean', default: false },
    out: { type: 'string', default: '/tmp/holdfast-chaos' },
  },
});

const out = join(values.out, String(process.pid));
mkdirSync(out, { recursive: true });

const time = (): string => new Date().toISOString().slice(11, 23);
let notes: string[] = [];
function note(text: string): void {
  notes.push(`${time()} ${text}`);
  if (!values.quiet) process.stdout.write(`${notes.at(-1)}\n`);
}

async function once(script: Script, name: string): Promise<Verdict> {
  notes = [];
  onFailure((engine) => {
    for (const part of [
      'data/containers',
      'data/holdfast.db',
      'data/holdfast.db-wal',
      'log',
      'witness',
      'data/shims/log',
    ])
      try {
        cpSync(join(engine.root, part), join(out, name, part), { recursive: true, filter: isSmall });
      } catch {
        continue; // it ends or goes meanwhile
      }
  });
  const verdict = await play(script, note);
  const { wrong, seconds, faults, answers } = verdict;
  const list = (map: ReadonlyMap<string | number, number>): string =>
    [...map].map(([key, count]) => `${key} ${count}`).join(', ');
  console.log(`${name}: ${script.actions.length} actions in ${seconds.toFixed(0)} s, ${wrong.length} failures`);
  console.log(`  faults: ${list(faults)}\n  answers: ${list(answers)}`);
  for (const one of wrong) console.log(`  WRONG ${one}`);
  if (wrong.length > 0) {
    mkdirSync(join(out, name), { recursive: true });
    writeFileSync(join(out, name, 'notes'), `${notes.join('\n')}\n`);
    writeFileSync(join(out, name, 'script'), format(script));
    console.log(`  kept: ${join(out, name)}`);
  }
  return verdict;
}

/** FIFOs cannot be copied; file systems of containers are not looked at. */
const isSmall = (path: string): boolean => !/\/(ctl|upper|work|rootfs)$/.test(path);

async function shorter(script: Script, name: string): Promise<void> {
  const end = Date.now() + Number(values['shrink-minutes']) * 60_000;
  let tries = 0;
  const fails = async (actions: Script['actions']): Promise<boolean> => {
    for (let at = 0; at < Number(values.repeats); at++)
      if ((await once({ ...script, actions }, `${name}-shrink-${++tries}`)).wrong.length > 0) return true;
    return false;
  };
  const actions = await shrink(
    script.actions,
    (subset) => fails([...subset]),
    () => Date.now() > end,
  );
  const file = join(out, `${name}.short`);
  writeFileSync(file, format({ ...script, actions: [...actions] }));
  console.log(`shrunk to ${actions.length} actions; replay it with: npm run chaos -- ${file}`);
  console.log(readFileSync(file, 'utf8'));
}

const scripts = positionals[0]
  ? [parse(readFileSync(positionals[0], 'utf8'))]
  : Array.from({ length: Number(values.seeds) }, (_, at) =>
      generate(Number(values.seed) + at, Number(values.actions), values['own-network']),
    );
let failures = 0;
for (const script of scripts) {
  const name = `seed-${script.seed}`;
  const { wrong } = await once(script, name);
  if (wrong.length === 0) continue;
  failures++;
  if (!values['no-shrink']) await shorter(script, name);
}
process.exit(failures === 0 ? 0 : 1);
