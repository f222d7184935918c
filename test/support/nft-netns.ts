/** A network namespace whose nf_tables a test changes by nft(8) and by our own functions. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Bridge } from '../../src/engine/networks/driver.ts';
import type { Netlink } from '../../src/sys/netlink.ts';
import { createNetns, inNetns, removeNetns } from '../../src/sys/netns.ts';
import { openNftables } from '../../src/sys/nftables.ts';

export class NftNetns {
  readonly #root = mkdtempSync(join(tmpdir(), 'hf-nft-'));
  readonly path = join(this.#root, 'netns');
  readonly socket: Netlink;

  constructor() {
    createNetns(this.path);
    this.socket = this.within(openNftables);
  }

  /** Runs synchronous work in the namespace. */
  within = <T>(work: () => T): T => inNetns(this.path, work);

  nft = (...args: string[]): string =>
    execFileSync('nsenter', [`--net=${this.path}`, 'nft', ...args], { encoding: 'utf8', stdio: 'pipe' });

  /** Runs a script of nft's. */
  load = (script: string): string =>
    execFileSync('nsenter', [`--net=${this.path}`, 'nft', '-f', '-'], {
      encoding: 'utf8',
      input: script,
      stdio: 'pipe',
    });

  remove(): void {
    this.socket.close();
    removeNetns(this.path);
    rmSync(this.#root, { recursive: true });
  }
}

export const bridge = (link: string, changes: Partial<Bridge> = {}): Bridge => ({
  link,
  addresses: ['10.1.0.1/16', 'fd00::1/64'],
  mtu: 1500,
  internal: false,
  icc: true,
  masquerade: true,
  dns: false,
  ...changes,
});

/** So many bridges, every other one internal. */
export const bridges = (count: number): Bridge[] =>
  Array.from({ length: count }, (_, i) =>
    bridge(`br-${i}`, { addresses: [`10.${i >> 8}.${i & 255}.1/24`], dns: true, internal: i % 2 === 1 }),
  );
