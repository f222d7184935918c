/** Signals by the names and numbers that Docker accepts. signal(7) */
import { constants } from 'node:os';
import { InvalidParameter } from '../../model/errors.ts';

const FIRST_REALTIME = 34;
const LAST_REALTIME = 64;

const byName = new Map<string, number>([
  ...Object.entries(constants.signals).map(([name, number]): [string, number] => [name.slice('SIG'.length), number]),
  ['CLD', constants.signals.SIGCHLD],
  ['RTMIN', FIRST_REALTIME],
  ['RTMAX', LAST_REALTIME],
]);

/** Parses `TERM`, `SIGTERM`, `sigterm`, `15`, `RTMIN+3`, `SIGRTMAX-1`. @throws InvalidParameter `invalid signal: X` */
export function parseSignal(text: string): number {
  const name = text.trim().toUpperCase().replace(/^SIG/, '');
  const number = /^\d+$/.test(text.trim()) ? Number(text) : (byName.get(name) ?? realtime(name));
  if (number === undefined || number < 1 || number > LAST_REALTIME)
    throw new InvalidParameter(`invalid signal: ${text}`);
  return number;
}

function realtime(name: string): number | undefined {
  const [, base, offset] = /^(RTMIN\+|RTMAX-)(\d{1,2})$/.exec(name) ?? [];
  if (base === undefined) return undefined;
  const number = base === 'RTMIN+' ? FIRST_REALTIME + Number(offset) : LAST_REALTIME - Number(offset);
  return number >= FIRST_REALTIME && number <= LAST_REALTIME ? number : undefined;
}
