/**
 * Names on users' networks: aardvark-dns, a process of its own that needs no daemon. It answers on each bridge's own
 * address from the files in its
 * directory, one a network, and asks the host's servers for the rest.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { faultPoint } from '../../sys/fault.ts';
import type { Setup } from './driver.ts';
import { isPredefined, type Network } from '../../model/network.ts';

/** Where distributions put it. */
const PROGRAMS = ['/usr/lib/podman/aardvark-dns', '/usr/libexec/podman/aardvark-dns'];
const PORT = 53;
const PID_FILE = 'aardvark.pid';
const START_MS = 5_000;
const WATCH_MS = 1_000;

/** Whether names are resolved on this network. */
export const hasNames = (network: Pick<Network, 'name' | 'driver'>): boolean =>
  network.driver === 'bridge' && !isPredefined(network.name);

/** The servers' addresses on a network, in the order in which a container should ask them. */
export const resolversOf = ({ ipv4, ipv6 }: Pick<Network, 'ipv4' | 'ipv6'>): string[] =>
  [ipv4, ipv6].flatMap((space) => (space ? [space.gateway] : []));

/** On an internal network a name must not be a way out either: elsewhere is asked at this address, one of the daemon's
 * own, where the port proxy
 *  refuses at once. That goes by the address that asks: a container that is on others too asks from its address
 * there, and nobody gets out by that of a neighbour. No server on 0.0.0.0:53 answers there instead: beside one
 * aardvark-dns cannot listen. */
export function refuserOf(bridge: string): string {
  const [a = 0, b = 0, c = 0] = createHash('sha256').update(bridge).digest();
  return `127.${64 + (a % 128)}.${b}.${1 + (c % 254)}`;
}

/**
 * The files: name → content. The first line is where to listen; each other one a container: its id, addresses, names,
 * servers of its own.
 * A container that has lines in several files may ask for the names of all of them.
 */
export function nameTables(
  networks: readonly Network[],
  setups: readonly Setup[],
  refuser: string,
): Map<string, string> {
  const tables = new Map<string, string>();
  for (const network of networks.filter(hasNames)) {
    const lines = setups.flatMap(({ container, endpoints, dnsServers: own }) =>
      endpoints
        .filter(
          (endpoint) =>
            endpoint.networkId === network.id && endpoint.changing === undefined && endpoint.names.length > 0,
        )
        .map(({ address, address6, names }) => {
          const servers = network.internal ? [refuser] : own;
          return [
            container,
            address,
            address6,
            names.join(','),
            ...(servers.length > 0 ? [servers.join(',')] : []),
          ].join(' ');
        }),
    );
    if (lines.length > 0) tables.set(network.id, `${[resolversOf(network).join(','), ...lines].join('\n')}\n`);
  }
  return tables;
}

export interface NameServiceOptions {
  /** Its own; nothing else may lie in it. */
  directory: string;
  log: { warn(message: string): void };
  /** Another one in tests. */
  program?: string;
}

export class NameService {
  readonly #program: string | undefined;
  #written = new Map<string, string>();
  #timer: NodeJS.Timeout | undefined;
  #queue: Promise<void> = Promise.resolve();
  #warned = false;

  constructor(private readonly options: NameServiceOptions) {
    this.#program = options.program ?? PROGRAMS.find((path) => existsSync(path));
  }

  /** Whether names can be resolved at all on this host. */
  get available(): boolean {
    return this.#program !== undefined;
  }

  /** Takes up what the daemon before left, and looks from now on whether the server lives. */
  start(tables: Map<string, string>): Promise<void> {
    this.#written = this.#found();
    this.#timer = setInterval(() => void this.#revive(), WATCH_MS).unref();
    return this.publish(tables);
  }

  /**
   * Makes exactly these names known. When it returns the server has been told. Never rejects: a container without names
   * is better than none.
   */
  publish(tables: Map<string, string>): Promise<void> {
    this.#queue = this.#queue
      .then(() => this.#publish(tables))
      .catch((error: Error) => this.options.log.warn(`names: ${error.message}`));
    return this.#queue;
  }

  /** Ends the looking after; the server goes on. */
  close(): void {
    clearInterval(this.#timer);
  }

  async #publish(tables: Map<string, string>): Promise<void> {
    const { directory } = this.options;
    if (tables.size === 0 && this.#written.size === 0) return;
    if (!this.available) {
      if (!this.#warned) this.options.log.warn('aardvark-dns is not installed: containers find no others by name');
      this.#warned = true;
      return;
    }
    let changed = false;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    for (const [name, text] of tables) {
      if (this.#written.get(name) === text) continue;
      // Written beside: whatever lies in the directory is read as a table.
      const draft = `${directory}.new`;
      writeFileSync(draft, text, { mode: 0o600 });
      renameSync(draft, join(directory, name));
      this.#written.set(name, text);
      faultPoint('names.written');
      changed = true;
    }
    for (const name of [...this.#written.keys()].filter((known) => !tables.has(known))) {
      rmSync(join(directory, name), { force: true });
      this.#written.delete(name);
      changed = true;
    }
    if (changed || (tables.size > 0 && this.#pid() === undefined)) await this.#tell();
  }

  // With nothing left to serve it ends by itself.
  async #tell(): Promise<void> {
    const pid = this.#pid();
    if (pid !== undefined) process.kill(pid, 'SIGHUP');
    else if (this.#written.size > 0) await this.#spawn();
  }

  async #revive(): Promise<void> {
    if (this.#written.size === 0 || !this.available || this.#pid() !== undefined) return;
    this.#queue = this.#queue
      .then(async () => {
        if (this.#written.size === 0 || this.#pid() !== undefined) return;
        this.options.log.warn('aardvark-dns has ended: starting it again');
        await this.#spawn();
      })
      .catch((error: Error) => this.options.log.warn(`names: ${error.message}`));
    await this.#queue;
  }

  // It goes into the background by itself once it listens.
  #spawn(): Promise<void> {
    rmSync(join(this.options.directory, PID_FILE), { force: true });
    return new Promise((resolve, reject) => {
      const child = spawn(this.#program!, ['--config', this.options.directory, '-p', String(PORT), 'run'], {
        detached: true,
        cwd: '/',
        env: {},
        stdio: 'ignore',
        timeout: START_MS,
      });
      child.once('error', reject);
      child.once('exit', (code, signal) =>
        code === 0 ? resolve() : reject(new Error(`aardvark-dns ended with ${signal ?? code}`)),
      );
    });
  }

  /** Of the server of this directory, if it lives. */
  #pid(): number | undefined {
    try {
      const pid = Number(readFileSync(join(this.options.directory, PID_FILE), 'latin1'));
      return pid > 0 && readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0').includes(this.options.directory)
        ? pid
        : undefined;
    } catch {
      return undefined;
    }
  }

  #found(): Map<string, string> {
    const { directory } = this.options;
    if (!existsSync(directory)) return new Map();
    return new Map(
      readdirSync(directory)
        .filter((name) => name !== PID_FILE)
        .map((name) => [name, readFileSync(join(directory, name), 'utf8')]),
    );
  }
}
