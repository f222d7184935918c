/**
 * Accept rules in the host's iptables. dockerd and many firewalls set the policy of FORWARD, some that of INPUT, to
 * DROP; a packet must be accepted by every table, so an accept in our own table is not enough. Our table still decides
 * what is forwarded.
 */
import { readFileSync } from 'node:fs';
import type { Family } from '../../sys/nft-messages.ts';
import { deleteUnusedTable, openNftables } from '../../sys/nftables.ts';
import { isMissing, run } from './command.ts';

const WAIT = ['-w', '5'];
const LEGACY_TABLES = '/proc/net/ip_tables_names';

/** A bridge whose traffic the host must accept. */
export interface AcceptedBridge {
  link: string;
  /** It has IPv6 addresses. */
  ipv6: boolean;
  /** A DNS server listens on its addresses. */
  dns: boolean;
}

/** In the format of `iptables -S`, without the -A. */
const rulesFor = (bridges: AcceptedBridge[]): string[] =>
  bridges.flatMap(({ link, dns }) => [
    `FORWARD -i ${link} -j ACCEPT`,
    `FORWARD -o ${link} -j ACCEPT`,
    ...(dns
      ? [`INPUT -i ${link} -p udp -m udp --dport 53 -j ACCEPT`, `INPUT -i ${link} -p tcp -m tcp --dport 53 -j ACCEPT`]
      : []),
  ]);

/** Inserts the missing accept rules of these bridges. Does nothing on a host without iptables. */
export async function acceptTraffic(bridges: AcceptedBridge[]): Promise<void> {
  for (const [command, affected] of await commandsFor(bridges)) {
    const present = new Set(await list(command));
    const missing = rulesFor(affected).filter((rule) => !present.has(`-A ${rule}`));
    await change(
      command,
      missing.map((rule) => `-I ${rule}`),
    );
  }
}

/**
 * Sets the policy of FORWARD to DROP, as dockerd does where it enables forwarding. Other daemons' bridges and an
 * administrator's accept rules are not affected, as they would be by a rule of our own table.
 * @returns false when the family's iptables is not installed
 */
export async function dropForwarded(family: Family): Promise<boolean> {
  const command = family === 'ip' ? 'iptables' : 'ip6tables';
  try {
    const isAccepting = (await list(command)).includes('-P FORWARD ACCEPT');
    if (isAccepting) await run(command, [...WAIT, '-P', 'FORWARD', 'DROP']);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/** Deletes the accept rules of these bridges. */
export async function withdrawTraffic(bridges: AcceptedBridge[]): Promise<void> {
  for (const [command, affected] of await commandsFor(bridges)) {
    const ours = new Set(rulesFor(affected).map((rule) => `-A ${rule}`));
    const present = (await list(command)).filter((line) => ours.has(line));
    await change(
      command,
      present.map((line) => line.replace(/^-A /, '-D ')),
    );
  }
  deleteEmptyTables();
}

// In one go: a process per rule would take milliseconds each.
async function change(command: string, lines: string[]): Promise<void> {
  if (lines.length > 0)
    await run(`${command}-restore`, [...WAIT, '--noflush'], ['*filter', ...lines, 'COMMIT', ''].join('\n'));
}

const list = async (command: string): Promise<string[]> => (await run(command, [...WAIT, '-S'])).split('\n');

async function commandsFor(bridges: AcceptedBridge[]): Promise<[command: string, affected: AcceptedBridge[]][]> {
  const found = (await ipv4Commands()).map((command): [string, AcceptedBridge[]] => [command, bridges]);
  const six = bridges.filter(({ ipv6 }) => ipv6);
  if (six.length > 0 && (await isInstalled('ip6tables'))) found.push(['ip6tables', six]);
  return found;
}

async function isInstalled(command: string): Promise<boolean> {
  try {
    await run(command, ['--version']);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

// The host's iptables, and iptables-legacy too where that has rules: packets pass both.
async function ipv4Commands(): Promise<string[]> {
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

// iptables-nft leaves an empty table behind.
function deleteEmptyTables(): void {
  try {
    const socket = openNftables();
    try {
      for (const family of ['ip', 'ip6'] as const) deleteUnusedTable(socket, { family, table: 'filter' });
    } finally {
      socket.close();
    }
  } catch {
    // It has got a rule meanwhile, or there is no nf_tables.
  }
}
