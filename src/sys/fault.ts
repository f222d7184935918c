/**
 * Fault points: places where a test kills this process, to check what the next start makes of the state left behind.
 * They are in the wrappers around all calls that change state outside the process, so that no call can do without.
 *
 * HOLDFAST_FAULT=name, or name#n, kills the process when it passes that point (for the n-th time).
 * HOLDFAST_FAULT_LOG=file lists all points that are passed. With HOLDFAST_FAULT_ARMED=file, points do not count until
 * that file exists: the start of a daemon passes points too.
 */
import { appendFileSync, existsSync } from 'node:fs';

const log = process.env.HOLDFAST_FAULT_LOG;
const [target = '', nth = '1'] = (process.env.HOLDFAST_FAULT ?? '').split('#');
const armedFile = process.env.HOLDFAST_FAULT_ARMED;
let passed = 0;

/** Kills this process if a test has chosen this point; does nothing otherwise. */
export const faultPoint: (name: string) => void = log || target ? pass : () => undefined;

function pass(name: string): void {
  if (armedFile && !existsSync(armedFile)) return;
  if (log) appendFileSync(log, `${name}\n`);
  if (name !== target) return;
  passed++;
  if (passed < Number(nth)) return;
  process.kill(process.pid, 'SIGKILL');
  // The signal may arrive a moment later; nothing after this line may run.
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000);
}
