/** Start, stop and the rest: the daemon prepares and asks; the shim acts. */
import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ociJson } from '../../protocol/oci-json.ts';
import { SPEC_FILE } from '../../protocol/paths.ts';
import { faultPoint } from '../../sys/fault.ts';
import { SIGKILL } from '../../sys/process.ts';
import { replaceFileAside } from '../../sys/replace-file.ts';
import { Conflict, EngineError, InvalidParameter, NotModified, SystemFault, Unavailable } from '../../model/errors.ts';
import { Silent, StartFailed, type ShimLink } from '../shims/link.ts';
import { containerEvent } from '../events/container-event.ts';
import { createBindSources } from '../spec/mounts.ts';
import { joinedContainer } from '../spec/namespaces.ts';
import { mountShareableShm, unmountShareableShm } from '../spec/shm.ts';
import { ociSpec } from '../spec/spec.ts';
import { parseSignal } from '../spec/signals.ts';
import type { Container } from '../../model/container.ts';
import { namespaceDonors } from './joined-containers.ts';
import { linked, type Linked } from './links.ts';
import { allow, isRunning } from './moves.ts';
import type { Parts } from './parts.ts';
import { shimSpec } from './shim-spec.ts';
import type { Supervisor } from './handle/handle.ts';
import { mountVolumes, unmountVolumes } from './volume-mounts.ts';
import { waitAnswer } from './handle/parked-waits.ts';

/**
 * What the runtime says when the failure is the user's (docker exits with 126 or 127): a 400 (moby daemon/errors.go,
 * setExitCodeFromError).
 */
const isUsersFault = (code: number): boolean => code === 126 || code === 127;

export class Lifecycle {
  constructor(
    private readonly parts: Parts,
    private readonly peer: (reference: string) => Promise<Supervisor>,
    private readonly remove: (s: Supervisor) => Promise<void>,
  ) {}

  /** @throws NotModified, Conflict; InvalidParameter (126, 127) or SystemFault (128) with the runtime's words */
  start(s: Supervisor, consoleSize?: [number, number]): Promise<void> {
    return s.serial.run(async () => {
      allow('start', s.container);
      try {
        await this.#start(s, consoleSize);
      } catch (error) {
        if (s.container.hostConfig.AutoRemove) await this.remove(s);
        throw error;
      }
    });
  }

  /** Stops it with its signal, and with SIGKILL after `timeout` seconds (default: its own). @throws NotModified */
  async stop(s: Supervisor, options: { timeout?: number; signal?: string }): Promise<void> {
    allow('stop', s.container);
    const { signal, timeout } = asServer(`cannot stop container: ${s.container.name}: `, () =>
      ending(s.container, options),
    );
    const operation = randomUUID();
    try {
      await s.ask((link) => link.request({ op: 'stop', operation, signal, timeout }));
    } catch (error) {
      await s.pull().catch(() => undefined);
      if (isRunning(s.container))
        throw new SystemFault(`cannot stop container: ${s.container.id}: ${(error as Error).message}`, {
          cause: error,
        });
    }
    await s.pull();
    await this.settled(s);
  }

  async restart(s: Supervisor, options: { timeout?: number; signal?: string }): Promise<void> {
    if (!isRunning(s.container)) {
      await this.start(s).catch((error: unknown) => {
        if (!(error instanceof NotModified))
          throw new SystemFault(`Cannot restart container ${s.container.name}: ${(error as Error).message}`, {
            cause: error,
          });
      });
      this.parts.events.record(containerEvent(s.container, 'restart'));
      return;
    }
    const { signal, timeout } = asServer(`Cannot restart container ${s.container.name}: `, () =>
      ending(s.container, options),
    );
    const operation = randomUUID();
    try {
      await s.ask((link) => link.request({ op: 'restart', operation, signal, timeout }));
    } catch (error) {
      throw new SystemFault(`Cannot restart container ${s.container.name}: ${(error as Error).message}`, {
        cause: error,
      });
    } finally {
      await s.pull().catch(() => undefined);
    }
  }

