/** The X-Docker-Container-Path-Stat header: base64 of JSON. */
import type { PathStat } from '../../engine/files/container-files.ts';
import { rfc3339 } from '../../engine/time.ts';

export function pathStat({ name, size, mode, mtime, linkTarget }: PathStat): string {
  return Buffer.from(JSON.stringify({ name, size, mode, mtime: rfc3339(mtime), linkTarget })).toString('base64');
}
