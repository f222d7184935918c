/** The DNS servers of the host, from its resolv.conf, which may change at any time. */
import { readFileSync, statSync } from 'node:fs';
import { parseResolvConf, PUBLIC_SERVERS } from '../resolv-conf.ts';

/** As in glibc and dockerd. */
export const MAX_SERVERS = 3;
/** How long an answer of this object may be old. */
const FRESH_MS = 1_000;

export class HostServers {
  #servers: readonly string[] = PUBLIC_SERVERS;
  #version = '';
  #checkedAtMs = -Infinity;

  constructor(private readonly path: string) {}

  get(): readonly string[] {
    const now = performance.now();
    if (now - this.#checkedAtMs >= FRESH_MS) {
      this.#checkedAtMs = now;
      this.#refresh();
    }
    return this.#servers;
  }

  #refresh(): void {
    try {
      const { ino, mtimeMs, size } = statSync(this.path);
      const version = `${ino} ${mtimeMs} ${size}`;
      if (version === this.#version) return;
      const { servers } = parseResolvConf(readFileSync(this.path, 'utf8'));
      this.#servers = servers.length > 0 ? servers.slice(0, MAX_SERVERS) : PUBLIC_SERVERS;
      this.#version = version;
    } catch {
      // While another program replaces the file, the last servers are kept.
    }
  }
}
