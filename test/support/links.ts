/** The host's links by ip(8): /sys can belong to another network namespace than the test's. */
import { execFileSync } from 'node:child_process';

interface Link {
  ifname: string;
  master?: string;
}

const all = (): Link[] => JSON.parse(execFileSync('ip', ['-j', 'link'], { encoding: 'utf8' })) as Link[];

export const linkNames = (): string[] => all().map(({ ifname }) => ifname);

/** Links attached to one of these bridges. */
export const linksOn = (...bridges: string[]): string[] =>
  all()
    .filter(({ master }) => master !== undefined && bridges.includes(master))
    .map(({ ifname }) => ifname);
