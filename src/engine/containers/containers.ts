/** Containers: everything a client may ask of them. */
import type { AttachOptions, WaitCondition } from '../../protocol/messages.ts';
import type { Duplex } from 'node:stream';
import type { Client } from '../client.ts';
import type { Container } from './container.ts';
import type { CreateRequest, HostConfig } from './config.ts';

export interface ListQuery {
  all: boolean;
  /** 0 or less = no limit. */
  limit: number;
  /** As decoded from the client: key → values. */
  filters: Map<string, string[]>;
}

export interface ExecConfig {
  AttachStdin: boolean;
  AttachStdout: boolean;
  AttachStderr: boolean;
  DetachKeys: string;
  Tty: boolean;
  Env: string[];
  Cmd: string[];
  Privileged: boolean;
  User: string;
  WorkingDir: string;
  ConsoleSize: [number, number];
}

/** An exec as inspect shows it. */
export interface Exec {
  id: string;
  containerId: string;
  config: ExecConfig;
  running: boolean;
  /** null until it ended. */
  exitCode: number | null;
  pid: number;
  started: boolean;
}

export class Containers {
  create(_name: string | undefined, _request: CreateRequest, _platform?: string): Promise<{ id: string; warnings: string[] }> { throw new Error('unwritten'); }
  /** Full id, exact name (with or without slash), unique id prefix; waits for its restoration. @throws NotFound, InvalidParameter */
  resolve(_reference: string): Promise<Container> { throw new Error('unwritten'); }
  /** Newest first; applies all filters. @throws InvalidParameter for unknown keys and bad values */
  list(_query: ListQuery): Promise<Container[]> { throw new Error('unwritten'); }
  start(_reference: string): Promise<void> { throw new Error('unwritten'); }
  stop(_reference: string, _options: { timeout?: number; signal?: string }): Promise<void> { throw new Error('unwritten'); }
  restart(_reference: string, _options: { timeout?: number; signal?: string }): Promise<void> { throw new Error('unwritten'); }
  kill(_reference: string, _signal: string): Promise<void> { throw new Error('unwritten'); }
  pause(_reference: string): Promise<void> { throw new Error('unwritten'); }
  unpause(_reference: string): Promise<void> { throw new Error('unwritten'); }
  rename(_reference: string, _name: string): Promise<void> { throw new Error('unwritten'); }
  resize(_reference: string, _height: number, _width: number): Promise<void> { throw new Error('unwritten'); }
  update(_reference: string, _changes: Partial<HostConfig>): Promise<string[]> { throw new Error('unwritten'); }
  remove(_reference: string, _options: { force: boolean; volumes: boolean; link: boolean }): Promise<void> { throw new Error('unwritten'); }
  prune(_filters: Map<string, string[]>): Promise<{ deleted: string[]; reclaimed: number }> { throw new Error('unwritten'); }
  attach(_reference: string, _options: AttachOptions, _client: Client): Promise<void> { throw new Error('unwritten'); }
  /** For a WebSocket: the daemon relays. */
  attachRelay(_reference: string, _options: AttachOptions): Promise<Duplex> { throw new Error('unwritten'); }
  /** Writes the head at once when the answer will come later; the answer is `{"StatusCode":n}` and a newline. */
  wait(_reference: string, _condition: WaitCondition, _client: Client): Promise<void> { throw new Error('unwritten'); }

  createExec(_reference: string, _config: ExecConfig): Promise<string> { throw new Error('unwritten'); }
  startExec(_id: string, _options: { detach: boolean; tty: boolean; consoleSize: [number, number]; framed: boolean }, _client?: Client): Promise<void> { throw new Error('unwritten'); }
  resizeExec(_id: string, _height: number, _width: number): Promise<void> { throw new Error('unwritten'); }
  inspectExec(_id: string): Promise<Exec> { throw new Error('unwritten'); }
  execsOf(_containerId: string): string[] { throw new Error('unwritten'); }
}
