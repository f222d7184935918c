/**
 * The bell: a file in the run directory that the shim keeps open for writing and writes to after each append to the
 * journal. A daemon without a connection watches it: a write means that the journal has grown, and the kernel's close
 * that the shim is dead.
 */
export interface BellState {
  /** The shim's process. */
  pid: number;
  startTime: string;
  /** The journal's last sequence number. */
  seq: number;
}

// Written over itself: the text never gets shorter, because `seq` only grows.
export const encodeBell = (state: BellState): string => `${JSON.stringify(state)}\n`;

/** undefined while it is being written. */
export function decodeBell(text: string): BellState | undefined {
  try {
    return JSON.parse(text) as BellState;
  } catch {
    return undefined;
  }
}