  /** @throws InvalidParameter for a bad signal, Conflict when it does not run */
  async kill(s: Supervisor, signalName: string): Promise<void> {
    const c = s.container;
    const signal = signalName === '' ? SIGKILL : parseSignal(signalName);
    try {
      allow('kill', c);
    } catch (error) {
      throw new Conflict(`cannot kill container: ${c.name}: ${(error as Error).message}`);
    }
    // moby daemon/kill.go: with a stop signal of its own, only that one and SIGKILL mean that the user stops it.
    const asUser = signal === SIGKILL || !c.config.StopSignal || parseSignal(c.config.StopSignal) === signal;
    const { gen } = c.state;
    try {
      await s.insist((link) => link.request({ op: 'signal', operation: randomUUID(), signal, asUser }));
    } catch (error) {
      if (error instanceof Conflict) throw new Conflict(`cannot kill container: ${c.name}: ${error.message}`);
      throw error;
    }
    if (signal === SIGKILL) {
      // One that somebody is just restarting comes again.
      await s.until((state) => state.final || state.gen !== gen);
      await this.settled(s);
    } else {
      await s.pull();
    }
  }

  async pause(s: Supervisor): Promise<void> {
    allow('pause', s.container);
    await (await s.reach()).request({ op: 'pause', operation: randomUUID() });
    await s.pull();
  }

  async unpause(s: Supervisor): Promise<void> {
    allow('unpause', s.container);
    await (await s.reach()).request({ op: 'resume', operation: randomUUID() });
    await s.pull();
  }

  async resize(s: Supervisor, height: number, width: number): Promise<void> {
    allow('resize', s.container);
    await (await s.reach()).request({ op: 'resize', height, width });
  }

  /** Gives back what a dead container held: addresses, ports, netns, rootfs mount. Only on `final`. Repeatable. */
  async tearDown(s: Supervisor): Promise<void> {
    const c = s.container;
    if (!c.state.final) return;
    await this.parts.networks.detach(c);
    this.parts.snapshots.unmount(c.id);
    await unmountVolumes(this.parts, c);
    unmountShareableShm(c.id, this.parts.paths);
    c.netns = '';
    c.ports = [];
    for (const endpoint of Object.values(c.endpoints)) {
      Object.assign(endpoint, {
        endpointId: '',
        gateway: '',
        ipAddress: '',
        ipPrefixLen: 0,
        ipv6Gateway: '',
        globalIPv6Address: '',
        globalIPv6PrefixLen: 0,
        macAddress: '',
      });
    }
    this.parts.rows.setNetwork(c);
  }

  /** Waits until what `final` set off (teardown) is done, so that a client's next request finds it so. */
  async settled(s: Supervisor): Promise<void> {
    if (s.container.state.final) await s.serial.run(() => Promise.resolve());
  }

