/**
 * Fault points: places where a test kills this process, to see what the next start makes of what it finds.
 * They stand in the wrappers that everything world-changing goes through, so that none can be forgotten.
 *
 * HOLDFAST_FAULT=name or name#n kills at the (n-th) passing of that point; HOLDFAST_FAULT_LOG=file lists all that are
 * passed.
 * With HOLDFAST_FAULT_ARMED=file neither counts while there is no such file: a daemon's start passes points too.
 */
import { appendFileSync, existsSync } from 'node:fs';

const log = process.env.HOLDFAST_FAULT_LOG;
const [victim = '', nth = '1'] = (process.env.HOLDFAST_FAULT ?? '').split('#');
const arm = process.env.HOLDFAST_FAULT_ARMED;
let passed = 0;

/** Passes by unless a test wants this process dead here. */
export const faultPoint: (name: string) => void = log || victim ? pass : () => undefined;

function pass(name: string): void {
  if (arm && !existsSync(arm)) return;
  if (log) appendFileSync(log, `${name}\n`);
  if (name !== victim || ++passed < Number(nth)) return;
  process.kill(process.pid, 'SIGKILL');
  // The signal is delivered before the next system call returns; nothing after this line may run.
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000);
}
