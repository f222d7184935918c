/** `holdfastd check`: reports what this host lacks and how to install it. Changes nothing. */
import type { Config } from '../config/config.ts';
import type { Finding, Probe, Result } from './probe.ts';
import { isolationProbes } from './probes/isolation.ts';
import { networkProbes } from './probes/network.ts';
import { placeProbes } from './probes/places.ts';
import { programProbes } from './probes/programs.ts';

const allProbes: readonly Probe[] = [...programProbes, ...isolationProbes, ...networkProbes, ...placeProbes];

export async function findings(config: Config, probes: readonly Probe[] = allProbes): Promise<Finding[]> {
  const found: Finding[] = [];
  for (const { subject, look } of probes) found.push({ subject, ...(await run(look, config)) });
  return found;
}

async function run(look: Probe['look'], config: Config): Promise<Result> {
  try {
    return await look(config);
  } catch (error) {
    return { verdict: 'lacking', text: (error as Error).message };
  }
}

const marks = { ok: '  ok     ', lacking: 'MISSING  ', advice: '  note   ' } as const;
const SUBJECT_WIDTH = 16;

export function report(found: readonly Finding[]): string {
  const lines = found.flatMap(({ subject, verdict, text, remedy }) => {
    const line = `${marks[verdict]}${subject.padEnd(SUBJECT_WIDTH)}${text}`;
    const indent = ' '.repeat(marks.ok.length + SUBJECT_WIDTH);
    return remedy && verdict !== 'ok' ? [line, `${indent}→ ${remedy}`] : [line];
  });
  return `${lines.join('\n')}\n\n${summary(found)}\n`;
}

function summary(found: readonly Finding[]): string {
  const lacking = found.filter((f) => f.verdict === 'lacking').map((f) => f.subject);
  if (lacking.length > 0) return `This host cannot run Holdfast yet: ${lacking.join(', ')}.`;
  const notes = found.filter((f) => f.verdict === 'advice').length;
  if (notes === 0) return 'This host can run Holdfast.';
  return `This host can run Holdfast; ${notes} ${notes === 1 ? 'note' : 'notes'} above.`;
}

/** Prints the findings; returns the exit code: 1 if something required is missing. */
export async function check(config: Config, print: (text: string) => void): Promise<0 | 1> {
  const found = await findings(config);
  print(report(found));
  return found.some((f) => f.verdict === 'lacking') ? 1 : 0;
}
