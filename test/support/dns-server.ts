/** The DNS server of an engine, and the process that holds its sockets. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

interface Roots {
  execRoot: string;
}

/** Pids of the DNS servers of an engine: one, or two for a moment while one takes the other's place. */
export const dnsServers = ({ execRoot }: Roots): number[] =>
  pidsWith((args) => args.startsWith(`holdfast-dns ${join(execRoot, 'dns')}`));

/** The pid of the DNS server. @throws when there is none */
export function dnsServer(engine: Roots): number {
  const [pid] = dnsServers(engine);
  if (pid === undefined) throw new Error('there is no DNS server');
  return pid;
}

export const dnsHolders = ({ execRoot }: Roots): number[] =>
  pidsWith((args) => args.startsWith('holdfast-dns-sockets') && args.includes(join(execRoot, 'dns')));

function pidsWith(matches: (args: string) => boolean): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return matches(readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' '));
      } catch {
        return false; // ended meanwhile
      }
    })
    .map(Number);
}
