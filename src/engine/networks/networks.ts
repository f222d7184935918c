/** Networks and what containers are attached to. */
import type { BoundPort, Container, Endpoint } from '../containers/container.ts';
import type { EndpointRequest } from '../containers/config.ts';
import type { Network } from './network.ts';

/** What a running container has: its endpoints with addresses, and its published ports. */
export interface Attachment {
  endpoints: Record<string, Endpoint>;
  ports: BoundPort[];
  /** Path of its pinned network namespace; '' when it has none of its own. */
  netns: string;
}

export class Networks {
  /** Makes the default network's row, re-adds rules that a reload wiped, finishes or undoes half-done attachments. */
  async start(): Promise<void> { throw new Error('unwritten'); }
  list(): Network[] { throw new Error('unwritten'); }
  /** By id, name or id prefix. @throws NotFound `network X not found` */
  resolve(_reference: string): Network { throw new Error('unwritten'); }
  /** Endpoints of a container at create, without addresses. @throws InvalidParameter, NotFound */
  plan(_mode: string, _requests: Record<string, EndpointRequest | null>, _container: { id: string; name: string; hostname: string }): Record<string, Endpoint> { throw new Error('unwritten'); }
  /** Makes the container's netns (pinned at paths.netns(id)), gives it addresses and ports. Intent first; repeatable after a crash.
   *  @throws SystemFault `driver failed programming external connectivity …` when a port is taken */
  attach(_container: Container): Promise<Attachment> { throw new Error('unwritten'); }
  /** Undoes attach; called only for a container whose run is final. Repeatable. */
  detach(_container: Container): Promise<void> { throw new Error('unwritten'); }
  /** Writes hosts, resolv.conf and hostname into the container's directory. */
  writeFiles(_container: Container, _attachment: Attachment): void { throw new Error('unwritten'); }
}
