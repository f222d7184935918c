/**
 * Where a host filters with iptables (dockerd and many firewalls set FORWARD's policy to DROP, some INPUT's), an accept
 * in our own table
 * counts for nothing: it takes one there too. What may be forwarded is still decided in our table.
 */
import { readFileSync } from 'node:fs';
import { isMissing, run } from './command.ts';

const WAIT = ['-w', '5'];
const LEGACY_TABLES = '/proc/net/ip_tables_names';

/** What a bridge needs of the host's own rules. */
export interface Accepted {
  link: string;
  /** It carries IPv6. */
  ipv6: boolean;
  /** Its containers ask a server on its own address for names. */
  names: boolean;
}

// As `iptables -S` lists them, without the -A.
const rulesFor = (bridges: Accepted[]): string[] =>
  bridges.flatMap(({ link, names }) => [
    `FORWARD -i ${link} -j ACCEPT`,
    `FORWARD -o ${link} -j ACCEPT`,
    ...(names
      ? [`INPUT -i ${link} -p udp -m udp --dport 53 -j ACCEPT`, `INPUT -i ${link} -p tcp -m tcp --dport 53 -j ACCEPT`]
      : []),
  ]);

/**
 * Puts the accepts for these bridges first in their chains, unless they are in them. A host without iptables needs
 * none.
 */
export async function acceptTraffic(bridges: Accepted[]): Promise<void> {
  for (const [command, concerned] of await commandsFor(bridges)) {
    const present = new Set(await list(command));
    await change(
      command,
      rulesFor(concerned)
        .filter((wanted) => !present.has(`-A ${wanted}`))
        .map((rule) => `-I ${rule}`),
    );
  }
}

/** Takes the accepts for these bridges out again. */
export async function withdrawTraffic(bridges: Accepted[]): Promise<void> {
  for (const [command, concerned] of await commandsFor(bridges)) {
    const wanted = new Set(rulesFor(concerned));
    await change(
      command,
      (await list(command))
        .filter((line) => wanted.has(line.replace(/^-A /, '')))
        .map((line) => line.replace(/^-A /, '-D ')),
    );
  }
  await tidy();
}

// All at once: a process for each rule would take milliseconds each.
async function change(command: string, lines: string[]): Promise<void> {
  if (lines.length > 0)
    await run(`${command}-restore`, [...WAIT, '--noflush'], ['*filter', ...lines, 'COMMIT', ''].join('\n'));
}

const list = async (command: string): Promise<string[]> => (await run(command, [...WAIT, '-S'])).split('\n');

async function commandsFor(bridges: Accepted[]): Promise<[command: string, concerned: Accepted[]][]> {
  const six = bridges.filter(({ ipv6 }) => ipv6);
  const commands4 = (await commands()).map((command): [string, Accepted[]] => [command, bridges]);
  return [
    ...commands4,
    ...(six.length > 0 && (await has('ip6tables')) ? [['ip6tables', six] as [string, Accepted[]]] : []),
  ];
}

async function has(command: string): Promise<boolean> {
  try {
    await run(command, ['--version']);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

// The host's iptables, and the legacy one too where somebody filters with it: both look at each packet.
async function commands(): Promise<string[]> {
  try {
    const version = await run('iptables', ['--version']);
    return !version.includes('legacy') && (await legacyFilters()) ? ['iptables', 'iptables-legacy'] : ['iptables'];
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

async function legacyFilters(): Promise<boolean> {
  try {
    if (!readFileSync(LEGACY_TABLES, 'latin1').split('\n').includes('filter')) return false;
    return (await list('iptables-legacy')).some((line) => line !== '' && !/^-P \w+ ACCEPT$/.test(line));
  } catch {
    return false;
  }
}

// iptables leaves an empty table behind that does nothing. A chain that has got a rule in the meantime refuses its
// removal, and all stays.
async function tidy(): Promise<void> {
  for (const family of ['ip', 'ip6']) await tidyTable(family);
}

async function tidyTable(family: string): Promise<void> {
  try {
    const { nftables } = JSON.parse(await run('nft', ['-j', 'list', 'table', family, 'filter'])) as {
      nftables: Record<string, { name: string; policy?: string }>[];
    };
    const objects = nftables.filter((object) => !('metainfo' in object) && !('table' in object));
    if (!objects.every((object) => object.chain?.policy === 'accept')) return;
    await run(
      'nft',
      ['-f', '-'],
      [
        ...objects.map((object) => `delete chain ${family} filter ${object.chain!.name}`),
        `delete table ${family} filter`,
        '',
      ].join('\n'),
    );
  } catch {
    // No such table, or somebody has begun to use it.
  }
}