  async #start(s: Supervisor, consoleSize?: [number, number]): Promise<void> {
    const c = s.container;
    const { parts } = this;
    const operation = randomUUID();
    // Shim and network come up side by side; each is undone by itself if the other fails.
    const reached = s.reach();
    reached.catch(() => undefined);
    let created = false;
    let link: ShimLink | undefined;
    try {
      const netns = await this.#network(c);
      // By what was recorded when it was made: its image may be gone by now.
      parts.snapshots.mount(c.id);
      await mountVolumes(parts, c);
      faultPoint('start.volumes');
      await this.#writeBundle(c, netns, consoleSize);
      link = await reached;
      // An unused shim does not wait for ever; this one may have gone while the network took its time.
      if (link.closed) link = await s.reach();
      for (const { client, condition } of s.waits.take()) {
        await link
          .handOver<'wait'>({ op: 'wait', condition }, client)
          .catch(() => client.answer(waitAnswer(125, 'the shim did not take this wait')));
      }
      faultPoint('start.prepared');
      try {
        await link.request({ op: 'create', operation });
      } catch (error) {
        // It was on its way out and had not begun: nothing of it is in the journal.
        if (!(error instanceof Unavailable) || error instanceof Silent || !s.container.state.final) throw error;
        link = await s.reach();
        await link.request({ op: 'create', operation });
      }
      created = true;
      faultPoint('start.created');
      await link.request({ op: 'start', operation });
      await s.pull();
    } catch (error) {
      // A shim that is still on its way must not arrive after what it is for was taken away.
      await reached.catch(() => undefined);
      if (created && link && !(error instanceof StartFailed)) {
        await link
          .request({ op: 'abandon', operation, error: (error as Error).message, code: 128 })
          .catch(() => undefined);
      }
      await s.pull().catch(() => undefined);
      await this.#undo(s, error as Error);
      throw toClient(error as Error);
    }
  }

  async #network(c: Container): Promise<string> {
    const [kind, other] = splitMode(c.hostConfig.NetworkMode);
    if (kind === 'container') {
      const peer = (await this.peer(other)).container;
      if (!isRunning(peer)) throw new Conflict(`cannot join network of a non running container: ${peer.id}`);
      return peer.netns || `/proc/${peer.state.pid}/ns/net`;
    }
    const attachment = await this.parts.networks.attach(c);
    c.endpoints = attachment.endpoints;
    c.ports = attachment.ports;
    c.netns = attachment.netns;
    this.parts.rows.setNetwork(c);
    const { hosts } = await this.#linked(c);
    this.parts.networks.writeFiles(
      hosts.length > 0
        ? { ...c, hostConfig: { ...c.hostConfig, ExtraHosts: [...(c.hostConfig.ExtraHosts ?? []), ...hosts] } }
        : c,
      attachment,
    );
    return attachment.netns;
  }

  async #writeBundle(c: Container, netns: string, consoleSize?: [number, number]): Promise<void> {
    const { parts } = this;
    const run = parts.paths.run(c.id);
    mkdirSync(run, { recursive: true, mode: 0o700 });
    const donors = await namespaceDonors(c, this.peer);
    const pids = new Map(donors.map(({ id, state }) => [id, state.pid]));
    if (netns.startsWith('/proc/')) donors.push((await this.peer(joinedContainer(c.hostConfig.NetworkMode))).container);
    createBindSources(c);
    faultPoint('start.bind-sources');
    mountShareableShm(c.hostConfig, c.id, parts.paths);
    const { env } = await this.#linked(c);
    const spec = ociSpec({
      container: c,
      config: parts.config,
      paths: parts.paths,
      netns,
      linkEnv: env,
      pidOf: (id) => pids.get(id) ?? 0,
    });
    writeFileSync(join(run, 'config.json'), ociJson(spec), { mode: 0o600 });
    // What a shim must find after a power cut is whole or the old one. What is there already need not be brought to
    // disk again.
    const [path, text] = [
      join(parts.paths.container(c.id), SPEC_FILE),
      JSON.stringify(shimSpec(c, parts, { consoleSize, donors })),
    ];
    if (!isThere(path, text)) await replaceFileAside(path, text);
  }

  #linked = (c: Container): Promise<Linked> => linked(c, async (name) => (await this.peer(name)).container);

  async #undo(s: Supervisor, error: Error): Promise<void> {
    const c = s.container;
    // The shim has begun, and its end of it is not known yet: it runs, and only the answer got lost, or its successor
    // undoes it.
    if (!c.state.final) return;
    // A failure before the runtime was asked (network, rootfs) is no record of the shim's: it is kept here, in Docker's
    // terms.
    if (!(error instanceof StartFailed)) c.state = { ...c.state, error: error.message, exitCode: 128 };
    else c.state = { ...c.state, error: error.message, exitCode: error.code };
    c.state = { ...c.state, final: true };
    this.parts.rows.setState(c.id, c.state, c.cursor);
    s.waits.answer(c.state.exitCode);
    await this.tearDown(s);
  }
}

/** `container:abc` → ['container', 'abc']; others → [mode, '']. */
export function splitMode(mode: string): [string, string] {
  const at = mode.indexOf(':');
  return at < 0 ? [mode, ''] : [mode.slice(0, at), mode.slice(at + 1)];
}

function ending(c: Container, options: { timeout?: number; signal?: string }): { signal: number; timeout: number } {
  const DEFAULT_STOP_TIMEOUT = 10;
  return {
    signal: parseSignal(options.signal || c.config.StopSignal || 'SIGTERM'),
    timeout: options.timeout ?? c.config.StopTimeout ?? DEFAULT_STOP_TIMEOUT,
  };
}

// moby daemon/stop.go, restart.go: whatever goes wrong there counts as the server's.
function asServer<T>(prefix: string, step: () => T): T {
  try {
    return step();
  } catch (error) {
    throw new SystemFault(`${prefix}${(error as Error).message}`, { cause: error });
  }
}

function toClient(error: Error): Error {
  if (!(error instanceof StartFailed))
    return error instanceof EngineError ? error : new SystemFault(error.message, { cause: error });
  return isUsersFault(error.code) ? new InvalidParameter(error.message) : new SystemFault(error.message);
}

function isThere(path: string, text: string): boolean {
  try {
    return readFileSync(path, 'utf8') === text;
  } catch {
    return false;
  }
}
