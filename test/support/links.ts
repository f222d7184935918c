/** The host's links, as ip(8) lists them: /sys may be of another network namespace than the one that this runs in. */
import { execFileSync } from 'node:child_process';

interface Link {
  ifname: string;
  master?: string;
}

const all = (): Link[] => JSON.parse(execFileSync('ip', ['-j', 'link'], { encoding: 'utf8' })) as Link[];

export const linkNames = (): string[] => all().map(({ ifname }) => ifname);

/** Those that hang on one of these bridges. */
export const linksOn = (...bridges: string[]): string[] =>
  all()
    .filter(({ master }) => master !== undefined && bridges.includes(master))
    .map(({ ifname }) => ifname);
