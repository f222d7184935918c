/** A check of one property of this host. */
import type { Config } from '../config/config.ts';

export interface Finding {
  /** What was checked. */
  subject: string;
  /** lacking: containers cannot run. advice: something does not work, or not well. */
  verdict: 'ok' | 'lacking' | 'advice';
  text: string;
  /** The command to type, or what to change. */
  remedy?: string;
}

export type Result = Omit<Finding, 'subject'>;

export interface Probe {
  subject: string;
  /** An error it throws counts as a finding `lacking`. */
  look: (config: Config) => Promise<Result> | Result;
}
