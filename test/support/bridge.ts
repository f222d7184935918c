/** The bridge of a test's engine, with the firewall rules that name it. */
import { execFileSync } from 'node:child_process';

/** Removes the bridge that has `address`, its nftables tables and its iptables rules; does nothing without one. */
export function removeBridge(address: string): void {
  const link = /^\d+: (\S+)/m.exec(tryRun('ip', '-o', '-4', 'addr', 'show', 'to', address))?.[1];
  if (!link) return;
  for (const [, family, table] of tryRun('nft', 'list', 'tables').matchAll(/table (\w+) (holdfast_\w+)/g))
    if (table === `holdfast_${link}`) tryRun('nft', 'delete', 'table', family!, table);
  for (const rule of tryRun('iptables', '-S').split('\n'))
    if (rule.startsWith('-A') && rule.includes(link)) tryRun('iptables', ...deletionOf(rule));
  tryRun('ip', 'link', 'del', link);
}

const deletionOf = (rule: string): string[] =>
  rule
    .replace('-A', '-D')
    .split(' ')
    .map((word) => word.replaceAll('"', ''));

/** Standard output; '' when the program fails or is missing. */
function tryRun(program: string, ...args: string[]): string {
  try {
    return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    return '';
  }
}
