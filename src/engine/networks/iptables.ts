/**
 * Where a host filters forwarded packets with iptables (dockerd and many firewalls set FORWARD's policy to DROP), an accept in our own table
 * counts for nothing: it takes one there too. What may pass is still decided in our table.
 */
import { readFileSync } from 'node:fs';
import { isMissing, run } from './command.ts';

const WAIT = ['-w', '5'];
const LEGACY_TABLES = '/proc/net/ip_tables_names';

const rulesFor = (links: string[]): string[] => links.flatMap((link) => [`FORWARD -i ${link} -j ACCEPT`, `FORWARD -o ${link} -j ACCEPT`]);

/** Puts the accepts for these bridges first in FORWARD, unless they are in it. A host without iptables needs none.
 *  @param links6 those of them that carry IPv6 */
export async function acceptForwarding(links: string[], links6: string[] = []): Promise<void> {
  for (const command of await commands()) await accept(command, links);
  if (links6.length > 0 && (await has('ip6tables'))) await accept('ip6tables', links6);
}

async function accept(command: string, links: string[]): Promise<void> {
  const present = await list(command);
  for (const rule of rulesFor(links).filter((wanted) => !present.includes(`-A ${wanted}`))) await run(command, [...WAIT, '-I', ...rule.split(' ')]);
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

/** Takes the accepts for these bridges out again. */
export async function withdrawForwarding(links: string[], links6: string[] = []): Promise<void> {
  const wanted = rulesFor(links);
  for (const command of [...(await commands()), ...(links6.length > 0 && (await has('ip6tables')) ? ['ip6tables'] : [])]) {
    for (const rule of (await list(command)).filter((line) => wanted.includes(line.replace(/^-A /, '')))) await run(command, [...WAIT, ...rule.replace(/^-A /, '-D ').split(' ')]);
  }
  await tidy();
}

const list = async (command: string): Promise<string[]> => (await run(command, [...WAIT, '-S', 'FORWARD'])).split('\n');

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
    return (await list('iptables-legacy')).some((line) => line !== '' && line !== '-P FORWARD ACCEPT');
  } catch {
    return false;
  }
}

// iptables leaves an empty table behind that does nothing. A chain that has got a rule in the meantime refuses its removal, and all stays.
async function tidy(): Promise<void> {
  try {
    const { nftables } = JSON.parse(await run('nft', ['-j', 'list', 'table', 'ip', 'filter'])) as { nftables: Record<string, { name: string; policy?: string }>[] };
    const objects = nftables.filter((object) => !('metainfo' in object) && !('table' in object));
    if (!objects.every((object) => object['chain']?.policy === 'accept')) return;
    await run('nft', ['-f', '-'], [...objects.map((object) => `delete chain ip filter ${object['chain']!.name}`), 'delete table ip filter', ''].join('\n'));
  } catch {
    // No such table, or somebody has begun to use it.
  }
}
