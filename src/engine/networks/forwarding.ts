/**
 * IP forwarding of the host. Bridges need it, but a host that forwards nothing must not become a router between its
 * other networks by our switching it on: where we did, the driver drops what is not from or to bridges. As dockerd,
 * which sets the policy of FORWARD to DROP then.
 */
import { existsSync, mkdirSync, readFileSync, readlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { bootId } from '../../sys/process.ts';
import { replaceFile } from '../../sys/replace-file.ts';
import type { Family } from '../../sys/nft-messages.ts';
import { dropForwarded } from './iptables.ts';
import { isOff, writeSysctl } from './sysctl.ts';

const SETTINGS: Record<Family, string> = { ip: 'ipv4/ip_forward', ip6: 'ipv6/conf/all/forwarding' };

/** The links from and to which alone a family is forwarded; absent where every other link may be too. */
export type OnlyLinks = Partial<Record<Family, string[]>>;

export interface ForwardingDeps {
  /** Path of the record: the next daemon finds forwarding on, and must know by whom. */
  record: string;
  log: { info(message: string): void };
}

export class Forwarding {
  /** The families that this daemon, or one before it on the same roots, has switched on or is about to. */
  readonly #switched: Set<Family>;

  constructor(private readonly deps: ForwardingDeps) {
    this.#switched = new Set(this.#read());
  }

  /** Records that enable() is going to switch a family on, if it is off. */
  claim(family: Family): void {
    if (this.#switched.has(family) || !isOff(SETTINGS[family])) return;
    this.#switched.add(family);
    mkdirSync(dirname(this.deps.record), { recursive: true });
    replaceFile(this.deps.record, JSON.stringify({ where: here(), families: [...this.#switched] }));
  }

  enable(family: Family): void {
    const setting = SETTINGS[family];
    if (!isOff(setting)) return;
    writeSysctl(setting, '1');
    this.deps.log.info(`turned on net/${setting}`);
  }

  /**
   * Where we switched forwarding on, drops what is not from or to bridges: by iptables' policy.
   * @param bridges those of every daemon of ours
   * @returns what is left for our own rules, where iptables is not installed: the links to forward for, by family
   */
  async dropOthers(bridges: () => string[]): Promise<OnlyLinks> {
    const only: OnlyLinks = {};
    for (const family of this.#switched) if (!(await dropForwarded(family))) only[family] = bridges();
    return only;
  }

  #read(): Family[] {
    try {
      if (!existsSync(this.deps.record)) return [];
      const { where, families } = JSON.parse(readFileSync(this.deps.record, 'utf8')) as {
        where: string;
        families: Family[];
      };
      return where === here() ? families : [];
    } catch {
      return [];
    }
  }
}

/** This boot and network namespace, which the kernel's settings belong to. */
const here = (): string => `${bootId()} ${readlinkSync('/proc/self/ns/net')}`;
