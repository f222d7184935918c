/**
 * The program in every container. It writes numbered lines to its output, and notes in a directory of the host, which
 * no fault of the run reaches, what it wrote, when it began and how it ended.
 *
 * `runs` has one line per run: its number, /proc/uptime, the host name. The file `N` of run N has the number of the
 * last line written, again and again, and `exit CODE` before it ends by itself.
 */
import { closeSync, constants, existsSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** Lines per `burst` of the script's actions. */
export const BURST_LINES = 200;
export const TERM_CODE = 0;
export const USR1_CODE = 7;
export const SELF_END_CODE = 3;

/** Shell code without a fork per line: 20 of them must not need a processor of their own. */
export const PROGRAM = `
r=$(wc -l </w/runs); r=$((r+1)); n=0
read -r u x </proc/uptime
if [ -n "$STDIN" ]; then exec 3<&0; else exec 3<>/w/ctl; fi
[ -z "$STDERR" ] || exec 1>&2
bye() { echo "$r end $n"; echo "exit $1" >>/w/$r; exit $1; }
[ -n "$DEAF" ] && trap '' TERM || trap 'bye ${TERM_CODE}' TERM
trap 'bye ${USR1_CODE}' USR1
echo "$r $u $HOSTNAME" >>/w/runs
echo 0 >>/w/$r
[ -z "$WEB" ] || { mkdir -p /tmp/www; echo "run $r" >/tmp/www/index.html; httpd -p 80 -h /tmp/www; }
while :; do
  n=$((n+1)); echo "$r $n"; echo $n >>/w/$r
  [ "$n" != "$LAST" ] || bye ${SELF_END_CODE}
  if read -r -t 0.1 c a <&3; then
    case $c in
      exit) bye $a;;
      burst) i=0; while [ $i -lt $a ]; do i=$((i+1)); n=$((n+1)); echo "$r $n"; done; echo $n >>/w/$r;;
    esac
  fi
done`;

export interface WitnessRun {
  number: number;
  /** When it began: seconds since the boot, in steps of 0.01. */
  uptime: number;
  hostname: string;
  /** The last line that it says it wrote. */
  last: number;
  /** The code with which it ended by itself; undefined when it was killed or runs. */
  exit: number | undefined;
}

/** What the witness in `directory` noted. */
export function runsOf(directory: string): WitnessRun[] {
  return readFileSync(join(directory, 'runs'), 'latin1')
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [number, uptime, hostname] = line.split(' ');
      const notes = existsSync(join(directory, number!)) ? readFileSync(join(directory, number!), 'latin1') : '';
      const exit = /^exit (\d+)$/m.exec(notes)?.[1];
      const last = [...notes.matchAll(/^(\d+)$/gm)].at(-1)?.[1] ?? '0';
      return {
        number: Number(number),
        uptime: Number(uptime),
        hostname: hostname ?? '',
        last: Number(last),
        exit: exit === undefined ? undefined : Number(exit),
      };
    });
}

/** Sends a running witness a command through its FIFO. @returns false when no witness has it open */
export function command(directory: string, text: string): boolean {
  if (!readdirSync(directory).includes('ctl')) return false;
  let fd: number;
  try {
    fd = openSync(join(directory, 'ctl'), constants.O_WRONLY | constants.O_NONBLOCK);
  } catch {
    return false; // ENXIO
  }
  try {
    writeSync(fd, `${text}\n`);
    return true;
  } finally {
    closeSync(fd);
  }
}
