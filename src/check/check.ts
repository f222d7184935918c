/** `holdfastd check`: tells a person in plain words what this host lacks, and how to get it. Changes nothing. */
import type { Config } from '../config/config.ts';
import { isolationProbes } from './probes/isolation.ts';
import { networkProbes } from './probes/network.ts';
import { placeProbes } from './probes/places.ts';
import { programProbes } from './probes/programs.ts';

export interface Finding {
  /** What was looked at. */
  subject: string;
  /** lacking: containers will not run without it. advice: something will not work, or not well. */
  verdict: 'ok' | 'lacking' | 'advice';
  text: string;
  /** What to type, or to change. */
  remedy?: string;
}

/** Looks at one thing on this host. Throwing is a way of saying that it is lacking. */
export interface Probe {
  subject: string;
  look: (config: Config) => Promise<Omit<Finding, 'subject'>> | Omit<Finding, 'subject'>;
}

const allProbes: readonly Probe[] = [...programProbes, ...isolationProbes, ...networkProbes, ...placeProbes];

export async function findings(config: Config, probes: readonly Probe[] = allProbes): Promise<Finding[]> {
  const found: Finding[] = [];
  for (const { subject, look } of probes) found.push({ subject, ...(await ask(look, config)) });
  return found;
}

async function ask(look: Probe['look'], config: Config): Promise<Omit<Finding, 'subject'>> {
  try {
    return await look(config);
  } catch (error) {
    return { verdict: 'lacking', text: (error as Error).message };
  }
}

const marks = { ok: '  ok     ', lacking: 'MISSING  ', advice: '  note   ' } as const;
const SUBJECT_WIDTH = 16;

export function report(found: readonly Finding[]): string {
  const lines = found.flatMap(({ subject, verdict, text, remedy }) => [
    `${marks[verdict]}${subject.padEnd(SUBJECT_WIDTH)}${text}`,
    ...(remedy && verdict !== 'ok' ? [`${' '.repeat(marks.ok.length + SUBJECT_WIDTH)}→ ${remedy}`] : []),
  ]);
  const lacking = found.filter((f) => f.verdict === 'lacking').map((f) => f.subject);
  const notes = found.filter((f) => f.verdict === 'advice').length;
  const verdict =
    lacking.length > 0
      ? `This host cannot run Holdfast yet: ${lacking.join(', ')}.`
      : `This host can run Holdfast${notes > 0 ? `; ${notes} ${notes === 1 ? 'note' : 'notes'} above` : ''}.`;
  return `${lines.join('\n')}\n\n${verdict}\n`;
}

/** Prints the findings; the exit code says whether something needed is missing. */
export async function check(config: Config, print: (text: string) => void): Promise<0 | 1> {
  const found = await findings(config);
  print(report(found));
  return found.some((f) => f.verdict === 'lacking') ? 1 : 0;
}
