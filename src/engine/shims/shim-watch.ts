/** Watches one shim through its bell (protocol/bell-format.ts), so that no connection is needed while it is quiet. */
import type { BellState } from '../../protocol/bell-format.ts';
import { bellOf, type Bell, type Bells } from './bells.ts';

export interface ShimWatchEvents {
  /** The journal has grown. */
  onRing(): void;
  /** The shim is dead. */
  onDeath(): void;
}

export class ShimWatch {
  #bell: Bell | undefined;
  #mayBeDead = false;

  /** `run`: the shim's run directory. */
  constructor(
    private readonly run: string,
    private readonly bells: Bells,
    private readonly events: ShimWatchEvents,
  ) {}

  get isActive(): boolean {
    return this.#bell !== undefined;
  }

  /** The kernel has closed the bell: the shim is dead, or about to be. */
  get mayBeDead(): boolean {
    return this.#mayBeDead;
  }

  /** Returns false where the shim has no bell, or it cannot be watched. The death of one that answers later is seen. */
  start(): boolean {
    this.stop();
    this.#bell = this.bells.hear(this.run, {
      onRing: () => this.events.onRing(),
      onCheck: () => this.#check(),
      onClose: () => {
        this.#mayBeDead = true;
        this.#check();
      },
    });
    return this.isActive;
  }

  stop(): void {
    if (this.#bell) this.bells.mute(this.#bell);
    this.#bell = undefined;
    this.#mayBeDead = false;
  }

  /** What a living shim's bell says. */
  state = (): BellState | undefined => bellOf(this.run);

  #check(): void {
    if (!this.state()) this.events.onDeath();
  }
}
