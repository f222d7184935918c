/** Bringing a container down: its stop signal, and SIGKILL when the time is up. */
import type { Generation } from './generation.ts';
import type { Journal } from './journal.ts';

const SIGKILL = 9;
/** A dead init takes all with it unless they live in the host's pid namespace: those are killed one by one. */
const STRAGGLERS_AFTER_MS = 2000;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export interface Downfall {
  signal: number;
  /** From now on; -1 = no deadline. */
  remainingMs: number;
  /** The signal was sent before (by a shim that died since). */
  sent: boolean;
  /** A frozen process dies only when it is thawed. */
  thaw: () => Promise<void>;
}

/** Resolves when the init is dead. */
export async function bringDown(generation: Generation, journal: Journal, { signal, remainingMs, sent, thaw }: Downfall): Promise<void> {
  const send = (n: number): void => {
    if (generation.kill(n)) journal.append({ type: 'killed', signal: n });
  };
  if (!sent) send(signal);
  await thaw();
  const timers: NodeJS.Timeout[] = [];
  const force = (): void => {
    send(SIGKILL);
    timers.push(setTimeout(() => generation.killAll(), STRAGGLERS_AFTER_MS));
  };
  if (remainingMs === 0 && signal !== SIGKILL) force();
  else if (remainingMs >= 0) timers.push(setTimeout(force, Math.min(remainingMs, LONGEST_TIMER_MS)));
  await generation.init.death;
  timers.forEach((timer) => clearTimeout(timer));
}
