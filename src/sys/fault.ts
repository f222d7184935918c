/**
 * Fault points: places where a test kills this process, to check what the next start makes of the state left behind.
 * They are in the wrappers around all calls that change state outside the process, so that no call can do without.
 *
 * HOLDFAST_FAULT=name, or name#n, kills the process when it passes that point (for the n-th time).
 * HOLDFAST_FAULT_LOG=file lists all points that are passed. With HOLDFAST_FAULT_ARMED=file, points do not count until
 * that file exists: the start of a daemon passes points too.
 *
 * HOLDFAST_FAULT_FILE=file names the points in a file instead, which can be written while the process runs; a shim's is
 * in HOLDFAST_FAULT_DIR, see useFaultFile(). It holds `name#n` words: the process that passes the first for the n-th
 * time takes the word out of the file and dies, so a further word is for its successor. Words that begin with `@` tell
 * orders apart. What is passed while the file exists is listed in `file.passed`, with a line `died` at each death; the
 * points of the deaths are in `file.hit`.
 */
import { appendFileSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const log = process.env.HOLDFAST_FAULT_LOG;
const [target = '', nth = '1'] = (process.env.HOLDFAST_FAULT ?? '').split('#');
const armedFile = process.env.HOLDFAST_FAULT_ARMED;
const directory = process.env.HOLDFAST_FAULT_DIR;
let file = process.env.HOLDFAST_FAULT_FILE ?? '';
let passed = 0;
let order = '';
const passedInOrder = new Map<string, number>();

/**
 * Kills this process if a test has chosen this point; does nothing otherwise. `detail` is part of the name: which
 * record, command or request it is.
 */
export const faultPoint: (name: string, detail?: string) => void =
  log || target || file || directory ? pass : () => undefined;

/** This process's fault file is the one of this name in HOLDFAST_FAULT_DIR, if that is set. */
export function useFaultFile(name: string): void {
  if (directory) file = join(directory, name);
}

function pass(name: string, detail?: string): void {
  const point = detail === undefined ? name : `${name}.${detail}`;
  if (file) passInFile(point);
  if (armedFile && !existsSync(armedFile)) return;
  if (log) appendFileSync(log, `${point}\n`);
  if (point !== target) return;
  passed++;
  if (passed >= Number(nth)) die();
}

function passInFile(point: string): void {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return;
  }
  if (text !== order) passedInOrder.clear();
  order = text;
  const times = (passedInOrder.get(point) ?? 0) + 1;
  passedInOrder.set(point, times);
  appendFileSync(`${file}.passed`, `${point}\n`);
  const [first, ...rest] = text.split(' ');
  if (first !== `${point}#${times}`) return;
  appendFileSync(`${file}.hit`, `${first}\n`);
  appendFileSync(`${file}.passed`, 'died\n');
  writeFileSync(`${file}.new`, rest.join(' '));
  renameSync(`${file}.new`, file);
  die();
}

function die(): never {
  process.kill(process.pid, 'SIGKILL');
  // The signal may arrive a moment later; nothing after this line may run.
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000);
}
